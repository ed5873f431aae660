//! From a data directory to a member that can start: the newest checkpoint, then the log after it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use metastore_core::codec;
use metastore_core::member::Recovered;
use metastore_core::mvcc::Store;
use metastore_core::raft::{RecoveredLog, end_alone};
use metastore_core::snapshot::{Decoder, SnapshotError};
use metastore_core::wal::{LogIdentity, Replayed};

use crate::disk::checkpoint_file::{CheckpointError, CheckpointFile, Checkpoints};
use crate::disk::files::RealFiles;
use crate::disk::wal_error::WalError;
use crate::disk::wal_file::{Wal, WalOptions};

/// What the disk held, and the log, open for more.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    pub(crate) wal: Wal<RealFiles>,
    pub(crate) checkpoints: Checkpoints<RealFiles>,
}

impl Opened {
    /// Whether the member has never said anything that lasts: it neither voted nor acknowledged anything.
    pub(crate) fn is_blank(&self) -> bool {
        let log = &self.recovered.log;
        log.vote.is_none() && log.entries.is_empty() && log.purged.is_none()
    }

    /// Makes this member the only one of its cluster, durably.
    pub(crate) fn go_on_alone(
        &mut self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<(), RecoveryError> {
        let log = &mut self.recovered.log;
        for record in end_alone(log, id, peer_urls) {
            self.wal.push(record)?;
        }
        self.wal.commit()?;
        tracing::warn!(
            member_id = format!("{id:x}"),
            "forced a new cluster of this member alone; start no other member of the old one again"
        );
        Ok(())
    }
}

/// Why the data cannot be used. Each text is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{path}: cannot read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path}: {source}; restore the file, or remove the data directory of this member and let it join anew"
    )]
    Damaged {
        path: PathBuf,
        source: SnapshotError,
    },
    #[error("{path}: {what}; the log was written by another version or is damaged")]
    Malformed { path: PathBuf, what: String },
}

/// The directories of one member's data.
pub(crate) struct Directories {
    pub(crate) wal: PathBuf,
    pub(crate) snap: PathBuf,
}

/// Opens what a member left behind. `fresh` says that there is nothing yet, and makes an empty log.
pub(crate) fn open(
    directories: &Directories,
    identity: LogIdentity,
    options: WalOptions,
    fresh: bool,
) -> Result<Opened, RecoveryError> {
    let files = Arc::new(RealFiles);
    let checkpoints = Checkpoints::open(Arc::clone(&files), &directories.snap, options.sync)?;
    if fresh {
        let wal = Wal::create(files, &directories.wal, identity, options)?;
        return Ok(Opened {
            recovered: Recovered::default(),
            wal,
            checkpoints,
        });
    }
    let newest = checkpoints.list()?.into_iter().next();
    let (wal, opened) = Wal::open(
        files,
        &directories.wal,
        identity,
        newest.as_ref().map(|file| file.index),
        options,
    )?;
    if let Some(torn) = &opened.torn {
        tracing::warn!(file = %torn.path.display(), offset = torn.offset, bytes = torn.dropped_bytes,
            "cut a torn tail off the log: a write that was never acknowledged");
    }
    let checkpoint = newest.as_ref().map(load).transpose()?;
    let log =
        decode_log(opened.replayed, newest.as_ref(), checkpoint.as_ref()).map_err(|what| {
            RecoveryError::Malformed {
                path: directories.wal.clone(),
                what,
            }
        })?;
    Ok(Opened {
        recovered: Recovered { checkpoint, log },
        wal,
        checkpoints,
    })
}

fn load(file: &CheckpointFile) -> Result<(Store, Vec<u8>), RecoveryError> {
    let damaged = |source| RecoveryError::Damaged {
        path: file.path.clone(),
        source,
    };
    let mut decoder = Decoder::new();
    for chunk in file.read()? {
        let chunk = chunk.map_err(|source| RecoveryError::Unreadable {
            path: file.path.clone(),
            source,
        })?;
        decoder.push(&chunk).map_err(damaged)?;
    }
    decoder.finish().map_err(damaged)
}

fn decode_log(
    replayed: Replayed,
    file: Option<&CheckpointFile>,
    checkpoint: Option<&(Store, Vec<u8>)>,
) -> Result<RecoveredLog, String> {
    let mut log = RecoveredLog::default();
    if let Some(vote) = replayed.vote {
        log.vote = Some(codec::decode(&vote).map_err(|e| e.to_string())?);
    }
    if let Some(committed) = replayed.committed {
        log.committed = Some(codec::decode(&committed).map_err(|e| e.to_string())?);
    }
    if let (Some(file), Some((_, description))) = (file, checkpoint) {
        let position = metastore_core::raft::position_of(description).map_err(|e| e.to_string())?;
        if position.map(|at| at.index()) != Some(file.index) {
            return Err(format!(
                "the checkpoint named for entry {} holds another",
                file.index
            ));
        }
        log.purged = position;
    }
    for (index, payload) in replayed.entries {
        let entry = codec::decode(&payload).map_err(|e| format!("entry {index}: {e}"))?;
        log.entries.push(entry);
    }
    Ok(log)
}
