//! Files for tests: every operation goes to the real file system and into a journal, from which the disk can be drawn
//! as a crash at any point may have left it; and a chosen operation can fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::{Files, RealFiles};

/// See the module.
#[derive(Default)]
pub(crate) struct FaultyFiles {
    state: Mutex<State>,
}

/// An open file and which one it is, whatever its name.
pub(crate) struct FaultyFile {
    file: std::fs::File,
    id: usize,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next sync of a file fails, as a broken disk lets it.
    FailSync,
    /// The next write stops after so many bytes: the disk is full.
    NoSpace { written: usize },
    /// The next sync of a directory fails.
    FailSyncDir,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    names: BTreeMap<PathBuf, usize>,
    ids: usize,
    fault: Option<Fault>,
    /// Operations tried after a fault struck; a log that stops has none but removals.
    after_fault: Option<usize>,
}

enum Op {
    Create {
        id: usize,
        path: PathBuf,
    },
    Write {
        id: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync {
        id: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
}

#[derive(Default)]
struct Image {
    contents: BTreeMap<usize, Vec<u8>>,
    pending: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
    names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl FaultyFiles {
    /// The number of operations so far.
    pub(crate) fn ops(&self) -> usize {
        self.state().ops.len()
    }

    /// The directories that were synced, in order.
    pub(crate) fn synced_dirs(&self) -> Vec<PathBuf> {
        let state = self.state();
        let synced = state.ops.iter().filter_map(|op| match op {
            Op::SyncDir { path } => Some(path.clone()),
            _ => None,
        });
        synced.collect()
    }

    /// The files that were synced, in order, under the names that they have now.
    pub(crate) fn synced_files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let name = |synced| state.names.iter().find(|(_, id)| **id == synced);
        let synced = state.ops.iter().filter_map(|op| match op {
            Op::Sync { id } => Some(name(*id)?.0.clone()),
            _ => None,
        });
        synced.collect()
    }

    /// Lets the next operation of the right kind fail.
    pub(crate) fn inject(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Writes and syncs tried after the fault struck; `None` if it has not.
    pub(crate) fn tried_after_fault(&self) -> Option<usize> {
        self.state().after_fault
    }

    /// Draws the disk into the empty directory `into` as a crash after the first `prefix` operations may have left it:
    /// what was synced is there, of the rest any sectors, and the names changed up to any point after the last sync of
    /// the directory. `draw(n)` picks a number below `n`.
    pub(crate) fn draw_crash(
        &self,
        prefix: usize,
        into: &Path,
        mut draw: impl FnMut(usize) -> usize,
    ) {
        let state = self.state();
        let mut image = Image::default();
        for op in &state.ops[..prefix] {
            image.take(op);
        }
        let named = draw(image.pending_names.len() + 1);
        for change in image.pending_names.drain(..).take(named) {
            rename_in(&mut image.names, change);
        }
        for (path, id) in &image.names {
            let mut contents = image.contents.remove(id).unwrap_or_default();
            for (offset, bytes) in image.pending.remove(id).unwrap_or_default() {
                let mode = draw(3);
                let end = offset + bytes.len() as u64;
                let mut at = offset;
                while at < end {
                    let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let stop = sector_end.min(end);
                    // None of the write, all of it, or each sector by itself.
                    if mode == 1 || (mode == 2 && draw(2) == 1) {
                        put(
                            &mut contents,
                            at,
                            &bytes[index(at - offset)..index(stop - offset)],
                        );
                    }
                    at = stop;
                }
            }
            std::fs::write(into.join(path.file_name().unwrap()), contents).unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn count_after_fault(&self) {
        if let Some(count) = &mut self.state().after_fault {
            *count += 1;
        }
    }
}

impl Image {
    fn take(&mut self, op: &Op) {
        match op {
            Op::Create { id, path } => self
                .pending_names
                .push(NameChange::Create(path.clone(), *id)),
            Op::Write { id, offset, bytes } => {
                self.pending
                    .entry(*id)
                    .or_default()
                    .push((*offset, bytes.clone()));
            }
            Op::Sync { id } => {
                let contents = self.contents.entry(*id).or_default();
                for (offset, bytes) in self.pending.remove(id).unwrap_or_default() {
                    put(contents, offset, &bytes);
                }
            }
            Op::Rename { from, to } => {
                self.pending_names
                    .push(NameChange::Rename(from.clone(), to.clone()));
            }
            Op::Remove { path } => self.pending_names.push(NameChange::Remove(path.clone())),
            Op::SyncDir { .. } => {
                for change in self.pending_names.drain(..) {
                    rename_in(&mut self.names, change);
                }
            }
        }
    }
}

impl Files for FaultyFiles {
    type File = FaultyFile;

    fn open(&self, path: &Path, create: bool) -> io::Result<FaultyFile> {
        let file = RealFiles.open(path, create)?;
        let mut state = self.state();
        let is_known = state.names.contains_key(path);
        if create || !is_known {
            state.ids += 1;
            let id = state.ids;
            state.names.insert(path.to_owned(), id);
            // What was there before the journal began is in no drawing.
            if create {
                state.ops.push(Op::Create {
                    id,
                    path: path.to_owned(),
                });
            }
        }
        Ok(FaultyFile {
            file,
            id: state.names[path],
        })
    }

    fn write_at(&self, file: &FaultyFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.count_after_fault();
        let mut state = self.state();
        let written = match state.fault {
            Some(Fault::NoSpace { written }) => written.min(bytes.len()),
            _ => bytes.len(),
        };
        RealFiles.write_at(&file.file, &bytes[..written], offset)?;
        state.ops.push(Op::Write {
            id: file.id,
            offset,
            bytes: bytes[..written].to_vec(),
        });
        if let Some(Fault::NoSpace { .. }) = state.fault {
            state.fault = None;
            state.after_fault = Some(0);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self, file: &FaultyFile) -> io::Result<()> {
        self.count_after_fault();
        let mut state = self.state();
        if state.fault == Some(Fault::FailSync) {
            state.fault = None;
            state.after_fault = Some(0);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.ops.push(Op::Sync { id: file.id });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFiles.rename(from, to)?;
        let mut state = self.state();
        let id = state.names.remove(from).unwrap();
        state.names.insert(to.to_owned(), id);
        state.ops.push(Op::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)?;
        let mut state = self.state();
        state.names.remove(path);
        state.ops.push(Op::Remove {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.fault == Some(Fault::FailSyncDir) {
            state.fault = None;
            state.after_fault = Some(0);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.ops.push(Op::SyncDir {
            path: path.to_owned(),
        });
        Ok(())
    }
}

fn rename_in(names: &mut BTreeMap<PathBuf, usize>, change: NameChange) {
    match change {
        NameChange::Create(path, id) => {
            names.insert(path, id);
        }
        NameChange::Rename(from, to) => {
            let id = names.remove(&from).unwrap();
            names.insert(to, id);
        }
        NameChange::Remove(path) => {
            names.remove(&path).unwrap();
        }
    }
}

fn put(contents: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (index(offset), index(offset) + bytes.len());
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[start..end].copy_from_slice(bytes);
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

const SECTOR_BYTES: u64 = 512;
