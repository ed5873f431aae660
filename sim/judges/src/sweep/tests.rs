//! Histories the judge must refuse, and the honest one beside each.

use std::rc::Rc;
use std::time::Duration;

use metastore_core::claim;
use metastore_core::command::Request;
use metastore_core::kv_error::KvError;
use metastore_core::mvcc::{Changes, Store};
use metastore_core::output::{Outcome, Refusal};
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnResponse,
};
use metastore_proto::mvccpb::KeyValue;

use super::super::Bench;
use super::super::chronicle::Chronicle;
use super::super::chronicle::tests::shown_by;
use super::super::monotonic::Shown;
use super::sweep;
use crate::history::{Ending, Moment, Record};
use crate::model::{Key, Op, Selection, Survey};

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

fn delete() -> Op {
    Op::Delete {
        key: b"k".to_vec(),
        end: Vec::new(),
    }
}

fn compaction(revision: i64) -> Op {
    Op::Compact {
        revision,
        physical: false,
    }
}

/// Puts `value` if the key was changed at `at` last, and reads it otherwise.
fn swap(at: i64, value: &str) -> Op {
    Op::Txn {
        guards: vec![(b"k".to_vec(), at)],
        puts: vec![(b"k".to_vec(), value.into())],
        deletes: Vec::new(),
    }
}

/// What a transaction answered, to be changed.
fn responses(ending: &mut Ending) -> &mut TxnResponse {
    match ending {
        Ending::Wrote(Outcome::Txn(response)) | Ending::Surveyed(Ok(response)) => response,
        other => panic!("{other} is no answer to a transaction"),
    }
}

