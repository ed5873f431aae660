//! Digest: a running checksum of what every entry did, so that members compare histories without reading states.

use metastore_proto::etcdserverpb::TxnResponse;

use crate::apply_error::ApplyError;
use crate::mvcc::{Changes, Store};
use crate::output::Outcome;

/// Equal on two members as long as every entry so far had the same effects on both; it costs what the effects weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u32);

impl Digest {
    /// The digest with this value.
    pub(crate) fn from_value(value: u32) -> Self {
        Self(value)
    }

    /// Its value.
    pub fn value(self) -> u32 {
        self.0
    }

    /// Takes in what an entry did: the records it wrote, where it left the revisions, how it ended.
    pub(super) fn absorb_effects(
        &mut self,
        store: &Store,
        changes: &Changes,
        outcome: &Result<Outcome, ApplyError>,
    ) {
        for change in changes {
            self.absorb(change.record.as_bytes());
        }
        self.absorb(&store.revision().to_le_bytes());
        self.absorb(&store.compact_revision().to_le_bytes());
        match outcome {
            Ok(Outcome::LeaseGranted(response)) => {
                self.absorb(&response.id.to_le_bytes());
                self.absorb(&response.ttl.to_le_bytes());
            }
            Ok(Outcome::Txn(TxnResponse { succeeded, .. }) | Outcome::TxnUntold { succeeded }) => {
                self.absorb(&[u8::from(*succeeded)]);
            }
            Ok(_) => {}
            Err(error) => self.absorb(error.to_string().as_bytes()),
        }
    }

    /// Takes in a member that left.
    pub(super) fn absorb_removal(&mut self, id: u64) {
        self.absorb(&id.to_le_bytes());
    }

    fn absorb(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}
