//! What the comparison lets pass and what it catches, on answers made by hand.

use metastore_proto::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
        LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, RangeRequest,
        RangeResponse, RequestOp, ResponseHeader, TxnRequest, range_request::SortTarget,
        request_op::Request,
    },
    mvccpb::KeyValue,
};
use tonic::Code;

use super::{
    comparison::{Rules, difference},
    known_differences::KNOWN_DIFFERENCES,
};
use crate::cluster::operation::{Answer, Operation};

fn kv(key: &str, version: i64, lease: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        version,
        lease,
        create_revision: 2,
        mod_revision: 3,
        value: b"v".to_vec(),
    }
}

fn answer(kvs: &[KeyValue], more: bool) -> RangeResponse {
    RangeResponse {
        header: Some(ResponseHeader {
            cluster_id: 11,
            member_id: 12,
            revision: 9,
            raft_term: 2,
        }),
        kvs: kvs.to_vec(),
        more,
        count: 5,
    }
}

fn same(request: &RangeRequest, answered: &RangeResponse, reference: &RangeResponse) -> bool {
    let used = &mut [0; KNOWN_DIFFERENCES.len()];
    let (answered, reference) = (
        Answer::Range(answered.clone()),
        Answer::Range(reference.clone()),
    );
    difference(
        &Operation::Range(request.clone()),
        &answered,
        &reference,
        RULES,
        used,
    )
    .is_none()
}

fn by_version(limit: i64) -> RangeRequest {
    RangeRequest {
        sort_target: SortTarget::Version as i32,
        limit,
        ..RangeRequest::default()
    }
}

#[test]
fn each_changed_field_of_an_answer_is_a_difference() {
    let good = answer(&[kv("a", 1, 0), kv("b", 1, 0)], false);
    let changes: [fn(&mut RangeResponse); 13] = [
        |a| a.count += 1,
        |a| a.more = true,
        |a| a.kvs.swap(0, 1),
        |a| a.kvs.truncate(1),
        |a| a.kvs[0].version += 1,
        |a| a.kvs[0].lease = 7,
        |a| a.kvs[1].value.clear(),
        |a| a.kvs[1].create_revision += 1,
        |a| a.kvs[1].mod_revision += 1,
        |a| a.header = None,
        |a| a.header.as_mut().expect("a header").revision += 1,
        |a| a.header.as_mut().expect("a header").cluster_id = 0,
        |a| a.header.as_mut().expect("a header").raft_term = 0,
    ];
    assert!(same(&RangeRequest::default(), &good, &good));
    for (index, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(
            !same(&RangeRequest::default(), &bad, &good),
            "change {index} went unseen"
        );
    }
}

#[test]
fn other_ids_of_cluster_and_member_are_no_difference() {
    let mut other = answer(&[], false);
    let header = other.header.as_mut().expect("a header");
    (header.cluster_id, header.member_id, header.raft_term) = (1, 2, 3);
    assert!(same(&RangeRequest::default(), &other, &answer(&[], false)));
}

#[test]
fn refusals_are_compared_by_code_and_by_text() {
    let refused = |code, message: &str| Answer::Refused {
        code,
        message: message.to_owned(),
    };
    let good = refused(Code::NotFound, "gone");
    let operation = Operation::Range(RangeRequest::default());
    let differs =
        |other: &Answer| difference(&operation, other, &good, NOTHING_KNOWN, &mut []).is_some();
    assert!(!differs(&good));
    assert!(differs(&refused(Code::NotFound, "gone.")));
    assert!(differs(&refused(Code::Unknown, "gone")));
    assert!(differs(&Answer::Range(RangeResponse::default())));
}

