//! The bytes of everything that is kept or sent, written down: another layout, be it through another version of consensus,
//! would not read what is on the disks, nor what members of this version say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use metastore_proto::etcdserverpb::PutRequest;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership, StoredMembership};
use serde::Serialize;

use super::*;
use crate::command::{Command, Request as CommandRequest};
use crate::membership::MembershipChange;
use crate::output::Refusal;
use crate::raft::machine::Mark;
use crate::raft::message::{Forwarded, ForwardedEnd};
use crate::raft::network::Reply;
use crate::raft::sending::Chunk;
use crate::raft::types::{Entry, LogId, Peer, SnapshotMeta, Vote};

fn hex(value: &impl Serialize) -> String {
    let bytes = codec::encode(value);
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

fn log_id(term: u64, index: u64) -> LogId {
    let leader = Vote::new_committed(term, 1).leader_id;
    LogId::new(leader.to_committed(), index)
}

fn put() -> Command {
    let put = PutRequest {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
        lease: 7,
        ..PutRequest::default()
    };
    CommandRequest::Put(put).into()
}

/// One that votes, one that joins.
fn membership() -> Membership<u64, Peer> {
    let peer = |id: u64, joins| {
        let urls = vec![format!("http://m{id}")];
        (id, Peer { urls, joins })
    };
    let nodes: BTreeMap<u64, Peer> = [peer(1, true), peer(2, false)].into();
    Membership::new(vec![BTreeSet::from([1])], nodes).expect("every voter is a member")
}

#[test]
fn what_the_log_and_checkpoints_hold() {
    assert_eq!(hex(&Vote::new(5, 3)), "05010300");
    assert_eq!(hex(&Vote::new_committed(5, 3)), "05010301");
    assert_eq!(hex(&log_id(5, 9)), "0509");
    assert_eq!(hex(&log_id(300, 70_000)), "fb2c01fc70110100");
    let entry = |payload| Entry::new(log_id(5, 9), payload);
    assert_eq!(hex(&entry(EntryPayload::Blank)), "050900");
    assert_eq!(
        hex(&entry(EntryPayload::Normal(put()))),
        "0509010a0a080a016b1201761807"
    );
    let members = "01010102010109687474703a2f2f6d3101020109687474703a2f2f6d3200";
    let joins = entry(EntryPayload::Membership(membership()));
    assert_eq!(hex(&joins), format!("050902{members}"));
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(5, 9)),
        last_membership: StoredMembership::new(Some(log_id(5, 8)), membership()),
    };
    assert_eq!(hex(&meta), format!("010509010508{members}00"));
}

#[test]
fn what_members_ask() {
    let vote = Vote::new_committed(5, 3);
    let append = || AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(5, 8)),
        leader_commit: None,
        entries: vec![Entry::new(log_id(5, 9), EntryPayload::Blank)],
    };
    assert_eq!(
        hex(&Request::Append(append())),
        "00050103010105080105090000"
    );
    assert_eq!(
        hex(&Request::AppendInOrder(append())),
        "01050103010105080105090000"
    );
    let ballot = || VoteRequest::new(Vote::new(6, 3), Some(log_id(5, 9)));
    assert_eq!(hex(&Request::Vote(ballot())), "020601030001050900");
    assert_eq!(hex(&Request::PreVote(ballot())), "030601030001050900");
    let chunk = Chunk::new(vote, 1, 2, true, b"frame".as_slice().into());
    assert_eq!(hex(&Request::Chunk(chunk)), "0405010301010201056672616d65");
    let transfer = TransferLeaderRequest::new(vote, 2, Some(log_id(5, 9)));
    assert_eq!(hex(&Request::Transfer(transfer)), "050501030102010509");
    assert_eq!(hex(&Request::Farewell), "06");
    let mark = Mark {
        index: 1000,
        digest: 0xdead_beef,
    };
    assert_eq!(hex(&Request::Compare(vec![mark])), "0701fbe803fcefbeadde");
}

#[test]
fn what_members_answer() {
    let (success, conflict) = (
        AppendEntriesResponse::Success,
        AppendEntriesResponse::Conflict,
    );
    assert_eq!(hex(&Reply::Append(success)), "0000");
    assert_eq!(hex(&Reply::Append(conflict)), "0002");
    let part = AppendEntriesResponse::PartialSuccess(Some(log_id(5, 9)));
    assert_eq!(hex(&Reply::Append(part)), "0001010509");
    let higher = AppendEntriesResponse::HigherVote(Vote::new(6, 3));
    assert_eq!(hex(&Reply::Append(higher)), "000306010300");
    let granted = VoteResponse::new(Vote::new(6, 3), Some(log_id(5, 9)), true);
    assert_eq!(hex(&Reply::Vote(granted)), "010601030001010509");
    let installed = SnapshotResponse::new(Vote::new_committed(5, 3));
    assert_eq!(hex(&Reply::Snapshot(installed)), "0205010301");
    assert_eq!(hex(&Reply::Taken), "04");
    assert_eq!(hex(&Reply::Removed), "05");
    assert_eq!(hex(&Reply::Failed("no".into())), "06026e6f");
}

#[test]
fn what_members_forward() {
    let proposals = Forwarded::Proposals {
        term: 5,
        proposals: vec![(1, put())],
    };
    assert_eq!(hex(&proposals), "000501010a0a080a016b1201761807");
    let end = ForwardedEnd {
        letter: 1,
        number: 2,
        index: 3,
        result: Err(Refusal::NotLeader { leader: Some(2) }),
    };
    assert_eq!(hex(&Forwarded::Ended(vec![end])), "010101020301050102");
    assert_eq!(hex(&Forwarded::AskReadIndex), "02");
    assert_eq!(hex(&Forwarded::ReadIndex { term: 5, index: 9 }), "030509");
    assert_eq!(hex(&Forwarded::NoReadIndex), "04");
    assert_eq!(hex(&Forwarded::AskConfirmation { term: 5 }), "0505");
    assert_eq!(hex(&Forwarded::Confirmation { term: 5 }), "0605");
    let change = Forwarded::Change {
        term: 5,
        change: MembershipChange::Promote { id: 2 },
    };
    assert_eq!(hex(&change), "09050302");
    let changed = Forwarded::Changed {
        index: 9,
        result: Err(Refusal::TimedOut),
    };
    assert_eq!(hex(&changed), "0a090108");
}
