//! Histories the judge must refuse, and the honest one beside each.

use std::rc::Rc;
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::mvcc::{Changes, Store};
use metastore_core::output::{Outcome, Refusal};
use metastore_proto::etcdserverpb::{
    DeleteRangeResponse, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, ResponseHeader,
};
use metastore_proto::mvccpb::KeyValue;

use super::super::Bench;
use super::super::chronicle::Chronicle;
use super::super::chronicle::tests::shown_by;
use super::super::monotonic::Shown;
use super::sweep;
use crate::history::{Ending, Moment, Record};
use crate::model::{Key, Op};

/// A store that is also the cluster: what it applies is shown at once.
struct Scene {
    store: Store,
    chronicle: Chronicle,
    history: Vec<Record>,
}

fn scene() -> Scene {
    Scene {
        store: Store::new(),
        chronicle: Chronicle::default(),
        history: Vec::new(),
    }
}

fn put(value: &str) -> Op {
    Op::put(b"k".to_vec(), value.into())
}

fn read() -> Op {
    Op::read(b"k".to_vec(), Vec::new())
}

fn moment(ordinal: u64) -> Moment {
    Moment {
        ordinal,
        time: Duration::from_millis(ordinal),
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
        let shown = shown_by(&self.store, 1, 1);
        self.chronicle
            .learn(self.store.revision(), &shown, Duration::ZERO)
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
        let ended = ended.map(|(ordinal, ending)| (moment(ordinal), ending));
        self.history.push(Record {
            client: 1,
            op,
            begun: moment(begun),
            ended,
        });
    }

    fn verdict(&self) -> Result<(), &'static str> {
        let swept = sweep(&self.history, &self.chronicle);
        swept.map(|_| ()).map_err(|failure| failure.judge)
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
    scene.chronicle = Chronicle::default();
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
    scene.history[0].ended = Some((moment(1), refused));
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
        serializable: false,
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
fn a_serializable_read_may_be_old_but_not_wrong() {
    let mut scene = scene();
    let old = scene.read();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    let op = Op::Read {
        key: b"k".to_vec(),
        end: Vec::new(),
        revision: 0,
        serializable: true,
    };
    scene.record(op, 2, Some((3, old)));
    assert_eq!(scene.verdict(), Ok(()));
    let Some((_, Ending::Read(Ok(response)))) = &mut scene.history[1].ended else {
        panic!("nothing refuses a plain read");
    };
    response
        .kvs
        .push(metastore_proto::mvccpb::KeyValue::default());
    assert_eq!(scene.verdict(), Err("answers"));
}

#[test]
fn a_lone_voter_that_shows_less_than_was_acknowledged_has_lost_it() {
    let mut published = shown_by(&Store::new(), 1, 1);
    published.reads_need_no_quorum = true;
    let verdict = |acknowledged| {
        let mut shown = Shown::default();
        let observed =
            Bench::default().observe(1, &mut shown, &published, acknowledged, Duration::ZERO);
        observed.map_err(|failure| failure.judge)
    };
    assert_eq!(verdict(1), Ok(()));
    assert_eq!(verdict(2), Err("durable"));
}

#[test]
fn a_revocation_takes_no_revision_that_somebody_else_has() {
    let mut scene = scene();
    let hung = KeyValue {
        key: b"k".to_vec(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 7,
        ..KeyValue::default()
    };
    let key: Key = Rc::from(&b"k"[..]);
    let mut learn = |revision, record| {
        let changes = vec![(Rc::clone(&key), record)];
        let learnt = scene
            .chronicle
            .learn_revision(revision, changes, Duration::ZERO);
        learnt.expect("it follows");
    };
    learn(2, Some(Rc::new(hung)));
    learn(3, None);
    let header = |revision| {
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    };
    let put = Op::Put {
        key: b"k".to_vec(),
        value: Vec::new(),
        lease: 7,
    };
    let put_done = Outcome::Put(PutResponse {
        header: header(2),
        prev_kv: None,
    });
    scene.record(put, 0, Some((1, Ending::Wrote(put_done))));
    let revoked = Outcome::LeaseRevoked(LeaseRevokeResponse { header: header(3) });
    scene.record(Op::Revoke { id: 7 }, 2, Some((5, Ending::Wrote(revoked))));
    assert_eq!(scene.verdict(), Ok(()));
    let delete = Op::Delete {
        key: b"k".to_vec(),
        end: Vec::new(),
    };
    let deleted = Outcome::DeleteRange(DeleteRangeResponse {
        header: header(3),
        deleted: 1,
        prev_kvs: Vec::new(),
    });
    scene.record(delete, 3, Some((4, Ending::Wrote(deleted))));
    assert_eq!(scene.verdict(), Ok(()));
    scene.history[1].begun = moment(5);
    scene.history[1].ended = scene.history[1]
        .ended
        .clone()
        .map(|(_, ending)| (moment(6), ending));
    assert_eq!(scene.verdict(), Ok(()));
}
