//! The store against the model, and its facts one by one.

use metastore_proto::etcdserverpb::*;
use metastore_proto::mvccpb::KeyValue;
use proptest::prelude::*;

use super::generate::{self, LEASE};
use super::model::{Model, ModelChange};
use super::*;
use crate::kv_error::KvError;
use crate::lease::LeaseTerms;
use crate::snapshot;

#[derive(Clone, Debug)]
enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    /// How far below the newest revision.
    Compact(i64),
    Sweep(usize),
    Range(RangeRequest),
    Grant,
    Revoke,
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => generate::put().prop_map(Step::Put),
        3 => generate::delete_range().prop_map(Step::Delete),
        4 => generate::txn().prop_map(Step::Txn),
        2 => (-1i64..8).prop_map(Step::Compact),
        3 => (0usize..40).prop_map(Step::Sweep),
        4 => generate::range().prop_map(Step::Range),
        2 => Just(Step::Grant),
        1 => Just(Step::Revoke),
        1 => Just(Step::Restore),
    ]
}

/// The changes of one revision as the model tells them.
fn told(events: &RevisionEvents) -> Vec<ModelChange> {
    let told = |change: &Change| {
        let record = &change.record;
        (
            record.key().to_vec(),
            (!record.is_tombstone()).then(|| record.to_key_value()),
        )
    };
    events.changes.iter().map(told).collect()
}

fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: vec![0],
        range_end: vec![0],
        revision,
        ..RangeRequest::default()
    }
}

/// All that a view answers is what the model answers.
fn compare_all(view: &View, model: &Model) {
    assert_eq!(
        (view.revision(), view.compact_revision()),
        (model.revision(), model.compact_revision)
    );
    for revision in 0..=model.revision() + 1 {
        assert_eq!(
            view.range(&everything(revision)),
            model.range(&everything(revision))
        );
    }
    let first = model.compact_revision.max(2);
    let events: Vec<_> = view
        .events(first, usize::MAX)
        .expect("not compacted")
        .collect();
    assert_eq!(events.len() as i64, model.revision() - first + 1);
    for events in &events {
        assert_eq!(
            told(events),
            model.events[events.revision as usize],
            "revision {}",
            events.revision
        );
        for (index, change) in events.changes.iter().enumerate() {
            let key = change.record.key();
            let within = told(events)[..index]
                .iter()
                .rev()
                .find(|(other, _)| other == key)
                .cloned();
            let before = model.states[events.revision as usize - 1].get(key).cloned();
            let known = before.filter(|_| events.revision > model.compact_revision);
            let previous = within.map_or(known, |(_, value)| value);
            assert_eq!(change.previous.as_ref().map(Record::to_key_value), previous);
        }
    }
}

fn restored(store: &Store) -> Store {
    let extra = b"the caller's own".to_vec();
    let bytes: Vec<u8> = snapshot::Encoder::new(store.view(), &extra)
        .flatten()
        .collect();
    let (mut copy, kept) = snapshot::decode(&bytes).expect("a snapshot decodes");
    copy.validate();
    assert_eq!(kept, extra);
    assert_eq!(copy.state_hash(), store.state_hash());
    let again: Vec<u8> = snapshot::Encoder::new(copy.view(), &extra)
        .flatten()
        .collect();
    assert_eq!(again, bytes, "equal states give equal bytes");
    let terms: Vec<LeaseTerms> = store.leases().terms().collect();
    copy.restore_leases(&terms).expect("the leases of the keys");
    copy.validate();
    assert_eq!(copy.leases(), store.leases());
    copy
}

