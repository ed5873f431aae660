//! The data directory: its layout, its lock, its version, and whose it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directories;
use super::files::{Files, RealFiles, write_atomically};

#[cfg(test)]
mod tests;

/// A data directory that this process alone may use, until the value is dropped.
///
/// ```text
/// <data-dir>/version        the layout's version, a decimal number
///            LOCK           locked while a process uses the directory
///            identity       whose it is; written last when a member is made
///            member/wal/    the log
///            member/snap/   checkpoints
/// ```
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Option<MemberIdentity>,
    /// The directory of the log, if it is elsewhere.
    log: Option<LogDir>,
    _lock: File,
}

/// A directory of its own for the log.
#[derive(Debug)]
struct LogDir {
    path: PathBuf,
    _lock: File,
}

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberIdentity {
    /// The cluster's id.
    #[serde(with = "hex_id")]
    pub cluster_id: u64,
    /// The member's id.
    #[serde(with = "hex_id")]
    pub member_id: u64,
    /// The member's name when its data was made.
    pub name: String,
}

/// Why the directory cannot be used. Each text is one line; none of these left anything changed, except that an empty
/// directory may have got some of its files.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The path is something else.
    #[error("data directory {path}: this is not a directory; give another path with --data-dir")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error(
        "data directory {path}: another process is using it; stop that one, or give another path with --data-dir"
    )]
    Locked {
        /// The path.
        path: PathBuf,
    },
    /// The process may not write there.
    #[error(
        "data directory {path}: no permission to use it: it belongs to user {owner} and has mode {mode:o}; change its owner, or give another path with --data-dir"
    )]
    NotPermitted {
        /// The path, or the nearest one above it that exists.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// The permission bits.
        mode: u32,
    },
    /// The file system is mounted read-only.
    #[error(
        "data directory {path}: the file system is read-only; mount it for writing, or give another path with --data-dir"
    )]
    ReadOnly {
        /// The path.
        path: PathBuf,
    },
    /// A later version of this program made it.
    #[error(
        "data directory {path}: its layout has version {found:?} but this program reads version {LAYOUT_VERSION}; start the version that made it"
    )]
    OtherVersion {
        /// The path.
        path: PathBuf,
        /// What stands in the file.
        found: String,
    },
    /// etcd made it.
    #[error(
        "data directory {path}: it holds the data of an etcd member, which is not read directly; give an empty path with --data-dir and copy the keys over from the running etcd"
    )]
    OfEtcd {
        /// The path.
        path: PathBuf,
    },
    /// Somebody made it, but not this program.
    #[error(
        "data directory {path}: it holds a folder `member` but no file `version`, so this program did not make it; give another path with --data-dir"
    )]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another member.
    #[error("data directory {path}: it belongs to member {:?} ({:x}) of cluster {:x}, but this is member {:?} ({:x}) of cluster {:x}; give this member its own path with --data-dir", .found.name, .found.member_id, .found.cluster_id, .expected.name, .expected.member_id, .expected.cluster_id)]
    OfAnother {
        /// The path.
        path: PathBuf,
        /// Whose it is.
        found: Box<MemberIdentity>,
        /// Who asked for it.
        expected: Box<MemberIdentity>,
    },
    /// The identity cannot be read.
    #[error(
        "data directory {path}: the file `identity` is damaged ({reason}); restore it, or remove this member from the cluster and add it anew"
    )]
    IdentityDamaged {
        /// The path.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Another process uses the directory of the log.
    #[error(
        "log directory {path}: another process is using it; stop that one, or give another path with --wal-dir"
    )]
    LogLocked {
        /// The path.
        path: PathBuf,
    },
    /// The directory of the log cannot be used.
    #[error(
        "log directory {path}: cannot {action} it: {source}; change --wal-dir, or the rights on that path"
    )]
    LogUnusable {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another error of the operating system.
    #[error("data directory {path}: cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the directory, makes it if it is missing, and locks it.
    pub fn open(root: &Path) -> Result<DataDir, DataDirError> {
        refuse_what_is_not_ours(root)?;
        make_dir(root)?;
        let lock = lock(root)?;
        // Only now nobody else can be making it.
        refuse_what_is_not_ours(root)?;
        let version = root.join("version");
        if !exists(&version)? {
            write_atomically(
                &RealFiles,
                &version,
                format!("{LAYOUT_VERSION}\n").as_bytes(),
            )
            .map_err(|error| failed("write", &version, error))?;
        }
        let member = root.join("member");
        for dir in [&member, &member.join("wal"), &member.join("snap")] {
            make_dir(dir)?;
        }
        for dir in [&member, root] {
            sync_dir(dir)?;
        }
        let identity = read_identity(root)?;
        Ok(DataDir {
            root: root.to_owned(),
            identity,
            log: None,
            _lock: lock,
        })
    }

    /// Has the log elsewhere, in a directory that this process alone may use until the value is dropped: copies of one
    /// data directory may name it. A new member's is made if it is missing.
    ///
    /// ```text
    /// <wal-dir>/wal.lock        locked while a process uses the directory
    ///           *.wal           the log
    /// ```
    pub fn keep_log_in(&mut self, path: &Path) -> Result<(), DataDirError> {
        let failed = |action| {
            move |source| DataDirError::LogUnusable {
                action,
                path: path.to_owned(),
                source,
            }
        };
        if self.identity.is_none() {
            directories::make(path).map_err(failed("make"))?;
        }
        // Not the name of the other lock: it may be the same directory.
        let lock = directories::lock(&path.join("wal.lock")).map_err(failed("lock"))?;
        let lock = lock.ok_or_else(|| DataDirError::LogLocked {
            path: path.to_owned(),
        })?;
        self.log = Some(LogDir {
            path: path.to_owned(),
            _lock: lock,
        });
        Ok(())
    }

    /// Whose data it is; `None` in a new directory, or when the making of a member was interrupted.
    pub fn identity(&self) -> Option<&MemberIdentity> {
        self.identity.as_ref()
    }

    /// Refuses a directory that is another member's. The name may change; the ids may not.
    pub fn expect(&self, expected: &MemberIdentity) -> Result<(), DataDirError> {
        match &self.identity {
            Some(found)
                if (found.cluster_id, found.member_id)
                    != (expected.cluster_id, expected.member_id) =>
            {
                Err(DataDirError::OfAnother {
                    path: self.root.clone(),
                    found: Box::new(found.clone()),
                    expected: Box::new(expected.clone()),
                })
            }
            _ => Ok(()),
        }
    }

    /// Makes the data this member's, durably with every name on the way to it. To be called when its log has been
    /// created: from then on a missing log is an error.
    ///
    /// # Panics
    ///
    /// When the directory is somebody's already.
    pub fn claim<F: Files>(
        &mut self,
        files: &F,
        identity: MemberIdentity,
    ) -> Result<(), DataDirError> {
        assert!(
            self.identity.is_none(),
            "a data directory never changes hands"
        );
        let log = self.log.as_ref().map(|log| &log.path);
        for dir in [Some(&self.root), log].into_iter().flatten() {
            directories::sync_names_to(files, dir)
                .map_err(|error| failed("fsync what holds", dir, error))?;
        }
        let path = self.root.join("identity");
        let text = serde_json::to_vec_pretty(&identity).expect("two numbers and a string are JSON");
        write_atomically(files, &path, &text).map_err(|error| failed("write", &path, error))?;
        self.identity = Some(identity);
        Ok(())
    }

    /// Where the log is.
    pub fn wal_dir(&self) -> PathBuf {
        let elsewhere = self.log.as_ref().map(|log| log.path.clone());
        elsewhere.unwrap_or_else(|| self.root.join("member/wal"))
    }

    /// Where checkpoints are.
    pub fn snap_dir(&self) -> PathBuf {
        self.root.join("member/snap")
    }
}

