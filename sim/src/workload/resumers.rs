//! Clients that put several watchers on one stream and begin each at a place where watches have gone wrong: at the
//! boundary of a compaction, just below it, in the future, in the past, or where an earlier stream ended on any member.
//! They ask the stream how far it is, cancel watchers, use an id again, and move on.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_proto::etcdserverpb::WatchCreateRequest;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;

use super::ears::{Ear, Glance};
use crate::client::Client;
use crate::cluster::{Life, bump};
use crate::sometimes::Situation;
use crate::trace::now;
use metastore_judges::watches::{Asked, Stream};

/// Watches until everything is at rest.
pub(crate) async fn resume(mut client: Client) {
    let mut ended = Vec::new();
    while !client.cluster.at_rest.get() {
        client.go_anywhere();
        let Some(life) = client.cluster.life(client.member) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        client.cluster.until_it_goes(&life).await;
        let mut open = Open {
            ear: Ear::open(&client.cluster, &life),
            life,
            asked: Vec::new(),
            progress_asked: Vec::new(),
        };
        let to_the_end = open.listen(&mut client, std::mem::take(&mut ended)).await;
        let behind = open.asked_while_behind();
        let some = &client.cluster.sometimes;
        some.saw_times(Situation::ProgressWhileBehind, behind);
        let stream = Stream {
            client: client.number,
            member: client.member,
            asked: open.asked,
            responses: open.ear.responses,
            notes: open.ear.notes,
            to_the_end,
        };
        ended = stream.left_off();
        client.cluster.streams.borrow_mut().push(stream);
    }
}

/// A stream of one life of a member.
struct Open {
    life: Rc<Life>,
    ear: Ear,
    /// What was asked for, in order.
    asked: Vec<Asked>,
    /// How many responses there were when the stream was asked how far it is, and the member's revision then.
    progress_asked: Vec<(usize, i64)>,
}

impl Open {
    /// Begins where earlier watchers ended, and elsewhere, and listens until the client has had enough. Answers whether
    /// everything was at rest then, and the member still belongs to it.
    async fn listen(&mut self, client: &mut Client, ended: Vec<WatchCreateRequest>) -> bool {
        for create in ended {
            self.create(client, create);
        }
        for _ in 0..client.dice.between(1, 3) {
            let create = self.anywhere(client);
            self.create(client, create);
        }
        let mut to_the_end = false;
        let enough = now() + Duration::from_millis(client.dice.between(200, 8000));
        let slow = client.dice.permille(client.cluster.world.slow_permille);
        while !client.cluster.faulty.get() || now() < enough {
            match self.ear.listen().await {
                Glance::Ended => return false,
                Glance::Silent if client.cluster.at_rest.get() => {
                    to_the_end = client.cluster.takes_part(self.life.id);
                    self.ear.ask_at_rest().await;
                    break;
                }
                Glance::Heard | Glance::Silent => {}
            }
            client.cluster.until_it_goes(&self.life).await;
            self.meddle(client);
            if slow && client.cluster.faulty.get() {
                sleep(Duration::from_millis(client.dice.between(1, 200))).await;
            }
        }
        self.ear.close();
        to_the_end
    }

    /// Now and then asks how far the stream is, cancels a watcher, or creates one more.
    fn meddle(&mut self, client: &mut Client) {
        if !self.life.alive.get() {
            return;
        }
        match client.dice.between(0, 99) {
            0..=9 => {
                let revision = self.life.published.borrow().view.revision();
                let heard = self.ear.responses.len();
                self.progress_asked.push((heard, revision));
                self.ear.request_progress();
            }
            10..=14 if client.cluster.faulty.get() => {
                let created = self.ear.responses.iter().filter(|it| it.created);
                let ids: Vec<i64> = created.map(|created| created.watch_id).collect();
                if !ids.is_empty() {
                    let id = ids[client.dice.place(ids.len())];
                    self.ear.cancel(id);
                }
            }
            15..=19 if self.asked.len() < WATCHERS_MAX => {
                let create = self.anywhere(client);
                self.create(client, create);
            }
            _ => {}
        }
    }

    /// How often the stream was asked how far it is when there was something behind it that it brought only later.
    fn asked_while_behind(&self) -> u64 {
        let behind = self.progress_asked.iter().filter(|(heard, revision)| {
            let later = self.ear.responses.iter().skip(*heard);
            let mut events = later.flat_map(|response| &response.events);
            events.any(|event| {
                event
                    .kv
                    .as_ref()
                    .is_some_and(|kv| kv.mod_revision <= *revision)
            })
        });
        behind.count() as u64
    }

    fn create(&mut self, client: &Client, create: WatchCreateRequest) {
        let compact_revision = self.life.published.borrow().view.compact_revision();
        let revision = self.life.published.borrow().view.revision();
        let start = create.start_revision;
        if start > revision {
            bump(&client.cluster.counts.begun_in_the_future);
        }
        client.cluster.trace.detail(format_args!(
            "client {} watches on m{} from revision {start}, which is at {revision} and compacted at {compact_revision}",
            client.number, self.life.id
        ));
        let revision_at_creation = self.ear.create(&create);
        self.asked.push(Asked {
            create,
            revision_at_creation,
            compact_revision,
        });
    }

    /// A watcher with a start where something may go wrong, and with wishes of all kinds.
    fn anywhere(&self, client: &mut Client) -> WatchCreateRequest {
        let (revision, boundary) = {
            let published = self.life.published.borrow();
            (published.view.revision(), published.view.compact_revision())
        };
        // What came before is settled, and its events are forgotten.
        let oldest = match client.oldest() {
            1 => 1,
            base => base + 1,
        };
        let dice = &mut client.dice;
        let near = i64::try_from(dice.between(1, 20)).unwrap_or(1);
        let start_revision = match dice.place(6) {
            0 => boundary.max(1),
            1 => (boundary - 1).max(1),
            2 => revision + near,
            3 => (revision - near).max(1),
            4 => (boundary + 1).max(1),
            _ => 0,
        };
        let start_revision = match start_revision {
            0 => 0,
            start => start.max(oldest),
        };
        let (key, range_end): (&[u8], &[u8]) = match dice.place(5) {
            0 => (b"k01", b""),
            1 => (b"a/", b"a0"),
            2 => (b"b/", b"k03"),
            3 => (b"", b""),
            _ => (b"\0", b"\0"),
        };
        let filters = match dice.place(4) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            start_revision,
            progress_notify: dice.permille(500),
            filters,
            prev_kv: dice.permille(500),
            fragment: dice.permille(300),
            // One that was chosen may be in use already.
            watch_id: if dice.permille(200) { 3 } else { 0 },
        }
    }
}

/// Watchers that one stream gets.
const WATCHERS_MAX: usize = 12;