fn change_lease(step: &Step, store: &mut Store, model: &mut Model, changes: &mut Changes) {
    if matches!(step, Step::Grant) {
        let granted = store.leases.grant(0, LEASE, 60).is_ok();
        assert_eq!(granted, !model.leases.contains(&LEASE));
        model.leases.extend(granted.then_some(LEASE));
    } else {
        let revoked = store.revoke_lease(LEASE, changes).ok();
        let revision = revoked.and_then(|answer| Some(answer.header?.revision));
        assert_eq!(revision, model.revoke(LEASE));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, the store answers as the model, and so does every view taken on the way.
    #[test]
    fn the_store_agrees_with_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let (mut store, mut model) = (Store::new(), Model::new());
        store.leases.grant(0, LEASE, 60).expect("a new id");
        model.leases.push(LEASE);
        let mut changes = Changes::new();
        let mut early: Option<(View, i64)> = None;
        for step in &steps {
            changes.clear();
            let before = model.revision();
            match step {
                Step::Put(put) => prop_assert_eq!(store.put(put, &mut changes), model.put(put)),
                Step::Delete(delete) => {
                    prop_assert_eq!(store.delete_range(delete, &mut changes), Ok(model.delete_range(delete)));
                }
                Step::Txn(txn) => {
                    if crate::txn::is_read_only(txn) {
                        prop_assert_eq!(store.view().txn_read_only(txn), model.txn(txn));
                    }
                    prop_assert_eq!(store.txn(txn, &mut changes), model.txn(txn));
                }
                Step::Compact(back) => {
                    let request = CompactionRequest { revision: model.revision() - back, physical: false };
                    prop_assert_eq!(store.compact(&request), model.compact(request.revision));
                }
                Step::Sweep(keys) => {
                    let hash = (store.state_hash(), store.view().hash_kv(0));
                    store.sweep(*keys);
                    prop_assert_eq!((store.state_hash(), store.view().hash_kv(0)), hash);
                }
                Step::Range(range) => {
                    let answer = model.range(range);
                    prop_assert_eq!(&store.view().range(range), &answer);
                    let limits = crate::check::Limits::default();
                    if let (Ok(()), Ok(answer)) = (crate::check::range_stream(range, &limits), answer) {
                        let chunks: Vec<_> = store.view().range_stream(range, 12).expect("as the range").collect();
                        prop_assert_eq!(merged(chunks), answer);
                    }
                }
                Step::Grant | Step::Revoke => change_lease(step, &mut store, &mut model, &mut changes),
                Step::Restore => store = restored(&store),
            }
            store.validate();
            if model.revision() > before {
                let told: Vec<ModelChange> = told(&RevisionEvents {
                    revision: model.revision(),
                    changes: changes.as_slice().to_vec(),
                });
                prop_assert_eq!(&told, &model.events[model.revision() as usize]);
            } else {
                prop_assert!(changes.is_empty(), "no revision, no changes");
            }
            if early.is_none() && model.revision() > 8 {
                early = Some((store.view(), model.compact_revision));
            }
        }
        compare_all(&store.view(), &model);
        if let Some((view, compact_revision)) = early {
            let at = view.revision();
            for revision in compact_revision.max(1)..=at {
                let past = view.range(&everything(revision)).expect("readable when taken");
                let wanted: Vec<KeyValue> = model.states[revision as usize].values().cloned().collect();
                prop_assert_eq!(past.kvs, wanted, "a view never changes");
            }
        }
        while store.sweep(3) == Sweep::More {
            store.validate();
        }
        store.validate();
        compare_all(&store.view(), &model);
        let records = store.view().retained().map(Record::size).sum::<u64>();
        prop_assert_eq!(store.bytes_in_use(), records, "a finished sweep leaves nothing it could remove");
    }
}

/// The chunks of a stream put together.
fn merged(chunks: Vec<RangeResponse>) -> RangeResponse {
    let (last, rest) = chunks.split_last().expect("there is always a chunk");
    let mut kvs = Vec::new();
    for chunk in rest {
        assert!(
            chunk.header.is_none() && !chunk.more && chunk.count == 0,
            "only the last chunk tells totals"
        );
        assert!(!chunk.kvs.is_empty(), "only the last chunk may be empty");
        kvs.extend(chunk.kvs.iter().cloned());
    }
    kvs.extend(last.kvs.iter().cloned());
    RangeResponse {
        kvs,
        ..last.clone()
    }
}

