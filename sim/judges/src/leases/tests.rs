//! Lives of leases that the judge must refuse, and the honest one beside each.

use std::rc::Rc;

use metastore_core::kv_error::KvError;
use metastore_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseRevokeResponse, PutResponse, ResponseHeader,
};
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

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The answer to a grant of lease 7, when this was the newest revision.
fn granted(revision: i64, ttl: i64) -> Ending {
    Ending::Wrote(Outcome::LeaseGranted(LeaseGrantResponse {
        header: header(revision),
        id: 7,
        ttl,
        ..LeaseGrantResponse::default()
    }))
}

fn grant(ttl_seconds: i64) -> Op {
    Op::Grant { id: 7, ttl_seconds }
}

/// The answer to a revocation that took this revision, or came when it was the newest.
fn revoked(revision: i64) -> Ending {
    let header = header(revision);
    Ending::Wrote(Outcome::LeaseRevoked(LeaseRevokeResponse { header }))
}

fn not_there() -> Ending {
    Ending::Refused(Refusal::Lease(LeaseError::NotFound))
}

/// Lease 7 of ten seconds, granted in second 1 and renewed in second 8.
fn granted_and_renewed() -> Vec<Record> {
    let grant = Op::Grant {
        id: 7,
        ttl_seconds: 10,
    };
    let renewed = Ending::Renewed { ttl_seconds: 10 };
    vec![
        record(grant, 1, 2, granted(1, 10)),
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
    history.push(record(Op::Revoke { id: 7 }, 10, 11, revoked(2)));
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
fn a_lease_that_ends_long_after_its_time_is_late() {
    // Renewed in second 9 by what is known, for ten seconds.
    let history = granted_and_renewed();
    let verdict = |history: &[Record], terms: &[u64], healed, shown_at| {
        let terms: Vec<Duration> = terms.iter().copied().map(Duration::from_secs).collect();
        let healed = Duration::from_secs(healed);
        let judged = none_late(history, &[end_at(shown_at)], &terms, healed, 0);
        judged.map_err(|failure| failure.judge)
    };
    assert_eq!(verdict(&history, &[1, 5], 5, 22), Ok(()));
    assert_eq!(verdict(&history, &[1, 5], 5, 23), Err("leases"));
    assert_eq!(verdict(&history, &[1, 12], 5, 25), Ok(()), "another leader");
    assert_eq!(verdict(&history, &[1, 12], 5, 26), Err("leases"));
    assert_eq!(verdict(&history, &[1, 24], 5, 23), Err("leases"));
    assert_eq!(verdict(&history, &[1], 12, 25), Ok(()), "it healed later");
    assert_eq!(verdict(&history, &[1], 30, 29), Ok(()), "it broke still");
    let mut lost = history.clone();
    lost.push(record(Op::Renew { id: 7 }, 12, 12, Ending::Lost));
    assert_eq!(
        verdict(&lost, &[1], 5, 35),
        Ok(()),
        "it may have been taken"
    );
    let nobody = Ending::Refused(Refusal::NotLeader { leader: None });
    lost[2] = record(Op::Renew { id: 7 }, 12, 12, nobody);
    assert_eq!(verdict(&lost, &[1], 5, 24), Err("leases"));
}

#[test]
fn an_answer_tells_the_time_that_was_granted() {
    for (asked, told, expected) in [
        (10, 10, Ok(())),
        (10, 11, Err("leases")),
        (10, 9, Err("leases")),
        (0, 1, Ok(())),
        (-1, 1, Ok(())),
        (0, 0, Err("leases")),
    ] {
        let history = [record(grant(asked), 1, 2, granted(1, told))];
        assert_eq!(verdict(&history, &[]), expected, "{asked} {told}");
    }
    for (told, expected) in [(10, Ok(())), (11, Err("leases")), (9, Err("leases"))] {
        let mut history = granted_and_renewed();
        let renewed = Ending::Renewed { ttl_seconds: told };
        history.push(record(Op::Renew { id: 7 }, 10, 11, renewed));
        assert_eq!(verdict(&history, &[]), expected, "{told}");
    }
    let renewed = Ending::Renewed { ttl_seconds: 10 };
    let unheard_of = [record(Op::Renew { id: 7 }, 10, 11, renewed)];
    assert_eq!(verdict(&unheard_of, &[]), Err("leases"));
}

/// How lease 7 stands by an answer.
fn stands(ttl_seconds: i64, remaining_seconds: i64, keys: &[&[u8]]) -> Ending {
    Ending::Stands(Some(LeaseStatus {
        ttl_seconds,
        remaining_seconds,
        keys: keys.iter().copied().collect(),
    }))
}

/// A history of keys: revision 2 hangs `a` on lease 7, revision 3 hangs `b` on it, each in that second.
fn two_keys() -> Chronicle {
    let mut chronicle = Chronicle::default();
    for (revision, key) in [(2, "a"), (3, "b")] {
        let kv = KeyValue {
            key: key.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 7,
            ..KeyValue::default()
        };
        let changes = vec![(Rc::<[u8]>::from(key.as_bytes()), Some(Rc::new(kv)))];
        let seconds = u64::try_from(revision).expect("small");
        let learnt = chronicle.learn_revision(revision, changes, Duration::from_secs(seconds));
        learnt.expect("it follows");
    }
    chronicle
}

#[test]
fn how_a_lease_stands_is_told_as_it_is() {
    let ask = |keys| Op::TimeToLive { id: 7, keys };
    let after = |begun, ended, keys, ending| {
        let mut history = granted_and_renewed();
        history.push(record(ask(keys), begun, ended, ending));
        let judged = judge(&history, &two_keys(), &[], 0);
        judged.map_err(|failure| failure.judge)
    };
    // Renewed in second 8: it lives until second 18.
    assert_eq!(after(10, 11, false, stands(10, 9, &[])), Ok(()));
    assert_eq!(after(10, 11, false, stands(9, 9, &[])), Err("leases"));
    assert_eq!(after(10, 11, false, stands(10, 11, &[])), Ok(()));
    assert_eq!(after(10, 11, false, stands(10, 12, &[])), Err("leases"));
    assert_eq!(after(10, 11, false, stands(10, -1, &[])), Err("leases"));
    assert_eq!(after(10, 11, false, stands(10, 7, &[])), Ok(()));
    assert_eq!(after(10, 11, false, stands(10, 6, &[])), Err("leases"));
    assert_eq!(after(10, 11, false, stands(10, 9, &[b"a"])), Err("leases"));
    assert_eq!(after(10, 11, false, Ending::Stands(None)), Err("leases"));
    assert_eq!(after(10, 18, false, Ending::Stands(None)), Ok(()));
    assert_eq!(after(10, 11, true, stands(10, 9, &[b"a", b"b"])), Ok(()));
    // The first key was there alone at revision 2, which nobody needs to have heard of.
    assert_eq!(after(10, 11, true, stands(10, 9, &[b"a"])), Ok(()));
    assert_eq!(after(10, 11, true, stands(10, 9, &[b"b"])), Err("leases"));
    let mut history = granted_and_renewed();
    history.push(record(ask(true), 2, 2, stands(10, 10, &[b"a", b"b"])));
    let judged = judge(&history, &two_keys(), &[], 0);
    assert!(judged.is_err(), "nobody had shown revision 3 by then");
    history[2] = record(ask(true), 10, 11, stands(10, 9, &[b"a"]));
    let wrote = Ending::Wrote(Outcome::Put(PutResponse {
        header: header(3),
        ..PutResponse::default()
    }));
    let put = Op::put(b"b".to_vec(), b"v".to_vec());
    history.insert(1, record(put, 3, 4, wrote));
    let judged = judge(&history, &two_keys(), &[], 0);
    assert!(judged.is_err(), "revision 3 was known when it was asked");
}

#[test]
fn a_list_has_what_surely_lives_and_nothing_that_ended() {
    let after = |begun, ids: &[i64], shown, ends: &[LeaseEnd]| {
        let mut history = granted_and_renewed();
        let ids = ids.to_vec();
        let listed = Ending::Leases { ids, shown };
        history.push(record(Op::Leases, begun, begun + 1, listed));
        verdict(&history, ends)
    };
    assert_eq!(after(10, &[7], 2, &[]), Ok(()));
    assert_eq!(after(10, &[], 2, &[]), Err("leases"));
    assert_eq!(
        after(10, &[], 1, &[]),
        Ok(()),
        "it may know of no grant yet"
    );
    assert_eq!(after(17, &[], 2, &[]), Ok(()), "its time may be over");
    assert_eq!(after(10, &[7, 7], 2, &[]), Err("leases"));
    assert_eq!(after(10, &[7, 8], 2, &[]), Err("leases"), "nobody wanted 8");
    assert_eq!(after(20, &[7], 2, &[end_at(18)]), Ok(()), "it lags");
    assert_eq!(after(20, &[7], 3, &[end_at(18)]), Err("leases"));
    assert_eq!(after(20, &[], 3, &[end_at(18)]), Ok(()));
}

#[test]
fn a_lease_that_is_granted_again_has_a_life_of_its_own() {
    // The first ends by revision 3 in second 18, the second is granted behind that.
    let again = |begun, ended, revision| {
        let mut history = granted_and_renewed();
        history.push(record(grant(5), begun, ended, granted(revision, 5)));
        history
    };
    let second_end = |seconds| LeaseEnd {
        revision: 4,
        ..end_at(seconds)
    };
    let history = again(18, 19, 3);
    assert_eq!(verdict(&history, &[end_at(18), second_end(23)]), Ok(()));
    let early = verdict(&history, &[end_at(18), second_end(22)]);
    assert_eq!(early, Err("leases"));
    let renewed = |ttl_seconds| {
        let mut history = again(18, 19, 3);
        let renewed = Ending::Renewed { ttl_seconds };
        history.push(record(Op::Renew { id: 7 }, 20, 21, renewed));
        verdict(&history, &[end_at(18)])
    };
    assert_eq!((renewed(5), renewed(10)), (Ok(()), Err("leases")));
    // The end of the first says nothing of the second, however late it is seen.
    assert_eq!(verdict(&again(17, 19, 3), &[end_at(20)]), Ok(()));
    // A grant of what lives is refused; of what is gone it is not.
    let exists = |asked, ends: &[LeaseEnd]| {
        let exists = Ending::Refused(Refusal::Lease(LeaseError::Exists));
        let mut history = granted_and_renewed();
        history.push(record(grant(5), asked, asked + 1, exists));
        verdict(&history, ends)
    };
    assert_eq!(exists(10, &[]), Ok(()));
    assert_eq!(exists(19, &[end_at(18)]), Err("leases"));
    assert_eq!(exists(18, &[end_at(18)]), Ok(()));
}

#[test]
fn a_revocation_behind_which_a_lease_is_granted_again_is_no_excuse_for_an_end_of_that() {
    // Both are under way at once; the revocation took revision 4, in which the keys of the first life went.
    let gone = |granted_at| {
        let mut chronicle = two_keys();
        let keys = ["a", "b"].map(|key| (Rc::<[u8]>::from(key.as_bytes()), None));
        let learnt = chronicle.learn_revision(4, keys.into(), Duration::from_secs(10));
        learnt.expect("both were there");
        let mut history = granted_and_renewed();
        history.push(record(Op::Revoke { id: 7 }, 10, 12, revoked(4)));
        history.push(record(grant(10), 11, 13, granted(granted_at, 10)));
        let gone = Ending::Renewed { ttl_seconds: 0 };
        history.push(record(Op::Renew { id: 7 }, 14, 15, gone));
        judge(&history, &chronicle, &[], 0).map_err(|failure| failure.judge)
    };
    assert_eq!(gone(4), Err("leases"));
    assert_eq!(
        gone(3),
        Ok(()),
        "a grant before it, by what the answers say"
    );
}

#[test]
fn a_revocation_that_is_refused_found_nothing_and_did_nothing() {
    let after = |revocations: Vec<Record>, ends: &[LeaseEnd]| {
        let mut history = granted_and_renewed();
        history.extend(revocations);
        verdict(&history, ends)
    };
    let revoke = |begun, ending| record(Op::Revoke { id: 7 }, begun, begun + 1, ending);
    // It lives until second 18.
    assert_eq!(after(vec![revoke(10, not_there())], &[]), Err("leases"));
    assert_eq!(after(vec![revoke(18, not_there())], &[]), Ok(()));
    let other = revoke(10, Ending::Lost);
    assert_eq!(after(vec![other, revoke(12, not_there())], &[]), Ok(()));
    // What was refused is no excuse for an end that nobody else asked for.
    let early = after(vec![revoke(17, not_there())], &[end_at(17)]);
    assert_eq!(early, Err("leases"));
}

#[test]
fn a_revocation_may_meet_the_life_that_begins_when_another_ran_out() {
    // The keys of the first life go in revision 4 because its time is over, the next is granted, and the revocation that
    // was under way ends that; it has no keys, so the answer names revision 4, too.
    let met = |first| {
        let mut chronicle = two_keys();
        let keys = ["a", "b"].map(|key| (Rc::<[u8]>::from(key.as_bytes()), None));
        let learnt = chronicle.learn_revision(4, keys.into(), Duration::from_secs(first));
        learnt.expect("both were there");
        let mut history = granted_and_renewed();
        history.push(record(Op::Revoke { id: 7 }, first, first + 2, revoked(4)));
        history.push(record(grant(10), first, first + 1, granted(4, 10)));
        let gone = Ending::Renewed { ttl_seconds: 0 };
        history.push(record(Op::Renew { id: 7 }, first + 3, first + 4, gone));
        judge(&history, &chronicle, &[], 0).map_err(|failure| failure.judge)
    };
    assert_eq!(met(17), Ok(()));
    assert_eq!(met(12), Err("leases"), "the first still had its time");
}
