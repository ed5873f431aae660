//! Checkpoint files: written beside, made durable, renamed; read back as a stream. What is in them is the core's affair.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Files;
pub use super::paced_file::Pace;
use super::paced_file::PacedFile;

#[cfg(test)]
mod tests;

/// The directory of a member's checkpoints.
///
/// *Invariant:* a file under a checkpoint's name is complete and durable.
pub struct Checkpoints<F: Files> {
    files: Arc<F>,
    dir: PathBuf,
}

/// A durable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The last log index it covers.
    pub index: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

/// A checkpoint cannot be written, listed, read or removed. The text is one line.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {action}: {source}")]
pub struct CheckpointError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl<F: Files> Checkpoints<F> {
    /// Opens the directory and removes what an interrupted write left behind. With `sync` the newest checkpoint is made
    /// durable, whatever the lives before did; without it the names may be lost in a crash of the machine.
    pub fn open(files: Arc<F>, dir: &Path, sync: bool) -> Result<Checkpoints<F>, CheckpointError> {
        let error = |action| {
            move |source| CheckpointError {
                action,
                path: dir.to_owned(),
                source,
            }
        };
        let failed = error("clear");
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == UNFINISHED)
            {
                files.remove(&path).map_err(failed)?;
            }
        }
        let checkpoints = Checkpoints {
            files,
            dir: dir.to_owned(),
        };
        if sync {
            let files = &checkpoints.files;
            if let Some(newest) = checkpoints.list()?.first() {
                // A life that was told not to sync may have written it; on a clean file this costs nothing.
                let synced = files.open(&newest.path, false);
                synced
                    .and_then(|file| files.sync(&file))
                    .map_err(error("fsync a checkpoint in"))?;
            }
            // The process may have ended after it named a checkpoint and before that was durable.
            files.sync_dir(dir).map_err(error("fsync"))?;
        }
        Ok(checkpoints)
    }

    /// Writes the checkpoint that covers the log up to `index`, and returns when it is durable. One of the same index is
    /// replaced. After an error nothing has changed.
    pub fn write(
        &self,
        index: u64,
        pace: Pace,
        chunks: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<CheckpointFile, CheckpointError> {
        let path = self.path(index);
        let unfinished = path.with_extension(UNFINISHED);
        match self.write_beside(&unfinished, &path, pace, chunks) {
            Ok(bytes) => Ok(CheckpointFile { index, path, bytes }),
            Err(source) => {
                // Give back the space; the error that counts is the first one.
                let _ = self.files.remove(&unfinished);
                Err(CheckpointError {
                    action: "write",
                    path,
                    source,
                })
            }
        }
    }

    /// All checkpoints, newest first.
    pub fn list(&self) -> Result<Vec<CheckpointFile>, CheckpointError> {
        let failed = |source| CheckpointError {
            action: "list",
            path: self.dir.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(index) = index_of(&entry.path()) {
                let bytes = entry.metadata().map_err(failed)?.len();
                found.push(CheckpointFile {
                    index,
                    path: entry.path(),
                    bytes,
                });
            }
        }
        found.sort_unstable_by_key(|file| std::cmp::Reverse(file.index));
        Ok(found)
    }

    /// Removes all checkpoints older than this one, which `write` or `list` returned and which is durable therefore.
    pub fn remove_older_than(&self, kept: &CheckpointFile) -> Result<(), CheckpointError> {
        for old in self
            .list()?
            .into_iter()
            .filter(|file| file.index < kept.index)
        {
            let failed = |source| CheckpointError {
                action: "remove",
                path: old.path.clone(),
                source,
            };
            self.files.remove(&old.path).map_err(failed)?;
        }
        let failed = |source| CheckpointError {
            action: "fsync",
            path: self.dir.clone(),
            source,
        };
        self.files.sync_dir(&self.dir).map_err(failed)
    }

    fn write_beside(
        &self,
        unfinished: &Path,
        path: &Path,
        pace: Pace,
        chunks: impl IntoIterator<Item = Vec<u8>>,
    ) -> io::Result<u64> {
        let file = self.files.open(unfinished, true)?;
        let mut paced = PacedFile::new(&*self.files, file, pace);
        for chunk in chunks {
            paced.append(&chunk)?;
        }
        let (_, bytes) = paced.finish()?;
        self.files.rename(unfinished, path)?;
        if pace != Pace::Unsynced {
            self.files.sync_dir(&self.dir)?;
        }
        Ok(bytes)
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:016x}.{EXTENSION}"))
    }
}

/// Reads a checkpoint from its beginning in chunks of at most 1 MiB; ends after the first error.
pub struct CheckpointReader {
    /// `None` after the end.
    file: Option<File>,
    left: u64,
}

impl CheckpointFile {
    /// Opens it for reading.
    pub fn read(&self) -> Result<CheckpointReader, CheckpointError> {
        let failed = |source| CheckpointError {
            action: "read",
            path: self.path.clone(),
            source,
        };
        let file = File::open(&self.path).map_err(failed)?;
        let left = file.metadata().map_err(failed)?.len();
        Ok(CheckpointReader {
            file: Some(file),
            left,
        })
    }
}

impl Iterator for CheckpointReader {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.left == 0 {
            self.file = None;
        }
        let file = self.file.as_mut()?;
        let mut chunk =
            vec![0; usize::try_from(self.left.min(CHUNK_BYTES_MAX)).expect("a chunk is small")];
        self.left -= chunk.len() as u64;
        match file.read_exact(&mut chunk) {
            Ok(()) => Some(Ok(chunk)),
            Err(error) => {
                self.file = None;
                Some(Err(error))
            }
        }
    }
}

fn index_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let ours = path.extension()? == EXTENSION && stem.len() == 16;
    ours.then(|| u64::from_str_radix(stem, 16).ok())?
}

const EXTENSION: &str = "checkpoint";
const UNFINISHED: &str = "tmp";
const CHUNK_BYTES_MAX: u64 = 1 << 20;
