//! The thread that writes checkpoints, beside the log and without hurry, unless the member waits for one.

use std::io;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use metastore_core::output::Checkpoint;
use metastore_core::snapshot::Encoder;

use crate::background;
use crate::disk::checkpoint_file::{CheckpointError, CheckpointFile, Checkpoints, Pace};
use crate::disk::files::RealFiles;
use crate::inbox::Inbox;
use crate::node::Call;

/// Starts the thread; it ends when its sender is gone.
pub(crate) fn spawn(
    files: Checkpoints<RealFiles>,
    work: Receiver<Checkpoint>,
    calls: Inbox,
) -> io::Result<JoinHandle<()>> {
    background::spawn("checkpoint", move || {
        for checkpoint in work {
            let index = checkpoint.index;
            let result = match write(&files, checkpoint) {
                Ok(file) => {
                    tracing::info!(index, bytes = file.bytes, "wrote a checkpoint");
                    Ok(file.bytes)
                }
                Err(error) => {
                    // The log goes on and keeps what the checkpoint would have covered.
                    tracing::error!(error = %error, index, "cannot write a checkpoint; the log keeps growing");
                    Err(error.to_string())
                }
            };
            if calls.tell(Call::Checkpointed { index, result }).is_err() {
                return;
            }
        }
    })
}

fn write(
    files: &Checkpoints<RealFiles>,
    checkpoint: Checkpoint,
) -> Result<CheckpointFile, CheckpointError> {
    let pace = pace(checkpoint.awaited);
    let chunks = Encoder::new(checkpoint.view, &checkpoint.description.encode());
    let file = files.write(checkpoint.index, pace, chunks)?;
    // It stands, whatever becomes of the older ones; the next one tries again.
    if let Err(error) = files.remove_older_than(&file) {
        tracing::warn!(%error, "cannot remove older checkpoints; they take up space");
    }
    Ok(file)
}

/// A member that installs a snapshot votes meanwhile, and its votes must not wait behind the whole of it.
fn pace(awaited: bool) -> Pace {
    if awaited { Pace::Steady } else { Pace::Gentle }
}
