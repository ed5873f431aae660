//! The files of the log's segments: their names, the spare one prepared ahead, and the removal of old ones.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::Files;
use super::paced_file::{Pace, PacedFile};
use crate::background;

/// Makes spare segments and removes old ones, on a thread of its own when `ahead`, else when asked.
pub(super) struct SegmentFiles<F: Files> {
    files: Arc<F>,
    dir: PathBuf,
    segment_bytes: u64,
    sync: bool,
    background: Option<Background<F>>,
    /// What is removed without the background.
    removal: Removal,
}

/// A file full of zeros under the name of the spare.
pub(super) struct Spare<F: Files> {
    pub(super) file: F::File,
    pub(super) bytes: u64,
}

struct Background<F: Files> {
    /// `None` only while it is being dropped.
    requests: Option<Sender<Request>>,
    spares: Receiver<io::Result<Spare<F>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Prepare,
    Remove(Vec<PathBuf>),
}

impl<F: Files> SegmentFiles<F> {
    pub(super) fn new(
        files: Arc<F>,
        dir: PathBuf,
        segment_bytes: u64,
        sync: bool,
    ) -> SegmentFiles<F> {
        SegmentFiles {
            files,
            dir,
            segment_bytes,
            sync,
            background: None,
            removal: Removal::default(),
        }
    }

    /// From now on work in the background, beginning with a spare. Not before the log's own files are opened.
    pub(super) fn prepare_ahead(&mut self) -> io::Result<()> {
        let (requests, inbox) = channel();
        let (outbox, spares) = channel();
        let (files, dir, bytes) = (
            Arc::clone(&self.files),
            self.dir.clone(),
            self.segment_bytes,
        );
        let pace = if self.sync {
            Pace::Gentle
        } else {
            Pace::Unsynced
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = background::spawn("wal-segments", move || {
            let mut removal = Removal::default();
            for request in inbox {
                match request {
                    Request::Prepare => {
                        // The log has gone when nobody takes it.
                        let _ = outbox.send(prepare(&*files, &dir, bytes, pace, &stopping));
                    }
                    Request::Remove(paths) => removal.remove(&*files, &dir, paths),
                }
            }
        })?;
        self.background = Some(Background {
            requests: Some(requests),
            spares,
            stop,
            thread: Some(thread),
        });
        self.next();
        Ok(())
    }

    /// A spare of `bytes`, made at once.
    pub(super) fn prepare_now(&self, bytes: u64) -> io::Result<Spare<F>> {
        let pace = if self.sync {
            Pace::Hurried
        } else {
            Pace::Unsynced
        };
        prepare(
            &*self.files,
            &self.dir,
            bytes,
            pace,
            &AtomicBool::new(false),
        )
    }

    /// The spare, if it is ready or `must` be had. `next` must follow when it has got its own name.
    pub(super) fn take(&self, must: bool) -> io::Result<Option<Spare<F>>> {
        let Some(background) = &self.background else {
            return self.prepare_now(self.segment_bytes).map(Some);
        };
        let patience = if must { PATIENCE_MAX } else { Duration::ZERO };
        match background.spares.recv_timeout(patience) {
            Ok(Ok(spare)) => Ok(Some(spare)),
            // It may have failed for want of space long ago. A new file tried now decides.
            Ok(Err(_)) => self.prepare_now(self.segment_bytes).map(Some),
            Err(RecvTimeoutError::Timeout) if !must => Ok(None),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no spare segment was prepared in time",
            )),
        }
    }

    /// The last spare is in use: begin with the next one.
    pub(super) fn next(&self) {
        if let Some(background) = &self.background {
            background.ask(Request::Prepare);
        }
    }

    /// Removes segments, oldest first.
    pub(super) fn remove(&mut self, paths: Vec<PathBuf>) {
        match &self.background {
            Some(background) => background.ask(Request::Remove(paths)),
            None => self.removal.remove(&*self.files, &self.dir, paths),
        }
    }
}

impl<F: Files> Background<F> {
    fn ask(&self, request: Request) {
        let requests = self.requests.as_ref().expect("only drop takes the sender");
        // If the thread is gone, the next `take` says so.
        let _ = requests.send(request);
    }
}

impl<F: Files> Drop for Background<F> {
    /// Waits for the thread, so that a log opened next in this process has the directory to itself.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; panicking while dropping would hide it.
            let _ = thread.join();
        }
    }
}

/// The path of a segment; the names sort like the numbers.
pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:016x}.{EXTENSION}"))
}

/// The numbers of the segments in the directory, ascending. Files of other names are none of the log's.
pub(super) fn list_segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(stem) = name
            .to_str()
            .and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.'))
        else {
            continue;
        };
        match u64::from_str_radix(stem, 16) {
            Ok(segment) if stem.len() == 16 => segments.push(segment),
            _ => {}
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Removes a spare that a former life prepared.
pub(super) fn remove_spare<F: Files>(files: &F, dir: &Path) -> io::Result<()> {
    match files.remove(&dir.join(SPARE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Zeros are really written: a range that is only allocated would make the first fdatasync after each write change
/// the file's metadata, which costs another journal commit.
fn prepare<F: Files>(
    files: &F,
    dir: &Path,
    bytes: u64,
    pace: Pace,
    stop: &AtomicBool,
) -> io::Result<Spare<F>> {
    let path = dir.join(SPARE_NAME);
    let filled = files.open(&path, true).and_then(|file| {
        let mut paced = PacedFile::new(files, file, pace);
        let mut left = bytes;
        while left > 0 {
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let step = left.min(ZEROS.len() as u64);
            paced.append(
                &ZEROS[..usize::try_from(step).expect("no more than the zeros there are")],
            )?;
            left -= step;
        }
        paced.finish()
    });
    match filled {
        Ok((file, bytes)) => Ok(Spare { file, bytes }),
        Err(error) => {
            // Give back the space; the error that counts is the first one.
            let _ = files.remove(&path);
            Err(error)
        }
    }
}

/// Segments that are to go, oldest first. Each removal is durable before the next begins: a chain with a hole would be
/// refused. So what cannot be removed holds up all that follow, until it can: it is tried again with the next that are
/// to go.
#[derive(Default)]
struct Removal {
    waiting: VecDeque<PathBuf>,
}

impl Removal {
    fn remove<F: Files>(&mut self, files: &F, dir: &Path, paths: Vec<PathBuf>) {
        self.waiting.extend(paths);
        while let Some(path) = self.waiting.front() {
            // One that is gone already was removed by an attempt that failed later.
            let removed = match files.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => files.sync_dir(dir),
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, waiting = self.waiting.len(),
                    "cannot remove a log segment; it is tried again with the next");
                return;
            }
            self.waiting.pop_front();
        }
    }
}

const EXTENSION: &str = "wal";
pub(super) const SPARE_NAME: &str = "spare.tmp";
/// A spare is paced, so a slow disk may take seconds; a disk that takes minutes has stopped.
const PATIENCE_MAX: Duration = Duration::from_secs(120);
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
