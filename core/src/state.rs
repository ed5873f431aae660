//! All replicated truth: a function of the log, and of nothing else.
//!
//! Two members that applied the same entries hold equal states, and [`State::hash`] proves it. What a
//! member knows for itself alone (timers, clients that wait, files) lives elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use crate::apply_error::ApplyError;
use crate::command::{Command, MemberAttributes, Request};
use crate::lease::{LeaseTerms, Leases};
use crate::membership::MembershipError;
use crate::mvcc::{Changes, NEVER_COMPACTED, Store, Sweep, View};
use crate::output::Outcome;
use crate::txn::Room;

mod digest;

pub use digest::Digest;

/// The replicated state of a cluster at one log index.
pub struct State {
    kv: Store,
    members: BTreeMap<u64, MemberAttributes>,
    /// The ids of all members that ever left; shared with the views.
    removed: Arc<BTreeSet<u64>>,
    digest: Digest,
    /// The index of the last entry applied; none on an empty log.
    applied: Option<u64>,
}

/// A state frozen at one index; taking it is O(1) in the number of keys.
#[derive(Clone)]
pub struct StateView {
    /// The keys and their history.
    pub kv: View,
    /// As [`Store::bytes_in_use`]: what the keys take, roughly, without leases.
    pub bytes_in_use: u64,
    /// The leases and their keys.
    pub leases: Leases,
    /// What the members published of themselves, by member id.
    pub members: BTreeMap<u64, MemberAttributes>,
    /// The ids of all members that ever left.
    pub removed: Arc<BTreeSet<u64>>,
    /// What every entry so far did, in short.
    pub digest: Digest,
}

