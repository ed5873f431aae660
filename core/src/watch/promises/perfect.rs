//! A watcher that is served perfectly over a random history, for tests to spoil.

use metastore_proto::etcdserverpb::*;
use metastore_proto::mvccpb::Event;
use proptest::prelude::*;

use super::history::History;
use super::{Broken, Watched, judge};
use crate::check::{self, Limits};
use crate::mvcc::generate::{self, LEASE};
use crate::mvcc::{Changes, Store};
use crate::watch::model::{Due, WatchModel};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    /// How far below the newest revision.
    Compact(i64),
}

/// A world in which one watcher was served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) history: History,
    pub(super) create: WatchCreateRequest,
    created_at: i64,
    pub(super) responses: Vec<WatchResponse>,
}

impl Served {
    pub(super) fn verdict(&self) -> Result<(), Broken> {
        let watched = Watched {
            revision_at_creation: Some(self.created_at),
            complete_to: Some(self.history.revision()),
            ..Watched::of(&self.create, &self.responses)
        };
        judge(&self.history, &watched)
    }
}

pub(super) fn served() -> impl Strategy<Value = Served> {
    let steps = prop::collection::vec(step(), 8..50);
    let cuts = prop::collection::vec(any::<u8>(), 1..12);
    (steps, create(), 0usize..20, cuts)
        .prop_map(|(steps, create, at, cuts)| serve(&steps, create, at, &cuts))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => generate::put().prop_map(Step::Put),
        3 => generate::delete_range().prop_map(Step::Delete),
        6 => generate::txn().prop_map(Step::Txn),
        1 => (0i64..12).prop_map(Step::Compact),
    ]
}

pub(super) fn create() -> impl Strategy<Value = WatchCreateRequest> {
    let all = (Just(vec![0]), Just(vec![0]));
    let range = prop_oneof![3 => all, 1 => (generate::key(), generate::range_end())];
    let range = range.prop_filter("watchable", |(key, end)| {
        end.is_empty() || *end == [0] || end > key
    });
    let filters = prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(0..2, 1)];
    let start = prop_oneof![2 => Just(0i64), 3 => 1i64..20];
    (range, filters, start, any::<[bool; 3]>()).prop_map(|(range, filters, start, flags)| {
        WatchCreateRequest {
            key: range.0,
            range_end: range.1,
            start_revision: start,
            progress_notify: flags[0],
            filters,
            prev_kv: flags[1],
            watch_id: 0,
            fragment: flags[2],
        }
    })
}

/// Runs the steps, creates the watcher before step `at`, and packs what it must receive as `cuts` say.
fn serve(steps: &[Step], create: WatchCreateRequest, at: usize, cuts: &[u8]) -> Served {
    let (mut store, mut history, mut model) = (Store::new(), History::new(), WatchModel::new());
    let granted = store.grant_lease(1, &LeaseGrantRequest { id: LEASE, ttl: 60 });
    granted.expect("a new id");
    let mut handle = None;
    for (index, step) in steps.iter().enumerate() {
        if index == at.min(steps.len() - 1) {
            let created = model.create(1, &create).expect("only watchable ranges");
            handle = Some(created);
        }
        let changes = run(&mut store, step);
        model.apply(changes.as_slice());
        if !changes.is_empty() {
            history.commit_changes(changes.as_slice());
        }
        if store.compact_revision() > model.compact_revision() {
            model.compact(store.compact_revision());
            history.compact(store.compact_revision());
        }
    }
    let created = handle.expect("created before the last step at the latest");
    let mut packer = Packer {
        responses: vec![WatchResponse {
            created: true,
            ..response(created.revision)
        }],
        create: &create,
        cuts: cuts.iter().copied().cycle().take(1000).collect(),
        newest: created.revision,
    };
    match model.compacted(created.handle) {
        Due::Certainly(boundaries) => packer.cancel_compacted(boundaries[0]),
        _ => packer.pack(&model.must_receive(created.handle), &history),
    }
    Served {
        responses: packer.responses,
        history,
        create,
        created_at: created.revision,
    }
}

/// What a step changed; a refused one changes nothing.
fn run(store: &mut Store, step: &Step) -> Changes {
    let mut changes = Changes::new();
    let outcome = match step {
        Step::Put(put) => store.put(put, &mut changes).map(|_| ()),
        Step::Delete(delete) => store.delete_range(delete, &mut changes).map(|_| ()),
        // Unchecked, a transaction could put one key twice.
        Step::Txn(txn) => check::txn(txn, &Limits::default())
            .and_then(|()| store.txn(txn, &mut changes).map(|_| ())),
        Step::Compact(back) => {
            let request = CompactionRequest {
                revision: store.revision() - back,
                physical: false,
            };
            store.compact(&request).map(|_| ())
        }
    };
    assert!(outcome.is_ok() || changes.is_empty(), "{step:?}");
    changes
}

struct Packer<'a> {
    responses: Vec<WatchResponse>,
    create: &'a WatchCreateRequest,
    cuts: Vec<u8>,
    /// The newest revision any header told.
    newest: i64,
}

impl Packer<'_> {
    /// Packs whole revisions into responses; between them progress, and perhaps a cancellation.
    fn pack(&mut self, events: &[Event], history: &History) {
        let mut revisions: Vec<&[Event]> = events
            .chunk_by(|a, b| revision_of(a) == revision_of(b))
            .collect();
        let mut passed = match self.create.start_revision {
            0 => self.newest,
            start => start - 1,
        };
        while !revisions.is_empty() {
            let cut = self.cuts.pop().unwrap_or(0);
            let behind = history.compactions().iter().find(|c| **c > passed + 1);
            if let (Some(boundary), true) = (behind, cut % 8 == 7) {
                return self.cancel_compacted(*boundary);
            }
            let count = (1 + usize::from(cut % 3)).min(revisions.len());
            let bundle: Vec<Event> = revisions.drain(..count).flatten().cloned().collect();
            passed = revision_of(bundle.last().expect("revisions have events"));
            let ahead = (passed + i64::from(cut / 8 % 3)).min(history.revision());
            self.newest = self.newest.max(ahead);
            self.send(bundle, cut);
            let next = revisions.first().map(|next| revision_of(&next[0]));
            let reached = next.map_or(history.revision(), |next| next - 1);
            if cut.is_multiple_of(2) && reached >= self.newest {
                passed = reached;
                self.newest = reached;
                self.responses.push(WatchResponse {
                    watch_id: if self.create.progress_notify { 0 } else { -1 },
                    ..response(reached)
                });
            }
        }
        if self.cuts.last().is_some_and(|cut| cut.is_multiple_of(4)) {
            self.responses.push(WatchResponse {
                canceled: true,
                ..response(history.revision())
            });
        }
    }

    /// One response, or its parts.
    fn send(&mut self, mut events: Vec<Event>, cut: u8) {
        let most = 1 + usize::from(cut / 16);
        while self.create.fragment && events.len() > most {
            let rest = events.split_off(most);
            self.responses.push(WatchResponse {
                events,
                fragment: true,
                ..response(self.newest)
            });
            events = rest;
        }
        self.responses.push(WatchResponse {
            events,
            ..response(self.newest)
        });
    }

    fn cancel_compacted(&mut self, boundary: i64) {
        self.responses.push(WatchResponse {
            canceled: true,
            compact_revision: boundary,
            ..response(0)
        });
    }
}

fn response(revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        ..WatchResponse::default()
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
