//! The table of leases: who exists, for how long it was granted, and which keys hang on it.

use im::{OrdMap, OrdSet};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{LeaseError, LeaseExpiry, LeaseTerms, RemainingTime, TTL_SECONDS_MAX};
use crate::key::Key;

/// All leases, by id; cloning is O(1) and shares everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases(OrdMap<i64, Lease>);

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The entry that granted it.
    pub granted_index: u64,
    /// What it was granted for; 0 while only keys speak of it, which ends before a restored state is used.
    pub ttl_seconds: i64,
    /// What it had left when that was last recorded; 0 if the full time counts.
    pub remaining_seconds: i64,
    /// The keys that hang on it.
    pub keys: Keys,
}

/// The keys of a lease, in byte order; cloning is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(OrdSet<Key>);

impl Keys {
    /// The keys in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Key::as_bytes)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key hangs on the lease.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key does.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.contains(key)
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Vec::<Vec<u8>>::deserialize(deserializer)?;
        Ok(keys.iter().map(Vec::as_slice).collect())
    }
}

impl<'a> FromIterator<&'a [u8]> for Keys {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(keys: I) -> Self {
        Self(keys.into_iter().map(Key::from).collect())
    }
}

impl Leases {
    /// One lease.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.0.get(&id)
    }

    /// Whether there is such a lease.
    pub fn contains(&self, id: i64) -> bool {
        self.0.contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All leases by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.0.iter().map(|(id, lease)| (*id, lease))
    }

    /// All leases without their keys, by id.
    pub(crate) fn terms(&self) -> impl Iterator<Item = LeaseTerms> + '_ {
        self.iter().map(|(id, lease)| LeaseTerms {
            id,
            granted_index: lease.granted_index,
            ttl_seconds: lease.ttl_seconds,
            remaining_seconds: lease.remaining_seconds,
        })
    }

    /// Adds a lease and tells the time it really gets, in seconds.
    pub(crate) fn grant(
        &mut self,
        index: u64,
        id: i64,
        ttl_seconds: i64,
    ) -> Result<i64, LeaseError> {
        if id == 0 {
            return Err(LeaseError::NotFound);
        }
        if ttl_seconds > TTL_SECONDS_MAX {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.contains(id) {
            return Err(LeaseError::Exists);
        }
        let ttl_seconds = ttl_seconds.max(1);
        let lease = Lease {
            granted_index: index,
            ttl_seconds,
            ..Lease::default()
        };
        self.0.insert(id, lease);
        Ok(ttl_seconds)
    }

    /// Takes a lease away and hands out what it was; deleting its keys is the caller's next step.
    pub(crate) fn remove(&mut self, id: i64) -> Result<Lease, LeaseError> {
        // Removing what is not there would copy the path to its place.
        if !self.contains(id) {
            return Err(LeaseError::NotFound);
        }
        self.0.remove(&id).ok_or(LeaseError::NotFound)
    }

    /// Whether this is still the lease that was counted down.
    pub(crate) fn is_current(&self, expiry: &LeaseExpiry) -> bool {
        self.get(expiry.id)
            .is_some_and(|lease| lease.granted_index == expiry.granted_index)
    }

    /// Remembers what leases have left; those that are gone are passed over.
    pub(crate) fn record_remaining(&mut self, times: &[RemainingTime]) {
        for time in times {
            let Some(lease) = self.get(time.id) else {
                continue;
            };
            let seconds = time.seconds.clamp(0, lease.ttl_seconds);
            if lease.granted_index == time.granted_index
                && lease.remaining_seconds != seconds
                && let Some(lease) = self.0.get_mut(&time.id)
            {
                lease.remaining_seconds = seconds;
            }
        }
    }

    /// A key's newest record names another lease than the one before; 0 stands for none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        // A missing lease is one that is being revoked: its keys are on their way out.
        if self.get(from).is_some_and(|lease| lease.keys.contains(key))
            && let Some(lease) = self.0.get_mut(&from)
        {
            lease.keys.0.remove(key);
        }
        if to != 0 {
            assert!(
                self.contains(to),
                "a put names a lease that exists: {to:x} does not"
            );
            self.attach(to, key);
        }
    }

    /// Notes a key that a restored record hangs on a lease, of which nothing else is known yet.
    pub(crate) fn attach_restored(&mut self, id: i64, key: &[u8]) {
        if !self.contains(id) {
            self.0.insert(id, Lease::default());
        }
        self.attach(id, key);
    }

    /// Completes the leases of a restored state with their terms.
    ///
    /// # Errors
    /// In words, when terms and keys do not fit together.
    pub(crate) fn restore_terms(&mut self, all: &[LeaseTerms]) -> Result<(), &'static str> {
        for terms in all {
            if terms.id == 0 || terms.ttl_seconds <= 0 {
                return Err("a lease that could not have been granted");
            }
            let lease = self.get(terms.id).cloned().unwrap_or_default();
            if lease.ttl_seconds != 0 {
                return Err("a lease listed twice");
            }
            let lease = Lease {
                granted_index: terms.granted_index,
                ttl_seconds: terms.ttl_seconds,
                remaining_seconds: terms.remaining_seconds,
                keys: lease.keys,
            };
            self.0.insert(terms.id, lease);
        }
        // Every listed lease has terms now, so any lease too many is known by its keys alone.
        if self.len() != all.len() {
            return Err("a key hangs on a lease that is not listed");
        }
        Ok(())
    }

    fn attach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.0.get_mut(&id)
            && !lease.keys.contains(key)
        {
            lease.keys.0.insert(Key::from(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(leases: &Leases, id: i64) -> Vec<&[u8]> {
        let lease = leases.get(id).expect("it was granted");
        lease.keys.iter().collect()
    }

    #[test]
    fn an_id_is_granted_once_and_again_when_it_was_given_back() {
        let mut leases = Leases::default();
        assert_eq!(leases.grant(5, -7, 60), Ok(60));
        assert_eq!(leases.grant(6, -7, 60), Err(LeaseError::Exists));
        assert_eq!(leases.grant(6, 0, 60), Err(LeaseError::NotFound));
        assert_eq!(
            leases.grant(6, 8, TTL_SECONDS_MAX + 1),
            Err(LeaseError::TtlTooLarge)
        );
        assert_eq!(leases.grant(6, 8, TTL_SECONDS_MAX), Ok(TTL_SECONDS_MAX));
        assert!(leases.remove(-7).is_ok());
        assert_eq!(leases.remove(-7), Err(LeaseError::NotFound));
        assert_eq!(leases.grant(9, -7, -3), Ok(1));
        let old = LeaseExpiry {
            id: -7,
            granted_index: 5,
        };
        assert!(!leases.is_current(&old), "that was another lease");
    }

    #[test]
    fn a_key_hangs_on_the_lease_of_its_newest_record() {
        let mut leases = Leases::default();
        for id in [1, 2] {
            leases.grant(1, id, 60).expect("a new id");
        }
        for key in [&b"b"[..], b"a", b"\xff"] {
            leases.move_key(key, 0, 1);
        }
        assert_eq!(keys(&leases, 1), [&b"a"[..], b"b", b"\xff"]);
        leases.move_key(b"a", 1, 2);
        leases.move_key(b"b", 1, 0);
        assert_eq!(keys(&leases, 1), [b"\xff"]);
        assert_eq!(keys(&leases, 2), [b"a"]);
    }

    #[test]
    fn what_is_left_is_recorded_for_the_lease_that_was_meant() {
        let mut leases = Leases::default();
        leases.grant(3, 1, 60).expect("a new id");
        let time = |granted_index, seconds| RemainingTime {
            id: 1,
            granted_index,
            seconds,
        };
        let left = |leases: &Leases| leases.get(1).map(|lease| lease.remaining_seconds);
        leases.record_remaining(&[time(3, 40), time(2, 10)]);
        assert_eq!(left(&leases), Some(40));
        leases.record_remaining(&[time(3, 0)]);
        assert_eq!(left(&leases), Some(0));
        leases.record_remaining(&[time(3, 1000)]);
        assert_eq!(left(&leases), Some(60), "never more than granted");
    }

    #[test]
    fn restored_terms_must_fit_the_keys() {
        let mut leases = Leases::default();
        leases.grant(3, 1, 60).expect("a new id");
        leases.grant(4, 2, 60).expect("a new id");
        leases.move_key(b"a", 0, 1);
        let terms: Vec<LeaseTerms> = leases.terms().collect();
        let restored = |listed: &[LeaseTerms]| {
            let mut copy = Leases::default();
            copy.attach_restored(1, b"a");
            copy.restore_terms(listed).map(|()| copy)
        };
        assert_eq!(restored(&terms), Ok(leases));
        let missing = restored(&terms[1..]).expect_err("a key without its lease");
        assert_eq!(missing, "a key hangs on a lease that is not listed");
        let twice = [&terms[..], &terms[..1]].concat();
        assert!(restored(&twice).is_err());
    }
}
