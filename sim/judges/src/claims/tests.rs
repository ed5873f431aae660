use metastore_core::mvcc::{Changes, Store};
use metastore_proto::etcdserverpb::{LeaseGrantResponse, PutRequest};

use super::super::chronicle::tests::shown_by;
use super::*;

fn moment(ordinal: u64) -> Moment {
    Moment {
        ordinal,
        time: Duration::from_secs(ordinal),
    }
}

fn claim(lease: i64, revision: i64) -> Claim {
    Claim {
        prefix: claim::prefix(b"c/n"),
        key: claim::key(b"c/n", lease),
        lease,
        revision,
    }
}

/// Granted for ten seconds at once.
fn granted(id: i64, at: u64) -> Record {
    let ttl_seconds = 10;
    let answer = LeaseGrantResponse::default();
    Record {
        client: 1,
        op: Op::Grant { id, ttl_seconds },
        begun: moment(at),
        ended: Some((moment(at), Ending::Wrote(Outcome::LeaseGranted(answer)))),
    }
}

fn tenure(lease: i64, revision: i64, since: u64, until: Option<u64>) -> Tenure {
    Tenure {
        client: lease.unsigned_abs(),
        claim: claim(lease, revision),
        since: moment(since),
        until: until.map(Duration::from_secs),
    }
}

/// What a store shows that got these puts.
fn chronicle(puts: &[(&[u8], &[u8])]) -> Chronicle {
    let mut store = Store::new();
    for (key, value) in puts {
        let request = PutRequest {
            key: key.to_vec(),
            value: value.to_vec(),
            ..PutRequest::default()
        };
        let put = store.put(&request, &mut Changes::new());
        put.expect("a fair put");
    }
    let mut chronicle = Chronicle::default();
    let shown = shown_by(&store, 1, 1);
    let learnt = chronicle.learn(1, &shown, Duration::ZERO);
    learnt.expect("an honest store");
    chronicle
}

fn verdict(tenures: &[Tenure]) -> Result<u64, &'static str> {
    let history = [granted(1, 1), granted(2, 2), granted(3, 8)];
    judge(&history, &Chronicle::default(), &[], tenures, 0).map_err(|failure| failure.judge)
}

#[test]
fn a_name_changes_hands_when_its_owner_gives_it_up_or_its_lease_is_over() {
    let given_up = [tenure(1, 5, 3, Some(6)), tenure(2, 6, 6, Some(7))];
    assert_eq!(verdict(&given_up), Ok(1));
    let over = [tenure(1, 5, 3, None), tenure(3, 6, 11, Some(12))];
    assert_eq!(verdict(&over), Ok(1));
}

#[test]
fn two_owners_at_once_are_noticed() {
    let both = [tenure(1, 5, 3, Some(6)), tenure(2, 6, 5, Some(7))];
    assert_eq!(verdict(&both), Err("claims"));
    let early = [tenure(1, 5, 3, None), tenure(2, 6, 9, Some(10))];
    assert_eq!(verdict(&early), Err("claims"));
}

#[test]
fn who_came_later_is_served_later() {
    let jumped = [tenure(1, 7, 3, Some(4)), tenure(2, 6, 5, Some(7))];
    assert_eq!(verdict(&jumped), Err("claims"));
}

#[test]
fn a_look_is_answered_from_its_revision() {
    let chronicle = chronicle(&[(b"c/n/1", b""), (b"c/n/2", b"")]);
    let verdict = |lease, revision, at, place| {
        let look = Look {
            client: 1,
            claim: claim(lease, revision),
            at,
            place,
        };
        judge(&[], &chronicle, &[look], &[], 0).map_err(|failure| failure.judge)
    };
    let behind = Place::Behind(b"c/n/1".to_vec());
    assert_eq!(verdict(1, 2, 3, Place::Owner), Ok(0));
    assert_eq!(verdict(2, 3, 3, behind.clone()), Ok(0));
    assert_eq!(verdict(2, 3, 3, Place::Owner), Err("claims"));
    assert_eq!(verdict(1, 2, 3, Place::Lost), Err("claims"));
    assert_eq!(verdict(2, 3, 2, Place::Lost), Err("claims"));
}

#[test]
fn an_owner_that_writes_after_a_later_one_is_noticed() {
    let marked = |marks: [&[u8]; 2]| {
        let chronicle = chronicle(&marks.map(|mark| (&b"c/mark/n"[..], mark)));
        judge(&[], &chronicle, &[], &[], 0).map_err(|failure| failure.judge)
    };
    assert_eq!(marked([b"4 a", b"9 b"]), Ok(0));
    assert_eq!(marked([b"9 b", b"4 a"]), Err("claims"));
}