#[test]
fn tied_keys_may_come_in_any_order_but_untied_ones_may_not() {
    let reference = answer(&[kv("a", 1, 0), kv("b", 1, 0), kv("c", 2, 0)], false);
    let ties_swapped = answer(&[kv("b", 1, 0), kv("a", 1, 0), kv("c", 2, 0)], false);
    let order_broken = answer(&[kv("a", 1, 0), kv("c", 2, 0), kv("b", 1, 0)], false);
    assert!(same(&by_version(0), &ties_swapped, &reference));
    assert!(!same(&by_version(0), &order_broken, &reference));
}

#[test]
fn a_limit_may_cut_a_tie_anywhere_but_nothing_before_it() {
    let reference = answer(&[kv("a", 1, 0), kv("b", 2, 0)], true);
    let other_of_the_tie = answer(&[kv("a", 1, 0), kv("c", 2, 0)], true);
    let other_before_it = answer(&[kv("c", 1, 0), kv("b", 2, 0)], true);
    let not_of_the_tie = answer(&[kv("a", 1, 0), kv("c", 3, 0)], true);
    assert!(same(&by_version(2), &other_of_the_tie, &reference));
    assert!(!same(&by_version(2), &other_before_it, &reference));
    assert!(!same(&by_version(2), &not_of_the_tie, &reference));
}

#[test]
fn the_lease_of_keys_only_must_be_what_the_newer_api_says() {
    let mut request = RangeRequest {
        keys_only: true,
        ..RangeRequest::default()
    };
    let old = answer(&[kv("a", 1, 7)], false);
    let new = answer(&[kv("a", 1, 0)], false);
    assert!(same(&request, &new, &old));
    assert!(!same(&request, &old, &old));
    request.sort_target = SortTarget::Value as i32;
    assert!(same(&request, &old, &old));
    assert!(!same(&request, &new, &old));
}

#[test]
fn an_unknown_sort_order_must_be_refused_in_the_words_of_the_newer_api() {
    let request = RangeRequest {
        key: b"a".to_vec(),
        sort_order: 3,
        ..RangeRequest::default()
    };
    let operation = Operation::Range(request);
    let old = Answer::Range(answer(&[kv("a", 1, 0)], false));
    let differs = |answered: &Answer| {
        let used = &mut [0; KNOWN_DIFFERENCES.len()];
        difference(&operation, answered, &old, RULES, used).is_some()
    };
    let refused = |message: &str| Answer::Refused {
        code: Code::InvalidArgument,
        message: message.to_owned(),
    };
    assert!(!differs(&refused("etcdserver: invalid sort option")));
    assert!(differs(&refused("etcdserver: key is not provided")));
    assert!(differs(&old));
}

