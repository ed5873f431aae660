//! Histories the judge must refuse, and the honest one beside each.

use metastore_core::kv_error::KvError;
use metastore_core::mvcc::{Changes, Store};
use metastore_core::output::{Outcome, Published, Refusal};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest};

use super::sweep;
use crate::history::{Ending, Record};
use crate::judge::{Chronicle, Shown};
use crate::model::Op;

/// A store that is also the cluster: what it applies is shown at once.
struct Scene {
    store: Store,
    shown: Shown,
    chronicle: Chronicle,
    history: Vec<Record>,
}

fn scene() -> Scene {
    Scene {
        store: Store::new(),
        shown: Shown::default(),
        chronicle: Chronicle::new(),
        history: Vec::new(),
    }
}

fn put(value: &str) -> Op {
    Op::Put {
        key: b"k".to_vec(),
        value: value.into(),
    }
}

fn read() -> Op {
    Op::Read {
        key: b"k".to_vec(),
        end: Vec::new(),
        revision: 0,
    }
}

fn published(store: &Store) -> Published {
    Published {
        view: store.view(),
        bytes_in_use: 0,
        applied: u64::try_from(store.revision()).unwrap_or(0),
        committed: u64::try_from(store.revision()).unwrap_or(0),
        term: 1,
        leader: Some(1),
        reads_need_no_quorum: true,
        members: [].into(),
    }
}

impl Scene {
    fn apply(&mut self, value: &str) -> Ending {
        let request = PutRequest {
            key: b"k".to_vec(),
            value: value.into(),
            ..PutRequest::default()
        };
        let put = self.store.put(&request, &mut Changes::new());
        let published = published(&self.store);
        self.chronicle
            .observe(&mut self.shown, &published, 1)
            .expect("an honest store");
        Ending::Wrote(Outcome::Put(put.expect("a plain put")))
    }

    fn read(&self) -> Ending {
        let request = RangeRequest {
            key: b"k".to_vec(),
            ..RangeRequest::default()
        };
        Ending::Read(self.store.view().range(&request))
    }

    fn record(&mut self, op: Op, begun: u64, ended: Option<(u64, Ending)>) {
        self.history.push(Record {
            client: 1,
            op,
            begun,
            ended,
        });
    }

    fn verdict(&self) -> Result<(), &'static str> {
        sweep(&self.history, &self.chronicle).map_err(|failure| failure.judge)
    }
}

#[test]
fn a_read_that_misses_a_write_that_had_ended_is_stale() {
    for (begun, verdict) in [(3, Err("linearizable")), (1, Ok(()))] {
        let mut scene = scene();
        let old = scene.read();
        let wrote = scene.apply("a");
        scene.record(put("a"), 0, Some((2, wrote)));
        scene.record(read(), begun, Some((4, old)));
        assert_eq!(scene.verdict(), verdict, "begun at {begun}");
    }
}

#[test]
fn an_acknowledged_write_must_be_in_the_history_under_its_revision() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote.clone())));
    assert_eq!(scene.verdict(), Ok(()));
    scene.history[0].op = put("another");
    assert_eq!(scene.verdict(), Err("durable"));
    scene.history[0].op = put("a");
    scene.chronicle = Chronicle::new();
    assert_eq!(scene.verdict(), Err("durable"));
}

#[test]
fn two_writes_never_share_a_revision() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((3, wrote.clone())));
    scene.record(put("a"), 1, Some((4, wrote)));
    assert_eq!(scene.verdict(), Err("revisions"));
}

#[test]
fn an_unknown_write_happens_once_or_never_and_a_refused_one_never() {
    let mut scene = scene();
    scene.apply("a");
    scene.record(put("a"), 0, Some((1, Ending::Lost)));
    scene.record(put("b"), 2, None);
    assert_eq!(scene.verdict(), Ok(()));
    scene.apply("a");
    assert_eq!(scene.verdict(), Err("once"));
    let refused = Ending::Refused(Refusal::NotLeader { leader: None });
    scene.history[0].ended = Some((1, refused));
    assert_eq!(scene.verdict(), Err("once"));
}

#[test]
fn a_read_of_the_wrong_value_is_noticed() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    let Ending::Read(Ok(mut response)) = scene.read() else {
        panic!("nothing refuses a plain read");
    };
    response.kvs[0].value = b"b".to_vec();
    scene.record(put("a"), 0, Some((1, wrote)));
    scene.record(read(), 2, Some((3, Ending::Read(Ok(response)))));
    assert_eq!(scene.verdict(), Err("answers"));
}

#[test]
fn a_compacted_read_needs_a_compaction() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    let op = Op::Read {
        key: b"k".to_vec(),
        end: Vec::new(),
        revision: 1,
    };
    scene.record(op, 2, Some((5, Ending::Read(Err(KvError::Compacted)))));
    assert_eq!(scene.verdict(), Err("answers"));
    let compact = Op::Compact {
        revision: 2,
        physical: false,
    };
    scene.record(compact, 3, None);
    assert_eq!(scene.verdict(), Ok(()));
}

#[test]
fn a_revision_shown_twice_with_other_contents_is_two_histories() {
    let mut scene = scene();
    scene.apply("a");
    let mut other = Store::new();
    let request = PutRequest {
        key: b"k".to_vec(),
        value: b"b".to_vec(),
        ..PutRequest::default()
    };
    other
        .put(&request, &mut Changes::new())
        .expect("a plain put");
    let mut shown = Shown::default();
    let observed = scene
        .chronicle
        .observe(&mut shown, &published(&other), 1)
        .map_err(|failure| failure.judge);
    assert_eq!(observed, Err("one-history"));
}

#[test]
fn a_lone_voter_that_shows_less_than_was_acknowledged_has_lost_it() {
    let mut scene = scene();
    let mut shown = Shown::default();
    let observed = scene
        .chronicle
        .observe(&mut shown, &published(&Store::new()), 2)
        .map_err(|failure| failure.judge);
    assert_eq!(observed, Err("durable"));
}
