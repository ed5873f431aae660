//! Store: the one writer.

use im::OrdSet;
use metastore_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse,
};

use super::record::RecordPacker;
use super::sweep::SweepCursor;
use super::view::NEVER_COMPACTED;
use super::write::Write;
use super::{Changes, View, header};
use crate::kv_error::KvError;

/// The state and the right to change it.
///
/// Every verb either is refused and changes nothing, or takes effect as a whole under one new revision. Requests
/// are taken as checked by [`crate::check`]; what depends on the state is checked here.
#[derive(Debug)]
pub struct Store {
    pub(crate) view: View,
    pub(crate) bytes_in_use: u64,
    pub(crate) packer: RecordPacker,
    pub(super) cursor: SweepCursor,
    leases: OrdSet<i64>,
}

/// Whether [`Store::sweep`] came to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Nothing is left to remove.
    Done,
    /// Call again.
    More,
}

impl Store {
    /// An empty store at revision 1.
    pub fn new() -> Self {
        Store::from_view(View::empty(), 0)
    }

    pub(crate) fn from_view(view: View, bytes_in_use: u64) -> Self {
        let cursor = SweepCursor::resting_at(view.compact_revision);
        Store {
            view,
            bytes_in_use,
            packer: RecordPacker::default(),
            cursor,
            leases: OrdSet::new(),
        }
    }

    /// The revision of the last change; 1 when there was none.
    pub fn revision(&self) -> i64 {
        self.view.revision
    }

    /// The oldest readable revision; -1 if the store was never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.view.compact_revision
    }

    /// The state as it is now, for readers.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Bytes of all records still present on this member, swept or not; differs between members.
    pub fn bytes_in_use(&self) -> u64 {
        self.bytes_in_use
    }

    /// Whether puts may name this lease.
    pub fn lease_exists(&self, id: i64) -> bool {
        self.leases.contains(&id)
    }

    /// Tells the store of a lease that puts may name from now on. Leases are not part of its snapshots.
    pub fn lease_granted(&mut self, id: i64) {
        assert!(id != 0, "lease 0 stands for none");
        self.leases.insert(id);
    }

    /// Tells the store that a lease is gone; deleting its keys is the caller's next step.
    pub fn lease_revoked(&mut self, id: i64) {
        if self.leases.contains(&id) {
            self.leases.remove(&id);
        }
    }

    /// Puts one key.
    pub fn put(
        &mut self,
        request: &PutRequest,
        changes: &mut Changes,
    ) -> Result<PutResponse, KvError> {
        self.check_put(request)?;
        let mut write = Write::begin(self, changes);
        let response = write.put(request);
        write.commit();
        Ok(response)
    }

    /// Deletes a range of keys; the revision moves only if there were any.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
        changes: &mut Changes,
    ) -> Result<DeleteRangeResponse, KvError> {
        let mut write = Write::begin(self, changes);
        let response = write.delete_range(request);
        write.commit();
        Ok(response)
    }

    /// Moves the compact revision, in O(1); [`Store::sweep`] then removes what became unreadable.
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, KvError> {
        if request.revision > self.view.revision {
            return Err(KvError::FutureRevision);
        }
        if request.revision <= self.view.compact_revision {
            return Err(KvError::Compacted);
        }
        assert!(
            request.revision > NEVER_COMPACTED,
            "the boundary only moves up"
        );
        self.view.compact_revision = request.revision;
        Ok(CompactionResponse {
            header: header(self.view.revision),
        })
    }

    /// What of a put depends on the state.
    pub(crate) fn check_put(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease != 0 && !self.lease_exists(request.lease) {
            return Err(KvError::LeaseNotFound);
        }
        if request.ignore_value || request.ignore_lease {
            let history = self.view.keyspace.get(&request.key);
            if history.is_none_or(|history| history.newest().is_tombstone()) {
                return Err(KvError::KeyNotFound);
            }
        }
        Ok(())
    }
}

impl Default for Store {
    fn default() -> Self {
        Store::new()
    }
}
