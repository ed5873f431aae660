//! Clients that watch an interval, and resume on any member when theirs is gone or they please.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::ears::{Ear, Glance};
use crate::client::Client;
use crate::cluster::Life;
use crate::noticing;
use crate::sometimes::Situation;
use crate::trace::now;
use metastore_judges::watches::{Stretch, resume_at};

/// Watches until everything is at rest.
pub(crate) async fn watch(mut client: Client) {
    let mut create = interval(&mut client);
    if create.start_revision > 0 && client.oldest() > 1 {
        create.start_revision = client.oldest() + 1;
    }
    while !client.cluster.at_rest.get() {
        client.go_anywhere();
        let Some(life) = client.cluster.life(client.member) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let newest = Arc::clone(&life.published.borrow());
        noticing::watches(&client.cluster, client.number, &life, &newest);
        let began_at = newest.view.revision();
        let stretch = follow(&mut client, &life, &create).await;
        let at = |it: &WatchResponse| {
            it.events
                .last()
                .and_then(|event| event.kv.as_ref())
                .map_or(0, |kv| kv.mod_revision)
        };
        let last = stretch.responses.iter().map(at).max();
        let ended = stretch.responses.last();
        let compacted = ended.map_or(0, |last| last.compact_revision);
        noticing::hears(
            &client.cluster,
            &create,
            began_at,
            (last.unwrap_or(0), compacted),
        );
        create.start_revision = resume_at(&create, &stretch.responses);
        let within = last.is_some_and(|last| create.start_revision <= last);
        let some = &client.cluster.sometimes;
        some.saw_if(within && compacted == 0, Situation::ResumedWithin);
        client.cluster.stretches.borrow_mut().push(stretch);
    }
}

/// Watches on one member, until it is gone, the client has had enough of it, or everything is at rest.
async fn follow(client: &mut Client, life: &Rc<Life>, create: &WatchCreateRequest) -> Stretch {
    let cluster = Rc::clone(&client.cluster);
    let (number, id) = (client.number, life.id);
    cluster.until_it_goes(life).await;
    let mut ear = Ear::open(&cluster, life);
    let shown = ear.create(create);
    cluster.trace.detail(format_args!(
        "client {number} watches on m{id} from revision {}",
        create.start_revision
    ));
    let to_the_end = listen(client, &mut ear, life).await;
    Stretch {
        client: number,
        member: id,
        create: create.clone(),
        revision_at_creation: Some(shown),
        responses: ear.responses,
        notes: ear.notes,
        to_the_end,
    }
}

/// Answers whether everything was at rest in the end, and the member still belongs to it.
async fn listen(client: &mut Client, ear: &mut Ear, life: &Life) -> bool {
    let cluster = Rc::clone(&client.cluster);
    let mut to_the_end = false;
    let enough = now() + Duration::from_millis(client.dice.between(100, 10_000));
    let slow = client.dice.permille(cluster.world.slow_permille);
    loop {
        match ear.listen().await {
            Glance::Ended => return false,
            Glance::Heard if ear.responses.last().is_some_and(|last| last.canceled) => break,
            Glance::Heard => {}
            Glance::Silent if cluster.at_rest.get() => {
                // Others may have been removed without having been told.
                to_the_end = cluster.takes_part(life.id);
                ear.ask_at_rest().await;
                break;
            }
            Glance::Silent => {}
        }
        if cluster.faulty.get() && now() > enough {
            break;
        }
        if slow && cluster.faulty.get() {
            sleep(Duration::from_millis(client.dice.between(1, 300))).await;
        }
        cluster.until_it_goes(life).await;
        if ear.is_served() && client.dice.permille(20) {
            ear.request_progress();
        }
    }
    ear.close();
    to_the_end
}

fn interval(client: &mut Client) -> WatchCreateRequest {
    let dice = &mut client.dice;
    let (key, range_end): (&[u8], &[u8]) = match dice.place(4) {
        0 => (b"k01", b""),
        1 => (b"a/", b"a0"),
        2 => (b"h/", b"k04"),
        _ => (b"\0", b"\0"),
    };
    WatchCreateRequest {
        key: key.to_vec(),
        range_end: range_end.to_vec(),
        start_revision: i64::from(dice.permille(500)),
        progress_notify: dice.permille(500),
        prev_kv: dice.permille(300),
        fragment: dice.permille(300),
        ..WatchCreateRequest::default()
    }
}