/// What a checkpoint holds of a state beside its keys.
pub struct Remainder<'a> {
    /// What the members published of themselves.
    pub members: Vec<MemberAttributes>,
    /// The leases without their keys.
    pub leases: &'a [LeaseTerms],
    /// The ids of all members that ever left.
    pub removed: Vec<u64>,
    /// What every entry so far did, in short.
    pub digest: Digest,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self {
            kv: Store::new(),
            members: BTreeMap::new(),
            removed: Arc::default(),
            digest: Digest::default(),
            applied: None,
        }
    }

    /// The state that a checkpoint describes.
    ///
    /// # Errors
    /// In words, when the leases do not fit the keys.
    pub fn restore(
        mut kv: Store,
        applied: Option<u64>,
        rest: Remainder<'_>,
    ) -> Result<Self, &'static str> {
        kv.restore_leases(rest.leases)?;
        let members = rest.members.into_iter().map(|m| (m.member_id, m));
        Ok(Self {
            kv,
            members: members.collect(),
            removed: Arc::new(rest.removed.into_iter().collect()),
            digest: rest.digest,
            applied,
        })
    }

    /// The state that a snapshot in memory holds.
    pub fn from_view(view: &StateView, applied: u64) -> Self {
        let mut kv = Store::from_view(view.kv.clone(), view.bytes_in_use);
        kv.leases = view.leases.clone();
        Self {
            kv,
            members: view.members.clone(),
            removed: Arc::clone(&view.removed),
            digest: view.digest,
            applied: Some(applied),
        }
    }

    /// Applies the entry at `index`. An error is an outcome like any other: every member gets the same one,
    /// and nothing has changed.
    ///
    /// # Panics
    /// If `index` does not follow the last one: each apply moves the applied index by one.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<Outcome, ApplyError> {
        self.apply_within(index, command, Room::WAITED_FOR)
    }

    /// The same where nobody waits for the outcome: what a transaction would have been answered is left out.
    pub fn apply_unheard(&mut self, index: u64, command: &Command) -> Result<Outcome, ApplyError> {
        self.apply_within(index, command, Room::NONE)
    }

    fn apply_within(
        &mut self,
        index: u64,
        command: &Command,
        room: Room,
    ) -> Result<Outcome, ApplyError> {
        self.skip(index);
        let mut changes = Changes::default();
        let outcome = self.perform(index, command, &mut changes, room);
        self.digest.absorb_effects(&self.kv, &changes, &outcome);
        outcome
    }

    /// Applies the entry that was applied last once more, for a fault on purpose.
    pub(crate) fn apply_again(&mut self, index: u64, command: &Command) {
        self.applied = index.checked_sub(1);
        let _ = self.apply(index, command);
    }

    /// Forgets what was compacted, for a fault on purpose.
    pub(crate) fn forget_compaction(&mut self) {
        self.kv.view.compact_revision = NEVER_COMPACTED;
    }

    fn perform(
        &mut self,
        index: u64,
        command: &Command,
        changes: &mut Changes,
        mut room: Room,
    ) -> Result<Outcome, ApplyError> {
        match command.request() {
            Request::Put(put) => Ok(Outcome::Put(self.kv.put(put, changes)?)),
            Request::DeleteRange(delete) => {
                Ok(Outcome::DeleteRange(self.kv.delete_range(delete, changes)?))
            }
            Request::Txn(txn) => {
                let answer = self.kv.txn_within(txn, changes, &mut room)?;
                let succeeded = answer.response.succeeded;
                Ok(match answer.is_whole {
                    true => Outcome::Txn(answer.response),
                    false => Outcome::TxnUntold { succeeded },
                })
            }
            Request::Compact(compact) => {
                let response = self.kv.compact(compact)?;
                Ok(Outcome::Compact {
                    response,
                    physical: compact.physical,
                })
            }
            Request::Publish(attributes) => {
                if self.removed.contains(&attributes.member_id) {
                    return Err(MembershipError::NotFound.into());
                }
                self.members
                    .insert(attributes.member_id, attributes.clone());
                Ok(Outcome::MemberAnnounced)
            }
            Request::LeaseGrant(grant) => {
                Ok(Outcome::LeaseGranted(self.kv.grant_lease(index, grant)?))
            }
            Request::LeaseRevoke(revoke) => Ok(Outcome::LeaseRevoked(
                self.kv.revoke_lease(revoke.id, changes)?,
            )),
            Request::LeaseExpire(expiry) => Ok(Outcome::LeaseRevoked(
                self.kv.expire_lease(expiry, changes)?,
            )),
            Request::LeaseRemaining(times) => {
                self.kv.record_remaining(times);
                Ok(Outcome::LeaseRemainingRecorded)
            }
        }
    }

    /// Passes an entry that asks nothing of the state (a leader's blank entry, a membership).
    ///
    /// # Panics
    /// As [`State::apply`].
    pub fn skip(&mut self, index: u64) {
        let expected = self.applied.map_or(0, |applied| applied + 1);
        assert_eq!(index, expected, "each apply moves the applied index by one");
        self.applied = Some(index);
    }

    /// Passes an entry that changes the membership: these members leave, and never come back.
    ///
    /// # Panics
    /// As [`State::apply`].
    pub fn remove_members(&mut self, index: u64, ids: &[u64]) {
        self.skip(index);
        for id in ids {
            self.members.remove(id);
            self.digest.absorb_removal(*id);
        }
        if !ids.is_empty() {
            Arc::make_mut(&mut self.removed).extend(ids);
        }
    }

    /// The ids of all members that ever left.
    pub fn removed(&self) -> &Arc<BTreeSet<u64>> {
        &self.removed
    }

    /// What every entry so far did, in short.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The index of the last entry applied.
    pub fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// The keys.
    pub fn kv(&self) -> &Store {
        &self.kv
    }

    /// Frees what compaction has given up, looking at `changes_max` changes; local work that no answer shows.
    pub fn sweep(&mut self, changes_max: usize) -> Sweep {
        self.kv.sweep(changes_max)
    }

    /// A frozen copy.
    pub fn view(&self) -> StateView {
        StateView {
            kv: self.kv.view(),
            bytes_in_use: self.kv.bytes_in_use(),
            leases: self.kv.leases().clone(),
            members: self.members.clone(),
            removed: Arc::clone(&self.removed),
            digest: self.digest,
        }
    }

    /// A fingerprint of all replicated content: equal on every member at one index.
    pub fn hash(&self) -> u64 {
        let mut bytes = self.kv.state_hash().to_le_bytes().to_vec();
        for attributes in self.members.values() {
            bytes.extend(prost::Message::encode_length_delimited_to_vec(attributes));
        }
        for terms in self.kv.leases().terms() {
            bytes.extend(prost::Message::encode_length_delimited_to_vec(&terms));
        }
        bytes.extend(self.removed.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.digest.value().to_le_bytes());
        let digest = Sha1::digest(&bytes);
        u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
    }

    /// Checks what must always hold across the rooms.
    ///
    /// # Panics
    /// In words, when something does not.
    pub fn validate(&self) {
        self.kv.validate();
        for (id, lease) in self.kv.leases().iter() {
            assert!(id != 0, "lease 0 stands for none");
            let seconds = 1..=crate::lease::TTL_SECONDS_MAX;
            assert!(
                seconds.contains(&lease.ttl_seconds),
                "a lease is granted for a time: {id:x}"
            );
            assert!(
                (0..=lease.ttl_seconds).contains(&lease.remaining_seconds),
                "a lease has not more left than it was granted: {id:x}"
            );
        }
        for (id, attributes) in &self.members {
            assert_eq!(
                *id, attributes.member_id,
                "a member is filed under its own id"
            );
            assert!(
                !self.removed.contains(id),
                "nothing is kept of a member that left: {id:x}"
            );
        }
    }
}
