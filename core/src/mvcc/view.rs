//! View: the whole state at one revision, for readers on any thread.

use metastore_proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::event_log::EventLog;
use super::events::Events;
use super::keyspace::Keyspace;
use super::range_stream::RangeStream;
use super::{header, range};
use crate::kv_error::KvError;

/// An immutable state; taking and cloning one is O(1), and it never sees a later write or compaction.
///
/// Old views keep alive what newer ones replaced, and dropping the last view of a state frees it on the spot.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) keyspace: Keyspace,
    pub(crate) log: EventLog,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

impl View {
    pub(crate) fn empty() -> Self {
        View {
            keyspace: Keyspace::new(),
            log: EventLog::starting_at(FIRST_REVISION + 1),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
        }
    }

    /// The revision of the last change; 1 when there was none.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest readable revision; -1 if the store was never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Answers a range request at its revision.
    ///
    /// The header tells the view's revision, not the requested one. The request is taken as checked by
    /// [`crate::check::range`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        let at = self.readable(request.revision)?;
        let response = range::read(&self.keyspace, at, request);
        Ok(RangeResponse {
            header: header(self.revision),
            ..response
        })
    }

    /// Answers a range request in chunks of about `chunk_bytes` that all read this view.
    ///
    /// The request is taken as checked by [`crate::check::range_stream`].
    pub fn range_stream(
        &self,
        request: &RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, KvError> {
        let at = self.readable(request.revision)?;
        Ok(RangeStream::new(
            self.clone(),
            at,
            request.clone(),
            chunk_bytes,
        ))
    }

    /// The changes of at most `revisions_max` revisions, from `from_revision` on, oldest first.
    ///
    /// Refused below the compact revision; at the compact revision the events are complete. A start beyond the
    /// newest revision yields nothing.
    pub fn events(&self, from_revision: i64, revisions_max: usize) -> Result<Events<'_>, KvError> {
        if from_revision < self.compact_revision {
            return Err(KvError::Compacted);
        }
        Ok(Events::new(self, from_revision, revisions_max))
    }

    /// The revision a plain read of `revision` runs at.
    pub(crate) fn readable(&self, revision: i64) -> Result<i64, KvError> {
        match revision {
            ..=0 => Ok(self.revision),
            _ if revision > self.revision => Err(KvError::FutureRevision),
            _ if revision < self.compact_revision => Err(KvError::Compacted),
            _ => Ok(revision),
        }
    }
}

/// The revision of a store without any change.
pub(crate) const FIRST_REVISION: i64 = 1;
/// The boundary of a store that was never compacted.
pub(crate) const NEVER_COMPACTED: i64 = -1;
