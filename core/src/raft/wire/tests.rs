//! Every kind of message survives the way, and no other bytes do harm.

use std::collections::{BTreeMap, BTreeSet};

use metastore_proto::etcdserverpb::PutRequest;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use proptest::prelude::*;

use super::*;
use crate::command::{Command, Request as CommandRequest};
use crate::kv_error::KvError;
use crate::lease::{LeaseAnswer, LeaseQuery, LeaseQuestion, LeaseStatus};
use crate::membership::MembershipChange;
use crate::output::Refusal;
use crate::raft::machine::Mark;
use crate::raft::message::ForwardedEnd;
use crate::raft::network::Reply;
use crate::raft::sending::Chunk;
use crate::raft::types::{Entry, LogId, Peer, Vote};

fn log_id(term: u64, index: u64) -> LogId {
    let leader = Vote::new_committed(term, 1).leader_id;
    LogId::new(leader.to_committed(), index)
}

fn vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
        |(term, node, committed)| match committed {
            true => Vote::new_committed(term, node),
            false => Vote::new(term, node),
        },
    )
}

fn position() -> impl Strategy<Value = Option<LogId>> {
    prop::option::of((any::<u64>(), any::<u64>()).prop_map(|(term, index)| log_id(term, index)))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn command() -> impl Strategy<Value = Command> {
    (bytes(), bytes(), any::<i64>()).prop_map(|(key, value, lease)| {
        CommandRequest::Put(PutRequest {
            key,
            value,
            lease,
            ..PutRequest::default()
        })
        .into()
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let members = prop::collection::btree_map(any::<u64>(), "[a-z:/]{0,12}", 1..4);
    let membership = members.prop_map(|members| {
        let ids: BTreeSet<u64> = members.keys().copied().collect();
        let peer = |url: String| Peer {
            urls: vec![url],
            joins: true,
        };
        let nodes: BTreeMap<u64, Peer> = members
            .into_iter()
            .map(|(id, url)| (id, peer(url)))
            .collect();
        EntryPayload::Membership(
            Membership::new(vec![ids], nodes).expect("every voter is a member"),
        )
    });
    let payload = prop_oneof![
        command().prop_map(EntryPayload::Normal),
        Just(EntryPayload::Blank),
        membership,
    ];
    (any::<u64>(), any::<u64>(), payload)
        .prop_map(|(term, index, payload)| Entry::new(log_id(term, index), payload))
}

fn asks(request: Request) -> PeerMessage {
    let body = Body::Request(request);
    PeerMessage { call: 0, body }
}

fn request() -> impl Strategy<Value = PeerMessage> {
    let entries = prop::collection::vec(entry(), 0..5);
    let append = (vote(), position(), position(), entries, any::<bool>()).prop_map(
        |(vote, prev_log_id, leader_commit, entries, in_order)| {
            let append = AppendEntriesRequest {
                vote,
                prev_log_id,
                leader_commit,
                entries,
            };
            asks(match in_order {
                true => Request::AppendInOrder(append),
                false => Request::Append(append),
            })
        },
    );
    let ballot =
        (vote(), position(), any::<[bool; 2]>()).prop_map(|(vote, last, [transfer, pre])| {
            let mut request = VoteRequest::new(vote, last);
            request.leadership_transfer = transfer;
            match pre {
                true => asks(Request::PreVote(request)),
                false => asks(Request::Vote(request)),
            }
        });
    let chunk = (vote(), any::<u64>(), any::<u64>(), any::<bool>(), bytes());
    let marks = prop::collection::vec((any::<u64>(), any::<u32>()), 0..5);
    prop_oneof![
        append,
        ballot,
        chunk.prop_map(|(vote, transfer, number, last, frame)| {
            asks(Request::Chunk(Chunk::new(
                vote,
                transfer,
                number,
                last,
                frame.into(),
            )))
        }),
        (vote(), any::<u64>(), position()).prop_map(|(from, to, last)| {
            asks(Request::Transfer(TransferLeaderRequest::new(
                from, to, last,
            )))
        }),
        Just(asks(Request::Farewell)),
        marks.prop_map(|marks| {
            let marks = marks.into_iter();
            asks(Request::Compare(
                marks
                    .map(|(index, digest)| Mark { index, digest })
                    .collect(),
            ))
        }),
    ]
}

fn answers(reply: Reply) -> PeerMessage {
    let body = Body::Reply(reply);
    PeerMessage { call: 0, body }
}

fn reply() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        Just(answers(Reply::Append(AppendEntriesResponse::Success))),
        Just(answers(Reply::Append(AppendEntriesResponse::Conflict))),
        position().prop_map(|at| answers(Reply::Append(AppendEntriesResponse::PartialSuccess(at)))),
        vote().prop_map(|vote| answers(Reply::Append(AppendEntriesResponse::HigherVote(vote)))),
        (vote(), position(), any::<bool>()).prop_map(|(vote, last, granted)| answers(Reply::Vote(
            VoteResponse::new(vote, last, granted)
        ))),
        vote().prop_map(|vote| answers(Reply::Snapshot(SnapshotResponse::new(vote)))),
        Just(answers(Reply::Taken)),
        Just(answers(Reply::Removed)),
        ".{0,20}".prop_map(|reason| answers(Reply::Failed(reason))),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Kv(KvError::Compacted)),
        Just(Refusal::Lease(crate::lease::LeaseError::NotFound)),
        prop::option::of(any::<u64>()).prop_map(|leader| Refusal::NotLeader { leader }),
        Just(Refusal::LeaderChanged),
        Just(Refusal::TimedOut),
        Just(Refusal::TimedOutLeaderLost),
        Just(Refusal::TimedOutDisconnected),
        Just(Refusal::Corrupt),
    ]
}

