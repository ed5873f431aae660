//! Disaster recovery: a log that goes on with one member, when the others are lost for good.

use std::collections::{BTreeMap, BTreeSet};

use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};

use super::log_store::RecoveredLog;
use super::types::{Entry, LogId, Peer, Vote};
use crate::codec;
use crate::wal::Record;

/// Ends a recovered log with a membership of this member alone, committed by decree. Returns what must be made durable
/// in the log before the member starts.
///
/// Everything in the log is kept that follows its checkpoint, also what is not known to be committed: the commit
/// position on the disk lags, so the end of the log may hold what was acknowledged. An empty log is one of a member that
/// was stopped before it took part: it begins with that membership.
pub fn end_alone(log: &mut RecoveredLog, id: u64, peer_urls: Vec<String>) -> Vec<Record> {
    let mut records = log.join();
    let last = log.entries.last().map(RaftEntry::log_id).or(log.purged);
    let vote_term = log.vote.map_or(0, |vote: Vote| vote.leader_id.term);
    let last_term = last.map_or(0, |last: LogId| last.committed_leader_id().term);
    let leader = Vote::new_committed(vote_term.max(last_term), id).leader_id;
    let index = last.map_or(0, |last| last.index() + 1);
    let position = LogId::new(leader.to_committed(), index);
    let peer = Peer {
        urls: peer_urls,
        joins: true,
    };
    let membership = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, peer)]));
    let membership = membership.expect("the one voter is a member");
    let entry = Entry::new(position, EntryPayload::Membership(membership));
    records.push(Record::Entry {
        index: position.index(),
        payload: codec::encode(&entry),
    });
    records.push(Record::Committed(codec::encode(&position)));
    log.entries.push(entry);
    log.committed = Some(position);
    records
}