/// Looks without touching anything.
fn refuse_what_is_not_ours(root: &Path) -> Result<(), DataDirError> {
    match fs::metadata(root) {
        Ok(found) if !found.is_dir() => {
            return Err(DataDirError::NotADirectory {
                path: root.to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", root, error)),
    }
    if exists(&root.join("member/snap/db"))? {
        return Err(DataDirError::OfEtcd {
            path: root.to_owned(),
        });
    }
    let version = root.join("version");
    match fs::read(&version) {
        Ok(text) if text == format!("{LAYOUT_VERSION}\n").as_bytes() => Ok(()),
        Ok(text) => Err(DataDirError::OtherVersion {
            path: root.to_owned(),
            found: String::from_utf8_lossy(&text[..text.len().min(32)])
                .trim_end()
                .to_owned(),
        }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("read", &version, error))
        }
        Err(_) if exists(&root.join("member"))? => Err(DataDirError::Foreign {
            path: root.to_owned(),
        }),
        Err(_) => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), DataDirError> {
    directories::make(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            DataDirError::NotADirectory {
                path: dir.to_owned(),
            }
        }
        _ => failed("create", dir, error),
    })
}

fn lock(root: &Path) -> Result<File, DataDirError> {
    let path = root.join("LOCK");
    let lock = directories::lock(&path).map_err(|error| failed("lock", &path, error))?;
    lock.ok_or_else(|| DataDirError::Locked {
        path: root.to_owned(),
    })
}

fn read_identity(root: &Path) -> Result<Option<MemberIdentity>, DataDirError> {
    let path = root.join("identity");
    match fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| DataDirError::IdentityDamaged {
                    path: root.to_owned(),
                    reason: error.to_string(),
                })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path, error)),
    }
}

fn exists(path: &Path) -> Result<bool, DataDirError> {
    path.try_exists()
        .map_err(|error| failed("look at", path, error))
}

fn sync_dir(dir: &Path) -> Result<(), DataDirError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| failed("fsync", dir, error))
}

/// Turns an error of the system into the one that tells the operator what to change.
fn failed(action: &'static str, path: &Path, source: io::Error) -> DataDirError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => DataDirError::ReadOnly { path },
        io::ErrorKind::PermissionDenied => {
            let nearest = path
                .ancestors()
                .find_map(|path| Some((path, fs::metadata(path).ok()?)));
            match nearest {
                Some((path, found)) => DataDirError::NotPermitted {
                    path: path.to_owned(),
                    owner: found.uid(),
                    mode: found.mode() & 0o7777,
                },
                None => DataDirError::Io {
                    action,
                    path,
                    source,
                },
            }
        }
        _ => DataDirError::Io {
            action,
            path,
            source,
        },
    }
}

/// Ids are written the way the command-line client prints them.
mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// The version of the layout. The formats of the files have versions of their own.
pub const LAYOUT_VERSION: u32 = 1;
