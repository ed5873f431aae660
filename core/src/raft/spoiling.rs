//! What faults on purpose make of a recovered state and log; see [`crate::plant`].

use metastore_proto::etcdserverpb::TxnRequest;
use openraft::EntryPayload;

use super::log_store::RecoveredLog;
use super::machine::Replica;
use crate::command::{Command, Request};
use crate::plant::{Plant, Planted};

/// As they were recovered, unless something is planted.
pub(crate) fn spoilt(
    planted: Planted,
    mut replica: Replica,
    mut log: RecoveredLog,
) -> (Replica, RecoveredLog) {
    if planted.is(Plant::ForgetsCompaction) {
        replica.state.forget_compaction();
    }
    if planted.is(Plant::ReusesRevision) {
        let last = log.entries.iter_mut().rev().find(|entry| {
            matches!(&entry.payload, EntryPayload::Normal(command)
                if matches!(command.request(), Request::Put(_)))
        });
        if let Some(entry) = last {
            entry.payload = EntryPayload::Blank;
        }
    }
    if planted.is(Plant::TearsTransaction) {
        for entry in log.entries.iter_mut().rev() {
            if let EntryPayload::Normal(command) = &entry.payload
                && let Request::Txn(txn) = command.request()
                && txn.success.len() > 1
            {
                entry.payload = EntryPayload::Normal(torn(txn));
                break;
            }
        }
    }
    (replica, log)
}

fn torn(txn: &TxnRequest) -> Command {
    let mut first = txn.clone();
    first.success.truncate(1);
    Request::Txn(first).into()
}
