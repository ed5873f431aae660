//! Directories as such: made, locked, and durable under their names.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::files::{FILE_MODE, Files};

/// Makes a directory and all above it that are missing, for this user alone. One that is there is left as it is.
///
/// # Errors
/// What the system says.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
}

/// Locks a directory through a file in it, for as long as the value lives. `None` says that another process has it.
///
/// # Errors
/// What the system says, also if it has no locks.
pub(crate) fn lock(file: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(file)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes the name of a directory durable, and the names of all above it, which may have been made with it. Where
/// another file system begins nothing was made, nor where this user may not even look.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_names_to<F: Files>(files: &F, dir: &Path) -> io::Result<()> {
    let device = fs::metadata(dir)?.dev();
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        if fs::metadata(above)?.dev() != device {
            break;
        }
        match files.sync_dir(above) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

const DIR_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::disk::files::faulty::{Fault, FaultyFiles};

    #[test]
    fn the_names_of_all_directories_that_were_made_become_durable() {
        let temp = TempDir::new().expect("a folder");
        let dir = temp.path().join("a/b/c");
        make(&dir).expect("directories");
        let files = FaultyFiles::default();
        sync_names_to(&files, &dir).expect("synced");
        let synced = files.synced_dirs();
        for made_in in ["a/b", "a", ""] {
            let made_in = temp.path().join(made_in);
            assert!(
                synced
                    .iter()
                    .any(|it| it.components().eq(made_in.components())),
                "{made_in:?} in {synced:?}"
            );
        }
        files.inject(Fault::FailSyncDir);
        assert!(sync_names_to(&files, &dir).is_err());
    }

    #[test]
    fn a_relative_name_stands_in_the_working_directory() {
        let files = FaultyFiles::default();
        sync_names_to(&files, Path::new("src/disk")).expect("the tests run where the crate is");
        assert_eq!(files.synced_dirs(), [Path::new("src"), Path::new(".")]);
    }

    #[test]
    fn a_directory_is_locked_once() {
        let temp = TempDir::new().expect("a folder");
        let path = temp.path().join("LOCK");
        let held = lock(&path).expect("a lock");
        assert!(held.is_some());
        assert!(lock(&path).expect("an answer").is_none());
        drop(held);
        assert!(lock(&path).expect("a lock").is_some());
    }
}