/// Runs a story of commands and compares the answer to the last one.
///
/// `put k v`, `del k[..e]`, `get k[..e][@r]`, `events r`, `compact r`, `sweep`; `k..` is everything from `k` on.
#[track_caller]
fn check(story: &str, answer: &str) {
    let mut store = Store::new();
    let mut last = String::new();
    for command in story.split(';') {
        let words: Vec<&str> = command.split_whitespace().collect();
        last = match tell(&mut store, &words) {
            Ok(answer) => answer,
            Err(error) => format!("{error:?}"),
        };
        store.validate();
    }
    assert_eq!(last, answer, "{story}");
}

fn tell(store: &mut Store, words: &[&str]) -> Result<String, KvError> {
    let mut changes = Changes::new();
    let bounds = |word: &str| {
        let (key, end) = word.split_once("..").unwrap_or((word, "\0none"));
        let end = match end {
            "" => vec![0],
            "\0none" => Vec::new(),
            end => end.as_bytes().to_vec(),
        };
        (key.as_bytes().to_vec(), end)
    };
    match words {
        ["put", key, value] => {
            let request = PutRequest {
                key: key.as_bytes().to_vec(),
                value: value.as_bytes().to_vec(),
                ..Default::default()
            };
            let response = store.put(&request, &mut changes)?;
            Ok(format!("@{}", response.header.expect("set").revision))
        }
        ["del", range] => {
            let (key, range_end) = bounds(range);
            let response = store.delete_range(
                &DeleteRangeRequest {
                    key,
                    range_end,
                    prev_kv: false,
                },
                &mut changes,
            )?;
            Ok(format!(
                "{} @{}",
                response.deleted,
                response.header.expect("set").revision
            ))
        }
        ["get", what] => {
            let (range, revision) = what.split_once('@').unwrap_or((what, "0"));
            let (key, range_end) = bounds(range);
            let revision = revision.parse().expect("a number");
            let response = store.view().range(&RangeRequest {
                key,
                range_end,
                revision,
                ..Default::default()
            })?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let told = |kv: &KeyValue| {
                format!(
                    "{}={} ({},{},{})",
                    text(&kv.key),
                    text(&kv.value),
                    kv.create_revision,
                    kv.mod_revision,
                    kv.version
                )
            };
            Ok(response.kvs.iter().map(told).collect::<Vec<_>>().join(" "))
        }
        ["events", from] => {
            let view = store.view();
            let events = view.events(from.parse().expect("a number"), usize::MAX)?;
            let told = events.flat_map(|events| events.changes).map(|change| {
                let was = change.previous.map_or(String::new(), |record| {
                    format!(" was {}", record.mod_revision())
                });
                format!("{:?}{was}", change.record)
            });
            Ok(told.collect::<Vec<_>>().join(", "))
        }
        ["compact", revision] => {
            let revision = revision.parse().expect("a number");
            let response = store.compact(&CompactionRequest {
                revision,
                physical: false,
            })?;
            Ok(format!("@{}", response.header.expect("set").revision))
        }
        ["sweep"] => {
            while store.sweep(1) == Sweep::More {}
            Ok(String::new())
        }
        words => panic!("no such command: {words:?}"),
    }
}

#[test]
fn the_first_write_is_revision_2() {
    check("put a 1", "@2");
}

#[test]
fn a_put_keeps_the_creation_and_counts_the_version() {
    check("put a 1; put a 1; get a", "a=1 (2,3,2)");
    check("put a 1; del a; put a 2; get a", "a=2 (4,4,1)");
}

#[test]
fn deleting_nothing_makes_no_revision() {
    check("put a 1; del b..", "0 @2");
    check("put a 1; put b 1; del a..z", "2 @4");
}

#[test]
fn the_past_is_readable_down_to_the_compact_revision() {
    check("put a 1; put a 2; get a@2", "a=1 (2,2,1)");
    check("put a 1; put a 2; get a@4", "FutureRevision");
    check("put a 1; put a 2; compact 3; get a@2", "Compacted");
    check(
        "put a 1; put a 2; put b 1; compact 3; sweep; get a@3",
        "a=2 (2,3,2)",
    );
    check(
        "put a 1; put b 1; compact 3; sweep; get a..@3",
        "a=1 (2,2,1) b=1 (3,3,1)",
    );
}

