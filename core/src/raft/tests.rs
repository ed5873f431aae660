//! openraft's own conformance suite for log stores and state machines, run on ours.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::rc::Rc;
use std::task::Poll;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageError};

use super::executor::Executor;
use super::log_store::{LogStore, RecoveredLog};
use super::machine::{Builder, Image, Machine, Replica};
use super::outbox::{Outbox, SharedOutbox};
use super::types::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use crate::member::Settings;
use crate::output::DiskOp;

/// A log store with a disk that is ready at once.
struct WithDisk {
    log: LogStore,
    outbox: SharedOutbox,
}

impl WithDisk {
    /// Confirms every write that waits.
    fn spin(&self) {
        loop {
            let next = self.outbox.borrow_mut().next_disk();
            let Some(op) = next else { return };
            if let DiskOp::Write { ticket, .. } = op {
                self.outbox.borrow_mut().confirm_writes(ticket, &Ok(()));
            }
        }
    }
}

impl RaftLogReader<TypeConfig> for WithDisk {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.read_vote().await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for WithDisk {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.log.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut log = self.log.clone();
        let mut saving = Box::pin(async move { log.save_vote(vote).await });
        let early = std::future::poll_fn(|cx| Poll::Ready(saving.poll_unpin(cx).is_ready())).await;
        assert!(!early, "a vote is not saved before the disk says so");
        self.spin();
        saving.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.read_committed().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log.append(entries, callback).await?;
        self.spin();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log.purge(log_id).await
    }
}

/// Our state machine insists on every index; the suite leaves some out. This fills them in.
struct Gapless {
    machine: Machine,
    replica: Rc<RefCell<Replica>>,
}

impl RaftStateMachine<TypeConfig> for Gapless {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            if let Ok((entry, _)) = &next {
                let state = &mut self.replica.borrow_mut().state;
                let first = state.applied().map_or(0, |applied| applied + 1);
                (first..entry.index()).for_each(|index| state.skip(index));
            }
            self.machine.apply(stream::iter([next])).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Image,
    ) -> Result<(), io::Error> {
        self.machine.install_snapshot(meta, image).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.machine.get_current_snapshot().await
    }
}

struct Fresh;

impl StoreBuilder<TypeConfig, WithDisk, Gapless, ()> for Fresh {
    async fn build(&self) -> Result<((), WithDisk, Gapless), StorageError<TypeConfig>> {
        let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(0)));
        let log = LogStore::new(RecoveredLog::default(), Rc::clone(&outbox), 1 << 20);
        let replica = Rc::new(RefCell::new(Replica::new()));
        let settings = Settings::usual(1);
        let machine = Machine::new(&settings, Rc::clone(&replica), Rc::clone(&outbox));
        let machine = Gapless { machine, replica };
        Ok(((), WithDisk { log, outbox }, machine))
    }
}

#[test]
fn the_log_store_and_the_state_machine_conform() {
    let mut executor = Executor::new(0, std::time::Duration::ZERO);
    let run = executor.block_on(Suite::<TypeConfig, WithDisk, Gapless, Fresh, ()>::test_all(
        Fresh,
    ));
    assert!(run.is_ok(), "{run:?}");
}
