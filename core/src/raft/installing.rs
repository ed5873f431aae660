//! How a snapshot that a leader sent comes to be this member's state: on the disk first, then in consensus.
//!
//! Consensus does one thing after the other, so whatever it waits for holds up its votes and its appends. A large state
//! takes the disk a while, or for ever if the disk is full, and others may need this member's vote meanwhile. Should it
//! then not be installed, since this member has got further by itself or a newer leader does not want it, nothing is
//! lost: what the disk holds is agreed on, and a restart begins there. Nor is it installed over a log that has its last
//! entry: all before is there too, and what follows may be on its way to the disk, of which consensus then loses count.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use openraft::async_runtime::Mutex as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::type_config::TypeConfigExt;

use super::executor::Mutex;
use super::following;
use super::log_store::LogStore;
use super::machine::{Replica, describe};
use super::network::Reply;
use super::outbox::SharedOutbox;
use super::receiving::answered_with;
use super::types::{LogId, Raft, Snapshot, TypeConfig, Vote};
use crate::plant::{Plant, Planted};

/// How long after a failure a snapshot is written again: the disk may have room in a moment.
const PAUSE: Duration = Duration::from_secs(1);

/// Installs snapshots, one after the other. One that is not needed any more is given up before it is written.
#[derive(Clone)]
pub(crate) struct Installer {
    raft: Raft,
    outbox: SharedOutbox,
    log: LogStore,
    replica: Rc<RefCell<Replica>>,
    turn: Rc<Mutex<()>>,
    /// How many there were.
    newest: Rc<Cell<u64>>,
    /// The newest one, while it waits for its turn: those before it are not kept.
    waiting: Rc<RefCell<Option<Snapshot>>>,
    /// False only where it is planted that nobody waits for the disk.
    durable: bool,
}

impl Installer {
    pub(crate) fn new(
        raft: &Raft,
        outbox: &SharedOutbox,
        log: &LogStore,
        replica: &Rc<RefCell<Replica>>,
        planted: Planted,
    ) -> Self {
        Self {
            raft: raft.clone(),
            outbox: Rc::clone(outbox),
            log: log.clone(),
            replica: Rc::clone(replica),
            turn: Rc::new(Mutex::new(())),
            newest: Rc::default(),
            waiting: Rc::default(),
            durable: !planted.is(Plant::InstallsEarly),
        }
    }

    /// Installs a snapshot of the leader with this vote, in place of those before it that have not begun, and says what
    /// came of it.
    pub(crate) fn install(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> impl Future<Output = Reply> + use<> {
        let number = self.newest.get() + 1;
        self.newest.set(number);
        *self.waiting.borrow_mut() = Some(snapshot);
        let this = self.clone();
        async move {
            let turn = Rc::clone(&this.turn);
            let _turn = turn.lock().await;
            let snapshot = match this.newest.get() > number {
                true => None,
                false => this.waiting.borrow_mut().take(),
            };
            let Some(snapshot) = snapshot else {
                return superseded();
            };
            let Some(last) = snapshot.meta.last_log_id else {
                return Reply::Failed("a snapshot of nothing".into());
            };
            if let Err(reply) = this.write(number, vote, last.index(), &snapshot).await {
                return reply;
            }
            match this.has_come_to(vote, last).await {
                Ok(false) => {}
                Ok(true) => return answered_with(vote),
                Err(reply) => return reply,
            }
            let installed = this.raft.install_full_snapshot(vote, snapshot).await;
            installed
                .map(Reply::Snapshot)
                .unwrap_or_else(|error| Reply::Failed(error.to_string()))
        }
    }

    /// Returns when the snapshot is durable, however often it takes; with an answer if it is not needed.
    async fn write(
        &self,
        number: u64,
        vote: Vote,
        index: u64,
        snapshot: &Snapshot,
    ) -> Result<(), Reply> {
        loop {
            self.look_whether_needed(number, vote, index)?;
            let state = (*snapshot.snapshot.view).clone();
            let checkpoint = describe(&snapshot.meta, state, index);
            let written = self.outbox.borrow_mut().checkpoint_awaited(checkpoint);
            if !self.durable {
                return Ok(());
            }
            match written.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => TypeConfig::sleep(PAUSE).await,
                Err(_) => return Err(Reply::Failed("the member is stopping".into())),
            }
        }
    }

    /// Whether the log has the last entry that a snapshot stands for, once consensus follows its leader and has done all
    /// that came before: what this leader appended is in the log then.
    async fn has_come_to(&self, vote: Vote, last: LogId) -> Result<bool, Reply> {
        let nothing = AppendEntriesRequest {
            vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        match self.raft.append_entries(nothing).await {
            Ok(AppendEntriesResponse::HigherVote(own)) => Err(answered_with(own)),
            Ok(_) => Ok(self.log.contains(last)),
            Err(error) => Err(Reply::Failed(error.to_string())),
        }
    }

    fn look_whether_needed(&self, number: u64, vote: Vote, index: u64) -> Result<(), Reply> {
        let own = following::vote(&self.raft);
        let applied = self.replica.borrow().last_applied.map(|id| id.index());
        if own > vote || own == vote && applied >= Some(index) {
            return Err(answered_with(own));
        }
        if self.newest.get() > number {
            return Err(superseded());
        }
        Ok(())
    }
}

fn superseded() -> Reply {
    Reply::Failed("a newer snapshot takes its place".into())
}
