//! The log on disk: batches appended to pre-zeroed segment files, one write and one fdatasync each.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use metastore_core::wal::{
    Encoder, LogIdentity, Record, RecordRef, Replayed, SEGMENT_HEADER_BYTES, SegmentHeader,
};

use super::files::Files;
use super::log_stats::LogStats;
use super::segment_files::{SegmentFiles, Spare, remove_spare, segment_path};
use super::wal_error::WalError;
pub use super::wal_recovery::CutTail;
use super::wal_recovery::{Chain, LastSegment, Sealed, read_chain};

#[cfg(test)]
mod tests;

/// The log of one member, open for writing.
///
/// `push` records, then `commit` them as one batch. After any error the log is dead: what is on the disk is unknown
/// until it is opened again.
///
/// *Invariant:* the writer's promises in `metastore_core::wal` hold after each file operation, so that the process may
/// end at any of them.
pub struct Wal<F: Files> {
    files: Arc<F>,
    dir: PathBuf,
    identity: LogIdentity,
    options: WalOptions,
    segments: SegmentFiles<F>,
    /// Segments before the current one, ascending.
    sealed: VecDeque<Sealed>,
    current: Current<F>,
    next_batch: u64,
    encoder: Encoder,
    /// What the batches up to now say, for the head of the next segment.
    head: Head,
    /// What the records pushed since then change.
    pending: Head,
    stats: Arc<LogStats>,
    failed: bool,
}

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalOptions {
    /// The size segments are prepared with. A batch that does not fit into the rest of one starts the next.
    pub segment_bytes: u64,
    /// The first segment of a new log is at most this long, because somebody waits for it.
    pub first_segment_bytes_max: u64,
    /// Without it nothing is durable, and a crash of the machine may leave a log that is refused.
    pub sync: bool,
    /// Prepare the next segment and remove old ones in the background rather than when needed.
    pub background: bool,
}

/// What an opened log said.
#[derive(Debug)]
pub struct Recovered {
    /// The state the log holds.
    pub replayed: Replayed,
    /// What was cut off, worth a warning when the last life did not end in a crash.
    pub torn: Option<CutTail>,
}

struct Current<F: Files> {
    file: F::File,
    path: PathBuf,
    header: SegmentHeader,
    /// Where the next batch goes.
    end: u64,
    /// Where the batches after the first begin.
    body: u64,
    /// How far the file is filled with zeros.
    prepared: u64,
    last_index: Option<u64>,
}

#[derive(Debug, Default)]
struct Head {
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
    last_index: Option<u64>,
}

impl<F: Files> Wal<F> {
    /// Makes the log of a new member in an empty directory.
    ///
    /// What an interrupted creation left behind, a log in which nothing was ever written, is replaced.
    pub fn create(
        files: Arc<F>,
        dir: &Path,
        identity: LogIdentity,
        options: WalOptions,
    ) -> Result<Wal<F>, WalError> {
        match read_chain(dir, identity, None) {
            Ok(None) => {}
            Ok(Some(chain)) if chain.replayed == Replayed::default() && chain.sealed.is_empty() => {
                files
                    .remove(&chain.last.path)
                    .map_err(WalError::io("remove", &chain.last.path))?;
            }
            Err(error @ WalError::Io { .. }) => return Err(error),
            Ok(Some(_)) | Err(_) => {
                return Err(WalError::AlreadyThere {
                    dir: dir.to_owned(),
                });
            }
        }
        remove_spare(&*files, dir).map_err(WalError::io("clear", dir))?;
        let mut segments = SegmentFiles::new(
            Arc::clone(&files),
            dir.to_owned(),
            options.segment_bytes,
            options.sync,
        );
        let bytes = options.segment_bytes.min(options.first_segment_bytes_max);
        let spare = segments
            .prepare_now(bytes)
            .map_err(WalError::io("prepare a segment in", dir))?;
        let header = SegmentHeader {
            identity,
            segment: 1,
            first_batch: 1,
            nonce: nonce(),
        };
        let current = name_segment(&*files, dir, spare, header, &Head::default(), options.sync)?;
        if options.background {
            segments
                .prepare_ahead()
                .map_err(WalError::io("prepare segments in", dir))?;
        }
        Ok(Wal {
            files,
            dir: dir.to_owned(),
            identity,
            options,
            segments,
            sealed: VecDeque::new(),
            current,
            next_batch: 2,
            encoder: Encoder::new(),
            head: Head::default(),
            pending: Head::default(),
            stats: Arc::default(),
            failed: false,
        })
    }

