//! Why the log cannot be opened or written.

use std::io;
use std::path::{Path, PathBuf};

use metastore_core::wal::{Corruption, ReplayError};

/// Each text is one line that names the path and, where there is a choice, what to do.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused. Final: what had been written since the last sync is in an unknown state, so
    /// nothing is tried again and the member must stop.
    #[error("{path}: cannot {action}: {source}{}", advice(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A segment is damaged, or is not of this log.
    #[error("{path}: {corruption}")]
    Corrupt {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong, and at which offset.
        corruption: Corruption,
    },
    /// The records do not fit together.
    #[error("{path}: {error}")]
    Inconsistent {
        /// The segment in which this shows, or the directory when it shows at the end.
        path: PathBuf,
        /// What does not fit.
        error: ReplayError,
    },
    /// There are no segments although the member had a log.
    #[error(
        "{dir}: the log is missing although this member has been started before; put its files back, or remove this member from the cluster and add it anew"
    )]
    Missing {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A segment in the middle of the chain is missing.
    #[error(
        "{path}: this segment of the log is missing; put it back, or remove this member from the cluster and add it anew"
    )]
    SegmentMissing {
        /// The path the segment should have.
        path: PathBuf,
    },
    /// A new log was to be made where one with contents is.
    #[error(
        "{dir}: there is a log already although the data directory names no member; restore the file `identity`, or empty the data directory to start anew"
    )]
    AlreadyThere {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A record is larger than any batch may be. A fault of the caller; the log stops.
    #[error("a record of {bytes} bytes does not fit into a batch of the log")]
    TooLarge {
        /// The record's encoded length.
        bytes: usize,
    },
    /// The log failed before and accepts nothing any more.
    #[error("the log stopped after an earlier error")]
    Stopped,
}

impl WalError {
    /// For `map_err`: what was tried on which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
        let path = path.to_owned();
        move |source| WalError::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the disk was full, which calls for an alarm rather than a replacement.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, WalError::Io { source, .. } if out_of_space(source))
    }
}

fn advice(source: &io::Error) -> &'static str {
    if out_of_space(source) {
        "; free space on this file system and start the member again"
    } else if source.kind() == io::ErrorKind::FileTooLarge {
        "; raise the limit on the size of files (ulimit -f) and start the member again"
    } else {
        ""
    }
}

fn out_of_space(source: &io::Error) -> bool {
    matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
