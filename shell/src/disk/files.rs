//! The seam between the store and the file system: the operations whose order and failure decide what survives.
//!
//! Reading is not part of it: nothing is read back while a member runs on what it wrote.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
pub(crate) mod faulty;

/// The writing half of a file system.
pub trait Files: Send + Sync + 'static {
    /// An open file.
    type File: Send + 'static;

    /// Opens a file for writing. With `create` it is made if it is missing and emptied if it is not.
    fn open(&self, path: &Path, create: bool) -> io::Result<Self::File>;
    /// Writes all bytes at the offset; on an error any part of them may have been written.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's contents durable. After an error nothing is known about what was written since the last one.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives the file another name, replacing a file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    type File = File;

    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(create)
            .truncate(create)
            .mode(FILE_MODE)
            .open(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Writes a small file so that after a crash it is there with all of its contents or as it was before.
pub fn write_atomically<F: Files>(files: &F, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .expect("a file in a data directory has a parent");
    let unfinished = path.with_extension("tmp");
    let file = files.open(&unfinished, true)?;
    files.write_at(&file, bytes, 0)?;
    files.sync(&file)?;
    files.rename(&unfinished, path)?;
    files.sync_dir(dir)
}

/// Keys and values are nobody else's business.
pub(super) const FILE_MODE: u32 = 0o600;