    /// Opens the log of a member that has one. Entries up to `checkpoint`, the last index that the newest usable
    /// checkpoint covers, are not returned.
    ///
    /// A log that is refused is not changed.
    pub fn open(
        files: Arc<F>,
        dir: &Path,
        identity: LogIdentity,
        checkpoint: Option<u64>,
        options: WalOptions,
    ) -> Result<(Wal<F>, Recovered), WalError> {
        let chain = read_chain(dir, identity, checkpoint)?.ok_or_else(|| WalError::Missing {
            dir: dir.to_owned(),
        })?;
        let Chain {
            replayed,
            sealed,
            last,
            torn,
        } = chain;
        remove_spare(&*files, dir).map_err(WalError::io("clear", dir))?;
        if options.sync {
            sync_sealed(&*files, dir, &sealed)?;
            // The process may have ended after it named the last segment and before that was durable.
            files.sync_dir(dir).map_err(WalError::io("fsync", dir))?;
        }
        let mut segments = SegmentFiles::new(
            Arc::clone(&files),
            dir.to_owned(),
            options.segment_bytes,
            options.sync,
        );
        let next_batch = last.next_batch;
        let current = reopen(&*files, last, options.sync)?;
        if options.background {
            segments
                .prepare_ahead()
                .map_err(WalError::io("prepare segments in", dir))?;
        }
        let head = Head {
            vote: replayed.vote.clone(),
            committed: replayed.committed.clone(),
            purged: replayed.purged.clone(),
            last_index: None,
        };
        let mut wal = Wal {
            files,
            dir: dir.to_owned(),
            identity,
            options,
            segments,
            sealed: sealed.into(),
            current,
            next_batch,
            encoder: Encoder::new(),
            head,
            pending: Head::default(),
            stats: Arc::default(),
            failed: false,
        };
        wal.push(Record::Opened)?;
        wal.commit()?;
        Ok((wal, Recovered { replayed, torn }))
    }

    /// Adds a record to the batch. Refused when it does not fit into a batch of its own size any more.
    pub fn push(&mut self, record: Record) -> Result<(), WalError> {
        self.check_alive()?;
        if self.encoder.push(record.borrowed()).is_err() {
            self.failed = true;
            return Err(WalError::TooLarge {
                bytes: record.encoded_len(),
            });
        }
        match record {
            Record::Entry { index, .. } => {
                self.pending.last_index = self.pending.last_index.max(Some(index))
            }
            Record::Vote(payload) => self.pending.vote = Some(payload),
            Record::Committed(payload) => self.pending.committed = Some(payload),
            Record::Purge { payload, index } => self.pending.purged = Some((index, payload)),
            Record::TruncateFrom { .. } | Record::Opened | Record::Closed => {}
        }
        Ok(())
    }

    /// The bytes the batch will take; 24 when there are no records in it.
    pub fn pending_bytes(&self) -> usize {
        self.encoder.sealed_len()
    }

    /// Writes the batch and makes it durable. Does nothing when no record was pushed.
    pub fn commit(&mut self) -> Result<(), WalError> {
        self.check_alive()?;
        if self.encoder.is_empty() {
            return Ok(());
        }
        // Cleared again only at the end: whatever fails on the way is final.
        self.failed = true;
        if self.current.end + self.encoder.sealed_len() as u64 > self.current.prepared {
            self.rotate()?;
        }
        self.write_batch()?;
        self.failed = false;
        Ok(())
    }

    /// Lets go of the oldest segments as long as all of their entries have an index of at most `index`, which a durable
    /// checkpoint must cover. The current segment stays.
    pub fn drop_covered(&mut self, index: u64) {
        let mut paths = Vec::new();
        while let Some(oldest) = self.sealed.front()
            && oldest.last_index.is_none_or(|last| last <= index)
        {
            paths.push(segment_path(&self.dir, oldest.segment));
            self.sealed.pop_front();
        }
        if !paths.is_empty() && !self.failed {
            self.segments.remove(paths);
        }
    }

    /// Ends the log in good order, with everything pushed.
    pub fn close(mut self) -> Result<(), WalError> {
        self.commit()?;
        self.push(Record::Closed)?;
        self.commit()
    }

