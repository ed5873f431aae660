//! Those who watch: clients that resume on any member, and the chronicler, who writes down the one history.

use std::rc::Rc;
use std::time::Duration;

use metastore_judges::Failure;
use metastore_judges::chronicle::Chronicle;
use metastore_judges::model::KeyChange;
use metastore_judges::watches::{Notes, Stretch, resume_at};
use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use metastore_proto::mvccpb::Event;
use metastore_proto::mvccpb::event::EventType;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::run::Run;
use crate::cluster::watch_stream::{WatchStream, create};

/// Watches until everything is at rest.
pub(crate) async fn watch(mut client: Client) {
    let mut request = interval(&mut client);
    while !client.run.at_rest.get() {
        client.go_anywhere();
        let stretch = follow(&mut client, &request).await;
        request.start_revision = resume_at(&request, &stretch.responses);
        client.run.stretches.borrow_mut().push(stretch);
    }
}

/// Watches on one member, until it is gone, the client has had enough of it, or everything is at rest.
async fn follow(client: &mut Client, request: &WatchCreateRequest) -> Stretch {
    let mut stretch = Stretch {
        client: client.number,
        member: client.place as u64,
        create: request.clone(),
        revision_at_creation: None,
        responses: Vec::new(),
        notes: Notes::default(),
        to_the_end: false,
    };
    let Some(mut connection) = client.connected().await else {
        return stretch;
    };
    stretch.member = client.place as u64;
    let opening = WatchStream::open(&mut connection, create(request.clone()));
    let Ok(Ok(mut stream)) = tokio::time::timeout(GLANCE, opening).await else {
        return stretch;
    };
    let enough = Instant::now() + Duration::from_millis(100 + client.dice.below(10_000));
    let slow = client.dice.percent(20);
    loop {
        match stream.next(Instant::now() + GLANCE).await {
            Err(_) => return stretch,
            Ok(Some(response)) => {
                let ended = response.canceled;
                stretch.responses.push(response);
                if ended {
                    return stretch;
                }
            }
            Ok(None) if client.run.at_rest.get() => {
                stretch.to_the_end = !stretch.responses.is_empty();
                return stretch;
            }
            Ok(None) => {}
        }
        if client.goes_on() && Instant::now() > enough {
            return stretch;
        }
        if slow && client.goes_on() {
            sleep(Duration::from_millis(client.dice.below(300))).await;
        }
    }
}

fn interval(client: &mut Client) -> WatchCreateRequest {
    let intervals: [(&[u8], &[u8]); 4] = [
        (b"k01", b""),
        (b"a/", b"a0"),
        (b"h/", b"k04"),
        (b"\0", b"\0"),
    ];
    let (key, range_end) = *client.dice.pick(&intervals);
    WatchCreateRequest {
        key: key.to_vec(),
        range_end: range_end.to_vec(),
        start_revision: i64::from(client.dice.percent(50)),
        progress_notify: client.dice.percent(50),
        prev_kv: client.dice.percent(30),
        fragment: client.dice.percent(30),
        ..WatchCreateRequest::default()
    }
}

/// Reads all changes of all keys into the chronicle, from whichever member serves them, until everything is at rest.
/// The members must all tell the same.
pub(crate) async fn chronicle(mut client: Client) {
    let run = Rc::clone(&client.run);
    while !run.at_rest.get() && !run.has_failed() {
        let next = run.chronicle.borrow().last() + 1;
        let until = |run: &Run| run.at_rest.get() || run.has_failed();
        if let Err(failure) = read_on(&mut client, next, until).await {
            run.fail(failure);
        }
        client.go_anywhere();
    }
}

/// Reads what one member tells from a revision on, and holds it against the chronicle, which learns what is new. Ends
/// when the member does, or as soon as nothing comes for a while and `until` says so.
pub(crate) async fn read_on(
    client: &mut Client,
    from: i64,
    until: impl Fn(&Run) -> bool,
) -> Result<(), Failure> {
    let run = Rc::clone(&client.run);
    let Some(mut connection) = client.connected().await else {
        return Ok(());
    };
    let request = WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision: from,
        ..WatchCreateRequest::default()
    };
    let opening = WatchStream::open(&mut connection, create(request));
    let Ok(Ok(mut stream)) = tokio::time::timeout(GLANCE, opening).await else {
        return Ok(());
    };
    let mut silent = 0;
    while silent < GLANCES_MAX && !(silent > 0 && until(&run)) {
        match stream.next(Instant::now() + GLANCE).await {
            Ok(Some(response)) => {
                silent = 0;
                learn(&mut run.chronicle.borrow_mut(), &response, run.time())?;
            }
            Ok(None) => silent += 1,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn learn(
    chronicle: &mut Chronicle,
    response: &WatchResponse,
    time: Duration,
) -> Result<(), Failure> {
    if response.canceled {
        let story = format!("the chronicler was cut short: {response:?}");
        return Err(Failure::new("compaction", story));
    }
    let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    for events in response
        .events
        .chunk_by(|one, next| revision_of(one) == revision_of(next))
    {
        let revision = revision_of(&events[0]);
        if revision > chronicle.last() + 1 {
            let story = format!("revision {revision} follows {}", chronicle.last());
            return Err(Failure::new("revisions", story));
        }
        chronicle.learn_revision(revision, events.iter().map(change).collect(), time)?;
    }
    Ok(())
}

fn change(event: &Event) -> KeyChange {
    let kv = event.kv.clone().unwrap_or_default();
    let key = Rc::from(kv.key.as_slice());
    match event.r#type() {
        EventType::Put => (key, Some(Rc::new(kv))),
        EventType::Delete => (key, None),
    }
}

/// How long a stream is listened to before one looks around.
const GLANCE: Duration = Duration::from_millis(1000);
/// Glances at a silent stream: then another member may know more.
const GLANCES_MAX: u32 = 3;
