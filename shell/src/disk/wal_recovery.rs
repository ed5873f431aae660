//! Reading a log's directory back: all segments in order, folded into what the member must know.

use std::fs;
use std::path::{Path, PathBuf};

use metastore_core::wal::{
    Expected, LogIdentity, RecordRef, Replay, Replayed, SegmentHeader, decode_segment,
};

use super::segment_files::{list_segments, segment_path};
use super::wal_error::WalError;

/// A log that can be trusted, and what its writer needs to go on.
pub(super) struct Chain {
    pub(super) replayed: Replayed,
    /// All segments but the last, ascending.
    pub(super) sealed: Vec<Sealed>,
    pub(super) last: LastSegment,
    pub(super) torn: Option<CutTail>,
}

/// A segment that is not written any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    pub(super) segment: u64,
    /// The highest index of its entries.
    pub(super) last_index: Option<u64>,
}

/// The segment that is written next.
pub(super) struct LastSegment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) last_index: Option<u64>,
    pub(super) file_bytes: u64,
    /// Where the last batch begins, and its bytes followed by zeros over everything that was cut off.
    pub(super) tail_offset: u64,
    pub(super) tail: Vec<u8>,
    /// Where the next batch goes, and its sequence.
    pub(super) end: u64,
    pub(super) next_batch: u64,
}

/// An unfinished last write that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// The segment's file.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes went.
    pub dropped_bytes: u64,
}

/// Reads the chain; `None` when there are no segments. Changes nothing.
pub(super) fn read_chain(
    dir: &Path,
    identity: LogIdentity,
    checkpoint: Option<u64>,
) -> Result<Option<Chain>, WalError> {
    let segments = list_segments(dir).map_err(WalError::io("list", dir))?;
    let Some((&last, sealed_numbers)) = segments.split_last() else {
        return Ok(None);
    };
    let mut replay = Replay::new(checkpoint);
    let mut sealed = Vec::new();
    let mut first_batch = None;
    for (&segment, expected) in sealed_numbers.iter().zip(segments[0]..) {
        check_in_chain(dir, segment, expected)?;
        let path = segment_path(dir, segment);
        let bytes = fs::read(&path).map_err(WalError::io("read", &path))?;
        let expected = Expected {
            identity,
            segment,
            first_batch,
            last: false,
        };
        let (contents, last_index) = read_segment(&path, &bytes, expected, &mut replay)?;
        first_batch = Some(contents.next_batch);
        sealed.push(Sealed {
            segment,
            last_index,
        });
    }
    check_in_chain(dir, last, segments[0] + sealed.len() as u64)?;
    let path = segment_path(dir, last);
    let bytes = fs::read(&path).map_err(WalError::io("read", &path))?;
    let expected = Expected {
        identity,
        segment: last,
        first_batch,
        last: true,
    };
    let (contents, last_index) = read_segment(&path, &bytes, expected, &mut replay)?;
    let replayed = replay.finish().map_err(|error| WalError::Inconsistent {
        path: dir.to_owned(),
        error,
    })?;

    let tail_offset = contents
        .batches
        .last()
        .expect("a segment has a first batch")
        .offset;
    let mut tail = bytes[tail_offset..contents.end].to_vec();
    tail.resize(
        tail.len() + contents.torn.map_or(0, |torn| torn.dropped_bytes),
        0,
    );
    let torn = contents.torn.map(|torn| CutTail {
        path: path.clone(),
        offset: torn.offset as u64,
        dropped_bytes: torn.dropped_bytes as u64,
    });
    let last = LastSegment {
        header: contents.header,
        last_index,
        file_bytes: bytes.len() as u64,
        tail_offset: tail_offset as u64,
        tail,
        end: contents.end as u64,
        next_batch: contents.next_batch,
        path,
    };
    Ok(Some(Chain {
        replayed,
        sealed,
        last,
        torn,
    }))
}

fn check_in_chain(dir: &Path, segment: u64, expected: u64) -> Result<(), WalError> {
    if segment == expected {
        Ok(())
    } else {
        Err(WalError::SegmentMissing {
            path: segment_path(dir, expected),
        })
    }
}

fn read_segment<'a>(
    path: &Path,
    bytes: &'a [u8],
    expected: Expected,
    replay: &mut Replay,
) -> Result<(metastore_core::wal::SegmentContents<'a>, Option<u64>), WalError> {
    let contents = decode_segment(bytes, expected).map_err(|corruption| WalError::Corrupt {
        path: path.to_owned(),
        corruption,
    })?;
    let mut last_index = None;
    for record in contents.batches.iter().flat_map(|batch| batch.records()) {
        if let RecordRef::Entry { index, .. } = record {
            last_index = last_index.max(Some(index));
        }
        replay
            .apply(record)
            .map_err(|error| WalError::Inconsistent {
                path: path.to_owned(),
                error,
            })?;
    }
    Ok((contents, last_index))
}