/// What a transaction read, to be changed.
fn range_of(ending: &mut Ending) -> &mut RangeResponse {
    let ranges = responses(ending).responses.iter_mut();
    let mut ranges = ranges.filter_map(|op| match &mut op.response {
        Some(Response::ResponseRange(range)) => Some(range),
        _ => None,
    });
    ranges.next_back().expect("it read something")
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
        self.show();
        Ending::Wrote(Outcome::Put(put.expect("a plain put")))
    }

    fn show(&mut self) {
        let shown = shown_by(&self.store, 1, 1);
        self.chronicle
            .learn(self.store.revision(), &shown, Duration::ZERO)
            .expect("an honest store");
    }

    /// Executes a transaction that writes, or could.
    fn execute(&mut self, op: &Op) -> Ending {
        let Some(Request::Txn(request)) = op.request() else {
            panic!("{op} is no transaction");
        };
        let executed = self.store.txn(&request, &mut Changes::new());
        self.show();
        Ending::Wrote(Outcome::Txn(executed.expect("an honest transaction")))
    }

    fn delete(&mut self) {
        let Some(Request::DeleteRange(request)) = delete().request() else {
            panic!("a deletion asks for one");
        };
        let deleted = self.store.delete_range(&request, &mut Changes::new());
        deleted.expect("nothing refuses it");
        self.show();
    }

    fn compact(&mut self, revision: i64) -> Ending {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let response = self.store.compact(&request).expect("it moves up");
        self.show();
        Ending::Wrote(Outcome::Compact {
            response,
            physical: false,
        })
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
fn a_compacted_read_needs_a_compaction_that_happened() {
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
    scene.record(compaction(2), 3, None);
    assert_eq!(scene.verdict(), Err("answers"));
    scene.compact(2);
    assert_eq!(scene.verdict(), Ok(()));
    scene.history[1].op = read();
    assert_eq!(
        scene.verdict(),
        Err("answers"),
        "the newest is always there"
    );
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

#[test]
fn what_a_transaction_reads_instead_of_writing_is_compared() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    let honest = scene.execute(&swap(7, "b"));
    scene.record(swap(7, "b"), 2, Some((3, honest.clone())));
    assert_eq!(scene.verdict(), Ok(()));
    let mut verdict_on = |spoil: &dyn Fn(&mut RangeResponse)| {
        let mut ending = honest.clone();
        spoil(range_of(&mut ending));
        scene.history[1].ended = Some((moment(3), ending));
        scene.verdict()
    };
    assert_eq!(verdict_on(&|_| ()), Ok(()));
    let spoilt: [&dyn Fn(&mut RangeResponse); 5] = [
        &|range| range.kvs.clear(),
        &|range| range.kvs[0].value = b"b".to_vec(),
        &|range| range.kvs[0].create_revision += 1,
        &|range| range.count = 0,
        &|range| range.more = true,
    ];
    for spoil in spoilt {
        assert_eq!(verdict_on(spoil), Err("answers"));
    }
}

#[test]
fn a_lease_that_claims_again_is_shown_the_claim_it_has() {
    let mut scene = scene();
    let grant = LeaseGrantRequest { id: 7, ttl: 5 };
    scene.store.grant_lease(1, &grant).expect("it is free");
    let stake = Op::Stake {
        name: b"c/n".to_vec(),
        lease: 7,
        value: b"v".to_vec(),
    };
    let staked = scene.execute(&stake);
    scene.record(stake.clone(), 0, Some((1, staked)));
    let mut again = scene.execute(&stake);
    scene.record(stake, 2, Some((3, again.clone())));
    assert_eq!(scene.verdict(), Ok(()));
    assert_eq!(range_of(&mut again).kvs[0].key, claim::key(b"c/n", 7));
    range_of(&mut again).kvs[0].create_revision = 1;
    scene.history[1].ended = Some((moment(3), again));
    assert_eq!(scene.verdict(), Err("answers"));
}

#[test]
fn a_transaction_reads_what_it_has_just_written() {
    let mut scene = scene();
    let echo = Op::Echo {
        key: b"k".to_vec(),
        end: Vec::new(),
        value: b"a".to_vec(),
    };
    let mut ending = scene.execute(&echo);
    scene.record(echo, 0, Some((1, ending.clone())));
    assert_eq!(scene.verdict(), Ok(()));
    let range = range_of(&mut ending);
    (range.kvs, range.count) = (Vec::new(), 0);
    scene.history[0].ended = Some((moment(1), ending));
    assert_eq!(scene.verdict(), Err("answers"));
}

#[test]
fn both_reads_of_a_transaction_belong_to_one_revision() {
    let mut scene = scene();
    let survey = Op::Survey(Survey {
        guards: vec![(b"k".to_vec(), 2)],
        first: (b"k".to_vec(), Vec::new()),
        revision: 0,
        second: (b"k".to_vec(), vec![0]),
        serializable: [true, false],
    });
    let request = survey.inquiry().expect("it only reads");
    let ask = |scene: &Scene| Ending::Surveyed(scene.store.view().txn_read_only(&request));
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    let mut early = ask(&scene);
    let wrote = scene.apply("b");
    scene.record(put("b"), 2, Some((5, wrote)));
    let late = ask(&scene);
    for honest in [&early, &late] {
        scene.history.truncate(2);
        scene.record(survey.clone(), 3, Some((4, honest.clone())));
        assert_eq!(scene.verdict(), Ok(()));
    }
    let newer = range_of(&mut late.clone()).clone();
    let spoilt = |ending: &Ending, spoil: &dyn Fn(&mut Ending)| {
        let mut ending = ending.clone();
        spoil(&mut ending);
        ending
    };
    let endings = [
        spoilt(&early, &|it| *range_of(it) = newer.clone()),
        spoilt(&early, &|it| responses(it).succeeded = false),
        spoilt(&late, &|it| responses(it).succeeded = true),
        spoilt(&late, &|it| responses(it).responses.clear()),
    ];
    for ending in endings {
        scene.history[2].ended = Some((moment(4), ending));
        assert_eq!(scene.verdict(), Err("answers"));
    }
    // One of its reads wants the newest, so all of it must not be old.
    range_of(&mut early).more = false;
    scene.history[2].begun = moment(6);
    scene.history[2].ended = Some((moment(7), early));
    assert_eq!(scene.verdict(), Err("linearizable"));
}

#[test]
fn a_selection_is_compared_with_its_number_and_whether_there_is_more() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    let select = Op::Select(Selection {
        interval: (b"a".to_vec(), b"z".to_vec()),
        limit: 1,
        descending: true,
        ..Selection::default()
    });
    let request = select.range().expect("it reads");
    let response = scene.store.view().range(&request);
    let response = response.expect("nothing refuses it");
    scene.record(select, 2, Some((3, Ending::Read(Ok(response.clone())))));
    assert_eq!(scene.verdict(), Ok(()));
    let more = RangeResponse {
        more: true,
        ..response.clone()
    };
    let fewer = RangeResponse {
        count: 0,
        ..response
    };
    for spoilt in [more, fewer] {
        scene.history[1].ended = Some((moment(3), Ending::Read(Ok(spoilt))));
        assert_eq!(scene.verdict(), Err("answers"));
    }
}

