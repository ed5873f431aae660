//! How a snapshot that a leader sent comes to be this member's state: on the disk first, then in consensus.
//!
//! Consensus does one thing after the other, so whatever it waits for holds up its votes and its appends. A large state
//! takes the disk a while, or for ever if the disk is full, and others may need this member's vote meanwhile. Should it
//! then not be installed, since this member has got further by itself or a newer leader does not want it, nothing is
//! lost: what the disk holds is agreed on, and a restart begins there.

use std::time::Duration;

use openraft::type_config::TypeConfigExt;

use super::machine::describe;
use super::network::Reply;
use super::outbox::SharedOutbox;
use super::types::{Raft, Snapshot, TypeConfig, Vote};

/// How long after a failure a snapshot is written again: the disk may have room in a moment.
const PAUSE: Duration = Duration::from_secs(1);

/// Installs a snapshot of the leader with this vote, and says what came of it. `durable` is false only where it is
/// planted that consensus does not wait for the disk.
pub(crate) async fn install(
    raft: Raft,
    outbox: SharedOutbox,
    vote: Vote,
    snapshot: Snapshot,
    durable: bool,
) -> Reply {
    if let Err(reason) = write(&outbox, &snapshot, durable).await {
        return Reply::Failed(reason);
    }
    let installed = raft.install_full_snapshot(vote, snapshot).await;
    installed
        .map(Reply::Snapshot)
        .unwrap_or_else(|error| Reply::Failed(error.to_string()))
}

/// Returns when the snapshot is durable, however often it takes.
async fn write(outbox: &SharedOutbox, snapshot: &Snapshot, durable: bool) -> Result<(), String> {
    let last = snapshot.meta.last_log_id;
    let index = last.ok_or("a snapshot of nothing")?.index();
    loop {
        let state = (*snapshot.snapshot.view).clone();
        let checkpoint = describe(&snapshot.meta, state, index);
        let written = outbox.borrow_mut().checkpoint_awaited(checkpoint);
        if !durable {
            return Ok(());
        }
        match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => TypeConfig::sleep(PAUSE).await,
            Err(_) => return Err(SUPERSEDED.into()),
        }
        if outbox.borrow().awaits_checkpoint() {
            return Err(SUPERSEDED.into());
        }
    }
}

const SUPERSEDED: &str = "another snapshot came before this one was durable";
