//! Large files written in slices, each made durable and followed by a rest, beside a log that must stay quick.
//!
//! Seen on ext4 (virtio disk, two cores that were also compiling, so the numbers are coarse), 300 MiB written while
//! another thread writes 4 KiB and syncs it. Without slices the log's worst fdatasync took 63–170 ms: it waits while all
//! the dirty pages are flushed. With a sync after every 8 MiB the worst was 28–41 ms and the median 0.9–4 ms, the same
//! with `sync_file_range`. In the one run with little other load, slices of 1 MiB brought the median to 0.6 ms, and a
//! rest as long as each slice took to 0.28 ms, with 1.4 ms at the 99th percentile and 0.9 s for the whole file.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::files::Files;

/// Appends to a file, slice by slice.
pub(super) struct PacedFile<'a, F: Files> {
    files: &'a F,
    file: F::File,
    pace: Pace,
    written: u64,
    unsynced: usize,
    slice_began: Instant,
}

/// How a large file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A sync after each slice, then a rest as long as the slice took.
    Gentle,
    /// A sync after each slice and no rest: somebody waits for it, beside a log in use.
    Steady,
    /// As fast as the disk takes it, with one sync at the end: somebody waits for it, and nothing else is written.
    Hurried,
    /// Without any sync: the operator gave up durability.
    Unsynced,
}

impl<'a, F: Files> PacedFile<'a, F> {
    pub(super) fn new(files: &'a F, file: F::File, pace: Pace) -> PacedFile<'a, F> {
        PacedFile {
            files,
            file,
            pace,
            written: 0,
            unsynced: 0,
            slice_began: Instant::now(),
        }
    }

    /// Appends bytes of any length.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        for slice in bytes.chunks(SLICE_BYTES) {
            self.files.write_at(&self.file, slice, self.written)?;
            self.written += slice.len() as u64;
            self.unsynced += slice.len();
            let in_slices = matches!(self.pace, Pace::Gentle | Pace::Steady);
            if in_slices && self.unsynced >= SLICE_BYTES {
                self.files.sync(&self.file)?;
                self.unsynced = 0;
                if self.pace == Pace::Gentle {
                    thread::sleep(self.slice_began.elapsed().min(REST_MAX));
                }
                self.slice_began = Instant::now();
            }
        }
        Ok(())
    }

    /// Makes the rest durable; returns the file and its length.
    pub(super) fn finish(self) -> io::Result<(F::File, u64)> {
        if self.pace != Pace::Unsynced {
            self.files.sync(&self.file)?;
        }
        Ok((self.file, self.written))
    }
}

const SLICE_BYTES: usize = 1 << 20;
/// A slow source of chunks must not make the rests grow with it.
const REST_MAX: Duration = Duration::from_millis(100);