    /// The counters.
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.stats)
    }

    /// The number of segments on disk, the spare not counted.
    pub fn segment_count(&self) -> usize {
        self.sealed.len() + 1
    }

    fn check_alive(&self) -> Result<(), WalError> {
        if self.failed {
            Err(WalError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Goes on in a new segment, unless that would not help or the spare is not ready and need not be.
    fn rotate(&mut self) -> Result<(), WalError> {
        if self.current.end == self.current.body {
            // Nothing but the head is in it, so the batch is larger than a segment: let it grow.
            return Ok(());
        }
        // Growing costs a slower sync, waiting for a spare stops everything.
        let must =
            self.current.end > self.options.segment_bytes.max(self.current.prepared) * GROWTH_MAX;
        let spare = self
            .segments
            .take(must)
            .map_err(WalError::io("prepare a segment in", &self.dir))?;
        let Some(spare) = spare else { return Ok(()) };
        let header = SegmentHeader {
            identity: self.identity,
            segment: self.current.header.segment + 1,
            first_batch: self.next_batch,
            nonce: nonce(),
        };
        let current = name_segment(
            &*self.files,
            &self.dir,
            spare,
            header,
            &self.head,
            self.options.sync,
        )?;
        let old = std::mem::replace(&mut self.current, current);
        self.sealed.push_back(Sealed {
            segment: old.header.segment,
            last_index: old.last_index,
        });
        self.next_batch += 1;
        self.segments.next();
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), WalError> {
        let current = &mut self.current;
        let bytes = self.encoder.seal(self.next_batch, &current.header);
        self.files
            .write_at(&current.file, bytes, current.end)
            .map_err(WalError::io("write", &current.path))?;
        if self.options.sync {
            let began = Instant::now();
            self.files
                .sync(&current.file)
                .map_err(WalError::io("fdatasync", &current.path))?;
            self.stats.synced(began.elapsed());
        }
        current.end += bytes.len() as u64;
        current.last_index = current.last_index.max(self.pending.last_index);
        self.stats
            .batch_written(self.encoder.records(), self.encoder.sealed_len());
        self.next_batch += 1;
        self.encoder.clear();
        self.head.absorb(std::mem::take(&mut self.pending));
        Ok(())
    }
}

impl Head {
    fn absorb(&mut self, newer: Head) {
        self.vote = newer.vote.or(self.vote.take());
        self.committed = newer.committed.or(self.committed.take());
        self.purged = newer.purged.or(self.purged.take());
    }

    /// The first batch of a segment. It is never empty: a log that has said nothing yet repeats that it was opened.
    fn encode(&self) -> Encoder {
        let vote = self.vote.as_deref().map(RecordRef::Vote);
        let committed = self.committed.as_deref().map(RecordRef::Committed);
        let purged = self
            .purged
            .as_ref()
            .map(|(index, payload)| RecordRef::Purge {
                payload,
                index: *index,
            });
        let mut encoder = Encoder::new();
        for record in [Some(RecordRef::Opened), vote, committed, purged]
            .into_iter()
            .flatten()
        {
            encoder
                .push(record)
                .expect("three records that each fitted into a batch with entries are small");
        }
        encoder
    }
}

/// Fills in the head of a spare, and only when that is durable gives it its name.
fn name_segment<F: Files>(
    files: &F,
    dir: &Path,
    spare: Spare<F>,
    header: SegmentHeader,
    head: &Head,
    sync: bool,
) -> Result<Current<F>, WalError> {
    let path = segment_path(dir, header.segment);
    let mut bytes = header.encode().to_vec();
    let mut encoder = head.encode();
    bytes.extend_from_slice(encoder.seal(header.first_batch, &header));
    files
        .write_at(&spare.file, &bytes, 0)
        .map_err(WalError::io("write the head of", &path))?;
    if sync {
        files
            .sync(&spare.file)
            .map_err(WalError::io("fdatasync", &path))?;
    }
    files
        .rename(&spare_path(dir), &path)
        .map_err(WalError::io("name", &path))?;
    if sync {
        files.sync_dir(dir).map_err(WalError::io("fsync", dir))?;
    }
    let end = bytes.len() as u64;
    assert!(
        end > SEGMENT_HEADER_BYTES as u64,
        "a segment has a first batch before it has a name"
    );
    Ok(Current {
        file: spare.file,
        path,
        header,
        end,
        body: end,
        prepared: spare.bytes.max(end),
        last_index: None,
    })
}

/// Makes the sealed segments durable: a life that was told not to sync may have written them. On clean files this costs
/// little more than the flush of the disk's cache that each asks for.
fn sync_sealed<F: Files>(files: &F, dir: &Path, sealed: &[Sealed]) -> Result<(), WalError> {
    for Sealed { segment, .. } in sealed {
        let path = segment_path(dir, *segment);
        let file = files.open(&path, false);
        file.and_then(|file| files.sync(&file))
            .map_err(WalError::io("fdatasync", &path))?;
    }
    Ok(())
}

/// Opens the last segment and writes its last batch anew, with zeros over what was cut off. A sync that failed in the
/// life before may have left pages that look clean but are not on the disk; this makes them dirty again.
fn reopen<F: Files>(files: &F, last: LastSegment, sync: bool) -> Result<Current<F>, WalError> {
    let LastSegment {
        path,
        header,
        last_index,
        file_bytes,
        tail_offset,
        tail,
        end,
        ..
    } = last;
    let file = files
        .open(&path, false)
        .map_err(WalError::io("open", &path))?;
    files
        .write_at(&file, &tail, tail_offset)
        .map_err(WalError::io("write", &path))?;
    if sync {
        files
            .sync(&file)
            .map_err(WalError::io("fdatasync", &path))?;
    }
    // Where the head ends is not known any more; that it is not alone is enough, for `Opened` follows.
    Ok(Current {
        file,
        path,
        header,
        end,
        body: SEGMENT_HEADER_BYTES as u64,
        prepared: file_bytes,
        last_index,
    })
}

fn spare_path(dir: &Path) -> PathBuf {
    dir.join(super::segment_files::SPARE_NAME)
}

/// A number nobody outside can know: the keys of the standard library's hasher come from the system's random source.
fn nonce() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions {
            segment_bytes: 64 << 20,
            first_segment_bytes_max: 1 << 20,
            sync: true,
            background: true,
        }
    }
}

/// How many times its size a segment may grow while its successor is prepared.
const GROWTH_MAX: u64 = 4;
