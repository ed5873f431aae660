//! Keeps the log in memory within a number of bytes, however large its entries are.
//!
//! Consensus counts entries: it makes a snapshot every so many and keeps some behind it. A few thousand
//! transactions of the largest size would be gigabytes, so here the same is done by bytes. The snapshot is in
//! memory and costs a copied root; the log on the disk is not touched.

use super::executor::Executor;
use super::log_store::LogStore;
use super::types::Raft;

/// Entries in memory that start a trim, in bytes.
const LOG_BYTES_MAX: usize = 4 << 20;

/// What a trim leaves for followers that lag a little, in bytes.
const LOG_BYTES_KEPT: usize = 1 << 20;

/// Watches the log's bytes and asks consensus to forget.
pub(crate) struct Trimmer {
    log: LogStore,
    /// The index a snapshot was asked for at, until it is there.
    asked: Option<u64>,
}

impl Trimmer {
    pub(crate) fn new(log: LogStore) -> Self {
        Self { log, asked: None }
    }

    /// Bytes of the entries in memory, roughly.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Looks once, and starts what is due. `applied` and `snapshot` are the indexes that the state and the newest
    /// snapshot in memory have reached.
    pub(crate) fn look(
        &mut self,
        executor: &Executor,
        raft: &Raft,
        applied: u64,
        snapshot: Option<u64>,
    ) {
        match self.asked {
            None if self.log.bytes() > LOG_BYTES_MAX => {
                self.asked = Some(applied);
                let raft = raft.clone();
                drop(executor.spawn(async move { raft.trigger().snapshot().await }));
            }
            Some(asked) if snapshot.is_some_and(|snapshot| snapshot >= asked) => {
                self.asked = None;
                if let Some(last) = self.log.last_beyond(LOG_BYTES_KEPT) {
                    let (raft, last) = (raft.clone(), last.min(asked));
                    drop(executor.spawn(async move { raft.trigger().purge_log(last).await }));
                }
            }
            _ => {}
        }
    }
}