#[test]
fn a_range_with_its_end_first_is_empty() {
    check("put a 1; put b 1; get b..a", "");
}

#[test]
fn a_boundary_is_set_once_and_only_upward() {
    check("compact 0", "@1");
    check("compact 0; compact 0", "Compacted");
    check("compact -1", "Compacted");
    check("compact 2", "FutureRevision");
    check("put a 1; compact 2; compact 1", "Compacted");
}

#[test]
fn compacting_at_a_tombstone_keeps_its_delete_event() {
    check(
        "put a 1; del a; compact 3; sweep; events 3",
        "delete \"a\"@3.0",
    );
    check(
        "put a 1; del a; put b 1; compact 4; sweep; events 3",
        "Compacted",
    );
}

#[test]
fn a_tombstone_kept_at_the_boundary_goes_with_the_next_compaction() {
    let mut store = Store::new();
    for command in [
        "put a 1",
        "del a",
        "compact 3",
        "sweep",
        "put b 1",
        "compact 4",
        "sweep",
    ] {
        tell(&mut store, &command.split(' ').collect::<Vec<_>>()).expect("a plain command");
    }
    assert_eq!(store.view().keyspace.len(), 1, "only b is left");
}

#[test]
fn a_watch_from_the_compact_revision_misses_nothing() {
    check(
        "put a 1; put a 2; put a 3; compact 3; sweep; events 3",
        "put \"a\"@3.0, put \"a\"@4.0 was 3",
    );
}

#[test]
fn revisions_never_decrease_when_the_newest_record_is_compacted_away() {
    check("put a 1; del a; compact 3; sweep; put b 1", "@4");
    check(
        "put a 1; del a; compact 3; sweep; put b 1; compact 4; sweep; get a..",
        "b=1 (4,4,1)",
    );
}

#[test]
fn a_key_with_a_million_versions_stays_cheap_and_goes_in_slices() {
    let versions = 1_000_000;
    let mut store = Store::new();
    let mut changes = Changes::new();
    let put = PutRequest {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
        ..PutRequest::default()
    };
    let mut kept = store.view();
    for version in 0..versions {
        store.put(&put, &mut changes).expect("a plain put");
        changes.clear();
        if version % 1000 == 0 {
            kept = store.view();
        }
    }
    let read = |store: &Store, at: i64| {
        let request = RangeRequest {
            key: b"k".to_vec(),
            revision: at,
            ..RangeRequest::default()
        };
        store
            .view()
            .range(&request)
            .map(|response| response.kvs[0].version)
    };
    for at in [2, 3, 500_000, versions, versions + 1] {
        assert_eq!(read(&store, at), Ok(at - 1));
    }
    let record = store.bytes_in_use() / versions as u64;
    store
        .compact(&CompactionRequest {
            revision: versions,
            physical: false,
        })
        .expect("in the past");
    let mut before = store.bytes_in_use();
    while store.sweep(32) == Sweep::More {
        let after = store.bytes_in_use();
        assert!(
            before - after <= 32 * 33 * record,
            "one call frees a few chunks at most"
        );
        before = after;
    }
    assert_eq!(store.bytes_in_use(), 2 * record);
    assert_eq!(read(&store, versions - 1), Err(KvError::Compacted));
    assert_eq!(read(&store, versions), Ok(versions - 1));
    drop(kept);
    store.validate();
}

#[test]
fn a_view_is_sent_to_other_threads() {
    fn sent<T: Send + Sync>() {}
    sent::<View>();
}