#[test]
fn an_unknown_deletion_happens_once() {
    let mut scene = scene();
    for (value, begun) in [("a", 0), ("b", 2)] {
        let wrote = scene.apply(value);
        scene.record(put(value), begun, Some((begun + 1, wrote)));
        scene.delete();
        if value == "a" {
            scene.record(delete(), 0, Some((9, Ending::Lost)));
            assert_eq!(scene.verdict(), Ok(()));
        }
    }
    assert_eq!(scene.verdict(), Err("once"));
    scene.record(delete(), 0, None);
    assert_eq!(scene.verdict(), Ok(()));
}

#[test]
fn nothing_is_made_by_who_asked_for_it_after_it_was_seen() {
    let mut scene = scene();
    scene.apply("a");
    scene.record(put("a"), 0, Some((1, Ending::Lost)));
    assert_eq!(scene.verdict(), Ok(()));
    scene.history[0].begun = moment(1);
    assert_eq!(scene.verdict(), Err("once"));
}

#[test]
fn an_acknowledged_compaction_moves_the_boundary_to_a_revision_there_is() {
    let scene = || {
        let mut scene = scene();
        for (value, begun) in [("a", 0), ("b", 2)] {
            let wrote = scene.apply(value);
            scene.record(put(value), begun, Some((begun + 1, wrote)));
        }
        let compacted = scene.compact(3);
        scene.record(compaction(3), 4, Some((5, compacted.clone())));
        (scene, compacted)
    };
    let (honest, compacted) = scene();
    assert_eq!(honest.verdict(), Ok(()));
    for (revision, begun) in [(3, 3), (2, 6), (4, 3)] {
        let (mut scene, _) = scene();
        scene.record(compaction(revision), begun, Some((9, compacted.clone())));
        assert_eq!(scene.verdict(), Err("compaction"), "to {revision}");
    }
    let (mut overlapping, _) = scene();
    overlapping.record(compaction(2), 3, Some((9, compacted.clone())));
    assert_eq!(overlapping.verdict(), Ok(()));
    let (mut unshown, _) = scene();
    unshown.chronicle = Chronicle::default();
    unshown.store = Store::new();
    unshown.apply("a");
    unshown.apply("b");
    assert_eq!(unshown.verdict(), Err("compaction"), "nobody shows it");
}

#[test]
fn a_compaction_is_not_refused_because_of_itself() {
    let mut scene = scene();
    let wrote = scene.apply("a");
    scene.record(put("a"), 0, Some((1, wrote)));
    scene.compact(2);
    let refused = Ending::Refused(Refusal::Kv(KvError::Compacted));
    scene.record(compaction(2), 0, Some((5, refused)));
    assert_eq!(scene.verdict(), Err("answers"));
    scene.record(compaction(2), 1, None);
    assert_eq!(scene.verdict(), Ok(()));
}