#[test]
fn another_fault_of_a_transaction_may_be_named_only_where_both_can_be_there() {
    let range = op(Request::RequestRange(RangeRequest {
        key: b"a".to_vec(),
        revision: 99,
        ..RangeRequest::default()
    }));
    let put = op(Request::RequestPut(PutRequest {
        key: b"a".to_vec(),
        lease: 404,
        ..PutRequest::default()
    }));
    let refused = |code, message: &str| Answer::Refused {
        code,
        message: message.to_owned(),
    };
    let old = refused(Code::NotFound, "etcdserver: requested lease not found");
    let new = refused(
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let differs = |success: &[RequestOp], answered: &Answer| {
        let operation = Operation::Txn(TxnRequest {
            success: success.to_vec(),
            ..TxnRequest::default()
        });
        let used = &mut [0; KNOWN_DIFFERENCES.len()];
        difference(&operation, answered, &old, RULES, used).is_some()
    };
    assert!(!differs(&[range.clone(), put.clone()], &new));
    assert!(!differs(&[put.clone(), range.clone()], &old));
    assert!(differs(&[put.clone(), range.clone()], &new));
    assert!(differs(&[put], &new));
    assert!(differs(&[range], &new));
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[test]
fn a_lease_is_compared_but_for_the_order_of_its_keys_and_a_few_seconds() {
    let good = LeaseTimeToLiveResponse {
        header: answer(&[], false).header,
        id: 7,
        ttl: 90,
        granted_ttl: 100,
        keys: vec![b"a".to_vec(), b"b".to_vec()],
    };
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    let passes = |change: fn(&mut LeaseTimeToLiveResponse)| {
        let mut other = good.clone();
        change(&mut other);
        let (other, good) = (Answer::TimeToLive(other), Answer::TimeToLive(good.clone()));
        let operation = Operation::TimeToLive(request);
        difference(&operation, &other, &good, NOTHING_KNOWN, &mut []).is_none()
    };
    assert!(passes(|_| {}));
    assert!(passes(|a| a.ttl += 3));
    assert!(passes(|a| a.keys.reverse()));
    let changes: [fn(&mut LeaseTimeToLiveResponse); 7] = [
        |a| a.ttl += 4,
        |a| a.ttl -= 4,
        |a| a.ttl = -1,
        |a| a.granted_ttl += 1,
        |a| a.id = 8,
        |a| a.keys.truncate(1),
        |a| a.header.as_mut().expect("a header").revision += 1,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert!(!passes(change), "change {index} went unseen");
    }
}

#[test]
fn more_seconds_than_were_granted_are_a_difference() {
    let lease = |ttl| {
        Answer::TimeToLive(LeaseTimeToLiveResponse {
            ttl,
            granted_ttl: 100,
            ..LeaseTimeToLiveResponse::default()
        })
    };
    let operation = Operation::TimeToLive(LeaseTimeToLiveRequest::default());
    let differs =
        |ttl| difference(&operation, &lease(ttl), &lease(99), NOTHING_KNOWN, &mut []).is_some();
    assert!(!differs(100));
    assert!(differs(101));
}

#[test]
fn a_list_of_leases_is_a_set_and_every_renewal_counts() {
    let list = |ids: &[i64]| {
        Answer::Leases(LeaseLeasesResponse {
            header: None,
            leases: ids.iter().map(|id| LeaseStatus { id: *id }).collect(),
        })
    };
    let differs = |operation: &Operation, left: &Answer, right: &Answer| {
        difference(operation, left, right, NOTHING_KNOWN, &mut []).is_some()
    };
    assert!(!differs(
        &Operation::Leases,
        &list(&[1, -5]),
        &list(&[-5, 1])
    ));
    assert!(differs(&Operation::Leases, &list(&[1]), &list(&[1, 1])));
    let renewal = |ttl| LeaseKeepAliveResponse {
        header: None,
        id: 7,
        ttl,
    };
    let renewals = |ttls: &[i64]| Answer::KeepAlive(ttls.iter().copied().map(renewal).collect());
    let operation = Operation::KeepAlive(Vec::new());
    assert!(differs(&operation, &renewals(&[9, 0]), &renewals(&[0, 9])));
    assert!(differs(&operation, &renewals(&[9]), &renewals(&[9, 9])));
}

#[test]
fn a_chosen_id_must_be_positive_and_a_given_one_the_same() {
    let granted = |id| {
        Answer::Grant(LeaseGrantResponse {
            id,
            ..LeaseGrantResponse::default()
        })
    };
    let any = Operation::GrantAnyId { ttl: 9 };
    let given = Operation::Grant(LeaseGrantRequest { id: 5, ttl: 9 });
    let differs = |operation: &Operation, id| {
        difference(operation, &granted(id), &granted(5), NOTHING_KNOWN, &mut []).is_some()
    };
    assert!(!differs(&any, 6));
    assert!(differs(&any, -6));
    assert!(differs(&any, 0));
    assert!(differs(&given, 6));
}

const SECONDS_APART: i64 = 3;
const NOTHING_KNOWN: Rules<'_> = Rules {
    known: &[],
    seconds_apart: SECONDS_APART,
};
const RULES: Rules<'_> = Rules {
    known: &KNOWN_DIFFERENCES,
    seconds_apart: SECONDS_APART,
};
