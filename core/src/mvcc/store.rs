//! Store: the one writer.

use metastore_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse,
};

use super::record::RecordPacker;
use super::sweep::SweepCursor;
use super::view::NEVER_COMPACTED;
use super::write::Write;
use super::{Changes, View, header};
use crate::kv_error::KvError;
use crate::lease::{LeaseError, LeaseExpiry, LeaseTerms, Leases, RemainingTimes};

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
    pub(crate) leases: Leases,
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
            leases: Leases::default(),
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

    /// The leases that puts may name, and the keys that hang on them.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Brings a lease into being; `index` is that of the entry that grants it.
    pub fn grant_lease(
        &mut self,
        index: u64,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, LeaseError> {
        let ttl = self.leases.grant(index, request.id, request.ttl)?;
        Ok(LeaseGrantResponse {
            header: header(self.view.revision),
            id: request.id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease and deletes its keys in byte order; the revision moves only if there were any.
    pub fn revoke_lease(
        &mut self,
        id: i64,
        changes: &mut Changes,
    ) -> Result<LeaseRevokeResponse, LeaseError> {
        let lease = self.leases.remove(id)?;
        let mut write = Write::begin(self, changes);
        write.delete_keys(lease.keys.iter());
        write.commit();
        Ok(LeaseRevokeResponse {
            header: header(self.view.revision),
        })
    }

    /// As [`Store::revoke_lease`], unless the id belongs to another lease by now.
    pub fn expire_lease(
        &mut self,
        expiry: &LeaseExpiry,
        changes: &mut Changes,
    ) -> Result<LeaseRevokeResponse, LeaseError> {
        if !self.leases.is_current(expiry) {
            return Err(LeaseError::NotFound);
        }
        self.revoke_lease(expiry.id, changes)
    }

    /// Remembers what leases have left.
    pub fn record_remaining(&mut self, times: &RemainingTimes) {
        self.leases.record_remaining(&times.leases);
    }

    /// Completes the leases of a decoded snapshot, which knows only the keys that hang on them.
    ///
    /// # Errors
    /// In words, when terms and keys do not fit together.
    pub fn restore_leases(&mut self, terms: &[LeaseTerms]) -> Result<(), &'static str> {
        self.leases.restore_terms(terms)
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
        // Whoever proposes has to check its requests; but this one would be in every checkpoint, and no start could read it.
        if request.key.is_empty() {
            return Err(KvError::EmptyKey);
        }
        if request.lease != 0 && !self.leases.contains(request.lease) {
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