fn forwards(forwarded: Forwarded) -> PeerMessage {
    let body = Body::Forwarded(forwarded);
    PeerMessage { call: 0, body }
}

fn lease_answer() -> impl Strategy<Value = LeaseAnswer> {
    let keys = prop::collection::btree_set(bytes(), 0..4);
    let status =
        (any::<i64>(), any::<i64>(), keys).prop_map(|(ttl, remaining, keys)| LeaseStatus {
            ttl_seconds: ttl,
            remaining_seconds: remaining,
            keys: keys.iter().map(Vec::as_slice).collect(),
        });
    prop_oneof![
        any::<i64>().prop_map(|ttl_seconds| LeaseAnswer::Renewed { ttl_seconds }),
        prop::option::of(status).prop_map(LeaseAnswer::TimeToLive),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(|ids| LeaseAnswer::List(ids.into())),
    ]
}

fn change() -> impl Strategy<Value = MembershipChange> {
    let urls = prop::collection::vec("[a-z:/]{0,12}", 0..3);
    (any::<u64>(), urls, 0..5_u8).prop_map(|(id, peer_urls, kind)| match kind {
        0 | 1 => MembershipChange::Add {
            id,
            peer_urls,
            learner: kind == 0,
        },
        2 => MembershipChange::Remove { id },
        3 => MembershipChange::Update { id, peer_urls },
        _ => MembershipChange::Promote { id },
    })
}

fn forwarded() -> impl Strategy<Value = PeerMessage> {
    let end = (
        any::<[u64; 3]>(),
        prop::result::maybe_err(Just(()), refusal()),
    );
    let question = prop_oneof![
        any::<i64>().prop_map(LeaseQuestion::Renew),
        any::<(i64, bool)>().prop_map(|(id, keys)| LeaseQuestion::TimeToLive { id, keys }),
        Just(LeaseQuestion::List),
    ];
    let query =
        (any::<u64>(), question).prop_map(|(token, question)| LeaseQuery { token, question });
    let answer = (
        any::<u64>(),
        prop::result::maybe_err(lease_answer(), refusal()),
    );
    let proposals = prop::collection::vec((any::<u64>(), command()), 0..4);
    let changed = (any::<u64>(), prop::result::maybe_err(Just(()), refusal()));
    prop_oneof![
        (any::<u64>(), proposals)
            .prop_map(|(term, proposals)| forwards(Forwarded::Proposals { term, proposals })),
        prop::collection::vec(end, 0..4).prop_map(|ends| {
            let ends = ends
                .into_iter()
                .map(|([letter, number, index], result)| ForwardedEnd {
                    letter,
                    number,
                    index,
                    result,
                });
            forwards(Forwarded::Ended(ends.collect()))
        }),
        Just(forwards(Forwarded::AskReadIndex)),
        any::<[u64; 2]>().prop_map(|[term, index]| forwards(Forwarded::ReadIndex { term, index })),
        Just(forwards(Forwarded::NoReadIndex)),
        prop::collection::vec(query, 0..4)
            .prop_map(|queries| forwards(Forwarded::AskLeases(queries))),
        prop::collection::vec(answer, 0..3)
            .prop_map(|answers| forwards(Forwarded::LeaseAnswers(answers))),
        (any::<u64>(), change())
            .prop_map(|(term, change)| forwards(Forwarded::Change { term, change })),
        changed.prop_map(|(index, result)| forwards(Forwarded::Changed { index, result })),
    ]
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let any_kind = prop_oneof![request(), reply(), forwarded()];
    (any::<u64>(), any_kind).prop_map(|(call, message)| PeerMessage { call, ..message })
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn a_message_survives_the_way(message in message()) {
        let bytes = encoded(&message);
        let arrived = PeerMessage::decode(&bytes).expect("what was just encoded");
        prop_assert_eq!(encoded(&arrived), bytes);
        prop_assert_eq!(format!("{arrived:?}"), format!("{message:?}"));
        prop_assert_eq!(arrived.is_bulk(), message.is_bulk());
        prop_assert_eq!(arrived.weight(), message.weight());
    }

    #[test]
    fn the_weight_is_about_what_a_message_takes(message in message()) {
        let (weight, length) = (message.weight(), encoded(&message).len());
        prop_assert!(length <= 2 * weight + 256, "{length} bytes weigh {weight}: {message:?}");
    }

    #[test]
    fn a_message_cut_short_is_none(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);
        let kept = cut.index(bytes.len());
        prop_assert!(PeerMessage::decode(&bytes[..kept]).is_err());
    }

    #[test]
    fn changed_bytes_are_refused_or_read_but_never_a_panic(
        message in message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = PeerMessage::decode(&bytes) {
            let again = encoded(&read);
            let stable = PeerMessage::decode(&again).expect("what was just encoded");
            prop_assert_eq!(encoded(&stable), again);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let read = PeerMessage::decode(&bytes);
        prop_assert!(read.is_err() || !bytes.is_empty());
    }
}

/// 253 announces a length of 64 bits: here of 2^40 entries, in a message of a few bytes.
#[test]
fn a_hostile_length_is_refused_before_anything_is_allocated_for_it() {
    let append = Body::Request(Request::Append(AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: None,
        leader_commit: None,
        entries: vec![],
    }));
    let mut bytes = encoded(&PeerMessage {
        call: 1,
        body: append,
    });
    let entries_at = bytes
        .iter()
        .rposition(|byte| *byte == 0)
        .expect("a count of zero")
        - 1;
    let hostile = [253, 0, 0, 0, 0, 0, 1, 0, 0];
    bytes.splice(entries_at..=entries_at, hostile);
    assert!(PeerMessage::decode(&bytes).is_err());
}
