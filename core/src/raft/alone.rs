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
/// Everything in the log is kept, also what is not known to be committed: the commit position on the disk lags, so the
/// end of the log may hold what was acknowledged.
///
/// # Panics
/// If the log is empty: then there is nothing to recover.
pub fn end_alone(log: &mut RecoveredLog, id: u64, peer_urls: Vec<String>) -> Vec<Record> {
    let last = log.entries.last().map(RaftEntry::log_id).or(log.purged);
    let last: LogId = last.expect("a member that took part has a log");
    let vote_term = log.vote.map_or(0, |vote: Vote| vote.leader_id.term);
    let term = vote_term.max(last.committed_leader_id().term);
    let leader = Vote::new_committed(term, id).leader_id.to_committed();
    let position = LogId::new(leader, last.index() + 1);
    let peer = Peer {
        urls: peer_urls,
        joins: true,
    };
    let membership = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, peer)]));
    let membership = membership.expect("the one voter is a member");
    let entry = Entry::new(position, EntryPayload::Membership(membership));
    let records = vec![
        Record::Entry {
            index: position.index(),
            payload: codec::encode(&entry),
        },
        Record::Committed(codec::encode(&position)),
    ];
    log.entries.push(entry);
    log.committed = Some(position);
    records
}
