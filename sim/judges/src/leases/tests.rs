//! Lives of leases that the judge must refuse, and the honest one beside each.

use std::rc::Rc;

use metastore_proto::etcdserverpb::{LeaseGrantResponse, LeaseRevokeResponse, ResponseHeader};
use metastore_proto::mvccpb::KeyValue;

use super::*;
use crate::history::Moment;

fn moment(seconds: u64) -> Moment {
    Moment {
        ordinal: seconds,
        time: Duration::from_secs(seconds),
    }
}

fn record(op: Op, begun: u64, ended: u64, ending: Ending) -> Record {
    Record {
        client: 1,
        op,
        begun: moment(begun),
        ended: Some((moment(ended), ending)),
    }
}

/// Lease 7 of ten seconds, granted in second 1 and renewed in second 8.
fn granted_and_renewed() -> Vec<Record> {
    let grant = Op::Grant {
        id: 7,
        ttl_seconds: 10,
    };
    let granted = Ending::Wrote(Outcome::LeaseGranted(LeaseGrantResponse::default()));
    let renewed = Ending::Renewed { ttl_seconds: 10 };
    vec![
        record(grant, 1, 2, granted),
        record(Op::Renew { id: 7 }, 8, 9, renewed),
    ]
}

fn end_at(seconds: u64) -> LeaseEnd {
    LeaseEnd {
        id: 7,
        revision: 3,
        shown_at: Duration::from_secs(seconds),
    }
}

fn verdict(history: &[Record], ends: &[LeaseEnd]) -> Result<(), &'static str> {
    judge(history, &Chronicle::default(), ends, CLOCK_RATE_PPM_MAX).map_err(|failure| failure.judge)
}

#[test]
fn a_lease_that_ends_before_its_renewed_time_ended_early() {
    let history = granted_and_renewed();
    assert_eq!(verdict(&history, &[end_at(18)]), Ok(()));
    assert_eq!(verdict(&history, &[end_at(17)]), Err("leases"));
    assert_eq!(verdict(&history[..1], &[end_at(12)]), Ok(()));
    assert_eq!(verdict(&[], &[end_at(12)]), Err("leases"));
}

#[test]
fn an_answer_that_a_living_lease_is_gone_is_wrong() {
    for (asked, verdict_then) in [(15, Err("leases")), (18, Ok(()))] {
        let mut history = granted_and_renewed();
        let gone = Ending::Renewed { ttl_seconds: 0 };
        history.push(record(Op::Renew { id: 7 }, 10, asked, gone));
        assert_eq!(verdict(&history, &[]), verdict_then);
        let put = Op::Put {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            lease: 7,
        };
        let refused = Ending::Refused(Refusal::Kv(KvError::LeaseNotFound));
        history[2] = record(put, 10, asked, refused);
        assert_eq!(verdict(&history, &[]), verdict_then);
    }
}

#[test]
fn a_lease_that_was_given_back_may_end_at_once_and_is_never_renewed_again() {
    let mut history = granted_and_renewed();
    let header = Some(ResponseHeader {
        revision: 2,
        ..ResponseHeader::default()
    });
    let revoked = Ending::Wrote(Outcome::LeaseRevoked(LeaseRevokeResponse { header }));
    history.push(record(Op::Revoke { id: 7 }, 10, 11, revoked));
    assert_eq!(verdict(&history, &[end_at(11)]), Ok(()));
    let renewed = Ending::Renewed { ttl_seconds: 10 };
    history.push(record(Op::Renew { id: 7 }, 12, 13, renewed));
    assert_eq!(verdict(&history, &[]), Err("leases"));
}

#[test]
fn the_end_of_a_lease_takes_all_its_keys_and_no_other() {
    let key = |key: &str, lease| {
        let kv = KeyValue {
            lease,
            ..KeyValue::default()
        };
        (Rc::<[u8]>::from(key.as_bytes()), Rc::new(kv))
    };
    let before: Keys = [key("a", 7), key("b", 0), key("c", 7)]
        .into_iter()
        .collect();
    let gone = |keys: &[&str]| -> Vec<KeyChange> {
        keys.iter()
            .map(|key| (Rc::from(key.as_bytes()), None))
            .collect()
    };
    assert_eq!(lease_ended_by(&gone(&["a", "c"]), &before), Some(7));
    assert_eq!(lease_ended_by(&gone(&["a"]), &before), None);
    assert_eq!(lease_ended_by(&gone(&["a", "b", "c"]), &before), None);
    assert_eq!(lease_ended_by(&gone(&["b"]), &before), None);
    assert_eq!(all_ended(&before).map_err(|it| it.judge), Err("leases"));
    assert_eq!(all_ended(&Keys::new()), Ok(()));
}

#[test]
fn a_lease_whose_end_was_seen_is_not_renewed_afterwards() {
    let renewed_at = |seconds| {
        let mut history = granted_and_renewed();
        // Nobody knows whether it was given back, or when.
        history.push(record(Op::Revoke { id: 7 }, 10, 11, Ending::Lost));
        let gone = Ending::Renewed { ttl_seconds: 0 };
        history.push(record(Op::Renew { id: 7 }, 12, 13, gone));
        let renewed = Ending::Renewed { ttl_seconds: 10 };
        let again = record(Op::Renew { id: 7 }, seconds, seconds + 1, renewed);
        history.push(again);
        history
    };
    assert_eq!(verdict(&renewed_at(11), &[]), Ok(()));
    assert_eq!(verdict(&renewed_at(14), &[]), Err("leases"));
    assert_eq!(verdict(&renewed_at(14)[..4], &[end_at(13)]), Ok(()));
}

#[test]
fn a_lease_that_outlives_its_time_by_far_is_late() {
    let mut keys = Keys::new();
    let kv = KeyValue {
        lease: 7,
        ..KeyValue::default()
    };
    keys.insert(Rc::from(&b"k"[..]), Rc::new(kv));
    let verdict = |term_began, now| {
        let [term_began, now] = [term_began, now].map(Duration::from_secs);
        let judged = none_late(&keys, &granted_and_renewed(), term_began, now, 0);
        judged.map_err(|failure| failure.judge)
    };
    assert_eq!(verdict(5, 22), Ok(()));
    assert_eq!(verdict(5, 23), Err("leases"));
    assert_eq!(verdict(15, 28), Ok(()));
}
