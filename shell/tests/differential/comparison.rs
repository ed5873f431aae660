//! When two servers' answers to one request count as the same.
//!
//! Everything in an answer is compared, after two steps that remove only what no client may rely on:
//!
//! - The ids of cluster and member and the raft term belong to a cluster; here only whether they are
//!   filled in is compared. The revision in a header is compared like all data.
//! - Keys that tie in a sort by something other than the key have no specified order: within such a
//!   tie both answers are put in key order. If the answer was cut by a limit inside a tie, which of
//!   the tied keys were returned is unspecified too: then their number and the attribute they tie in
//!   must agree, and everything before the tie exactly.

use metastore_proto::{
    etcdserverpb::{RangeRequest, RangeResponse, range_request::SortTarget},
    mvccpb::KeyValue,
};

use super::known_differences::KnownDifference;
use crate::cluster::operation::{Answer, Operation, for_each_range};

/// The two answers as they were compared, where they differ.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) expected: Answer,
    pub(crate) answered: Answer,
}

/// `None` when `answered` is what `reference` demands after rewriting it by `known`.
/// Adds to `used` for each known difference that changed the reference's answer.
pub(crate) fn difference(
    operation: &Operation,
    answered: &Answer,
    reference: &Answer,
    known: &[KnownDifference],
    used: &mut [u64],
) -> Option<Difference> {
    let mut expected = reference.clone();
    for (known, used) in known.iter().zip(used) {
        let before = expected.clone();
        (known.rewrite)(operation, answered, &mut expected);
        *used += u64::from(before != expected);
    }
    let mut answered = answered.clone();
    for answer in [&mut answered, &mut expected] {
        keep_only_whether_ids_are_filled(answer);
    }
    for_each_range(
        operation,
        &mut answered,
        &mut expected,
        &mut put_ties_in_key_order,
    );
    (answered != expected).then_some(Difference { expected, answered })
}

/// A sub-answer's header has no ids, so only the outermost header is touched.
fn keep_only_whether_ids_are_filled(answer: &mut Answer) {
    if let Some(header) = answer.header_mut() {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
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