#[test]
fn a_tombstone_at_a_boundary_that_moves_in_mid_sweep_goes_with_the_next_one() {
    let mut store = Store::new();
    let put = |store: &mut Store, key: &str| {
        let request = PutRequest {
            key: key.into(),
            ..PutRequest::default()
        };
        store
            .put(&request, &mut Changes::new())
            .expect("a plain put");
    };
    let compact = |store: &mut Store, revision| {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        store.compact(&request).expect("an existing revision");
    };
    put(&mut store, "c");
    let delete = DeleteRangeRequest {
        key: b"c".to_vec(),
        ..DeleteRangeRequest::default()
    };
    store
        .delete_range(&delete, &mut Changes::new())
        .expect("a plain delete");
    put(&mut store, "a");
    compact(&mut store, 3);
    // The walk passes the put, its revision's end and the tombstone, which the boundary protects.
    assert_eq!(store.sweep(3), Sweep::More);
    compact(&mut store, 4);
    while store.sweep(1) == Sweep::More {}
    assert_eq!(
        store.bytes_in_use(),
        store.view().retained().map(Record::size).sum::<u64>()
    );
    store.validate();
}

#[test]
fn the_hash_of_history_ignores_how_far_the_sweep_came() {
    let mut store = Store::new();
    for command in [
        "put a 1",
        "put b 1",
        "put a 2",
        "del b",
        "put c 1",
        "put a 3",
        "compact 5",
    ] {
        tell(&mut store, &command.split(' ').collect::<Vec<_>>()).expect("a plain command");
    }
    let hashes = |store: &Store| {
        (5..=7)
            .map(|at| store.view().hash_kv(at).map(|answer| answer.hash))
            .collect::<Vec<_>>()
    };
    let unswept = hashes(&store);
    while store.sweep(1) == Sweep::More {
        assert_eq!(hashes(&store), unswept);
    }
    assert_eq!(hashes(&store), unswept);
    assert_eq!(store.view().hash_kv(4), Err(KvError::Compacted));
    assert_eq!(store.view().hash_kv(8), Err(KvError::FutureRevision));
    let newest = store.view().hash_kv(0).expect("the newest is readable");
    assert_eq!((newest.hash_revision, newest.compact_revision), (7, 5));
}

#[test]
fn the_hash_of_history_is_that_of_positions_and_messages() {
    let mut store = Store::new();
    tell(&mut store, &["put", "k", "v"]).expect("a plain put");
    tell(&mut store, &["del", "k"]).expect("a plain delete");
    let mut bytes = b"key".to_vec();
    bytes.extend_from_slice(b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0");
    // key "k", create revision 2, mod revision 2, version 1, value "v".
    bytes.extend_from_slice(b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v");
    bytes.extend_from_slice(b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t\x0a\x01k");
    let answer = store.view().hash_kv(0).expect("the newest is readable");
    assert_eq!(answer.hash, crc32c::crc32c(&bytes));
    assert_eq!(answer.compact_revision, -1);
}

#[test]
fn a_stream_knows_when_a_compaction_overtook_it() {
    let mut store = Store::new();
    for key in ["a", "b", "c"] {
        tell(&mut store, &["put", key, "1"]).expect("a plain put");
    }
    let mut stream = store
        .view()
        .range_stream(&everything(3), 1)
        .expect("readable");
    assert_eq!(stream.next().map(|chunk| chunk.kvs.len()), Some(1));
    assert!(!stream.overtaken_by(3));
    assert!(stream.overtaken_by(4));
    let last = stream.next().expect("a second chunk");
    assert_eq!(
        (last.count, last.header.expect("in the last").revision),
        (2, 4)
    );
    assert_eq!(stream.next(), None);
}

#[test]
fn no_record_has_an_empty_key_whoever_proposed_it() {
    let mut store = Store::new();
    let mut changes = Changes::new();
    let put = PutRequest::default();
    assert_eq!(store.put(&put, &mut changes), Err(KvError::EmptyKey));
    let txn = TxnRequest {
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }],
        ..TxnRequest::default()
    };
    assert_eq!(store.txn(&txn, &mut changes), Err(KvError::EmptyKey));
    assert_eq!(store.revision(), 1);
    assert!(changes.is_empty());
}
