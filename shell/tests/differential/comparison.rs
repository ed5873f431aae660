//! When two servers' answers to one request count as the same.
//!
//! Everything in an answer is compared, after steps that remove only what no client may rely on:
//!
//! - The ids of cluster and member and the raft term belong to a cluster; here only whether they are
//!   filled in is compared. The revision in a header is compared like all data.
//! - Keys that tie in a sort by something other than the key have no specified order: within such a
//!   tie both answers are put in key order. If the answer was cut by a limit inside a tie, which of
//!   the tied keys were returned is unspecified too: then their number and the attribute they tie in
//!   must agree, and everything before the tie exactly.
//! - The seconds a lease has left may differ by as much as the two countdowns may be apart; the keys of a
//!   lease and the list of leases have no order to rely on. A chosen ID is compared only in being positive.

use metastore_proto::{
    etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader, range_request::SortTarget},
    mvccpb::KeyValue,
};

use super::known_differences::KnownDifference;
use crate::cluster::operation::{Answer, Operation, for_each_range};

/// What the two servers said, as it was compared, where it differs.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) expected: String,
    pub(crate) answered: String,
}

impl Difference {
    /// The same, with what it is about in front.
    pub(crate) fn about(self, what: &str) -> Self {
        Self {
            expected: format!("of {what}\n{}", self.expected),
            answered: self.answered,
        }
    }
}

/// What the comparison is told beside the answers.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) known: &'a [KnownDifference],
    /// How far the countdowns of one lease may be apart on the two servers.
    pub(crate) seconds_apart: i64,
}

/// `None` when `answered` is what `reference` demands after rewriting it by the known differences.
/// Adds to `used` for each known difference that changed the reference's answer.
pub(crate) fn difference(
    operation: &Operation,
    answered: &Answer,
    reference: &Answer,
    rules: Rules<'_>,
    used: &mut [u64],
) -> Option<Difference> {
    let mut expected = reference.clone();
    for (known, used) in rules.known.iter().zip(used) {
        let before = expected.clone();
        (known.rewrite)(operation, answered, &mut expected);
        *used += u64::from(before != expected);
    }
    let mut answered = answered.clone();
    for answer in [&mut answered, &mut expected] {
        for header in answer.headers_mut() {
            keep_only_whether_ids_are_filled(header);
        }
        forget_order_and_choice_of_leases(operation, answer);
    }
    forgive_seconds_apart(&mut answered, &mut expected, rules.seconds_apart);
    for_each_range(
        operation,
        &mut answered,
        &mut expected,
        &mut put_ties_in_key_order,
    );
    (answered != expected).then(|| Difference {
        expected: format!("{expected:#?}"),
        answered: format!("{answered:#?}"),
    })
}

/// A sub-answer's header has no ids, so only the outermost header is ever given to this.
pub(crate) fn keep_only_whether_ids_are_filled(header: &mut ResponseHeader) {
    header.cluster_id = header.cluster_id.min(1);
    header.member_id = header.member_id.min(1);
    header.raft_term = header.raft_term.min(1);
}

fn forget_order_and_choice_of_leases(operation: &Operation, answer: &mut Answer) {
    match answer {
        Answer::TimeToLive(answer) => answer.keys.sort(),
        Answer::Leases(answer) => answer.leases.sort_by_key(|lease| lease.id),
        Answer::Grant(answer) if matches!(operation, Operation::GrantAnyId { .. }) => {
            answer.id = answer.id.signum();
        }
        _ => {}
    }
}

fn forgive_seconds_apart(answered: &mut Answer, expected: &mut Answer, most: i64) {
    if let (Answer::TimeToLive(answered), Answer::TimeToLive(expected)) = (answered, expected) {
        let left = 0..=answered.granted_ttl;
        if left.contains(&answered.ttl)
            && left.contains(&expected.ttl)
            && answered.ttl.abs_diff(expected.ttl) <= most.unsigned_abs()
        {
            answered.ttl = expected.ttl;
        }
    }
}

fn put_ties_in_key_order(
    request: &RangeRequest,
    left: &mut RangeResponse,
    right: &mut RangeResponse,
) {
    let Some(target) = tying_target(request) else {
        return;
    };
    let hidden = target == SortTarget::Value && request.keys_only;
    for answer in [&mut *left, &mut *right] {
        for tie in ties(&mut answer.kvs, target, hidden) {
            tie.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }
    if !(left.more && right.more && left.kvs.len() == right.kvs.len()) {
        return;
    }
    let last_of_left = ties(&mut left.kvs, target, hidden).pop();
    let last_of_right = ties(&mut right.kvs, target, hidden).pop();
    if let (Some(left), Some(right)) = (last_of_left, last_of_right)
        && left.len() == right.len()
        && left != right
        && (hidden || attribute(&left[0], target) == attribute(&right[0], target))
    {
        for kv in left.iter_mut().chain(right) {
            *kv = KeyValue::default();
        }
    }
}

/// The attribute a range is sorted by, where two keys can be equal in it.
fn tying_target(request: &RangeRequest) -> Option<SortTarget> {
    match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Key) | Err(_) => None,
        Ok(target) => Some(target),
    }
}

/// Cuts sorted records into runs of equal attribute. With `hidden` the answer does not show the
/// attribute (values sorted by, but left out), so all records are one run.
fn ties(kvs: &mut [KeyValue], target: SortTarget, hidden: bool) -> Vec<&mut [KeyValue]> {
    kvs.chunk_by_mut(|a, b| hidden || attribute(a, target) == attribute(b, target))
        .collect()
}

fn attribute(kv: &KeyValue, target: SortTarget) -> (i64, &[u8]) {
    match target {
        SortTarget::Key => (0, &kv.key),
        SortTarget::Version => (kv.version, &[]),
        SortTarget::Create => (kv.create_revision, &[]),
        SortTarget::Mod => (kv.mod_revision, &[]),
        SortTarget::Value => (0, &kv.value),
    }
}
