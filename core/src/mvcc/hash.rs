//! Hashes that members compare to find out whether they still agree.

use metastore_proto::etcdserverpb::HashKvResponse;
use metastore_proto::mvccpb::KeyValue;
use prost::Message as _;

use super::{Record, Store, View, header};
use crate::key::KeyRange;
use crate::kv_error::KvError;

impl View {
    /// The hash of the key history up to `revision`; 0 stands for the newest.
    ///
    /// CRC-32C over the bytes `key` and then, in order of position, of every record its binary position (`t` behind
    /// it for a delete) and its value as a message. At or below the boundary only the values count that are the
    /// newest of their key as of `revision`, so that it does not matter how far the sweep came.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, KvError> {
        if revision < self.compact_revision && revision != 0 {
            return Err(KvError::Compacted);
        }
        if revision > self.revision {
            return Err(KvError::FutureRevision);
        }
        let revision = if revision == 0 {
            self.revision
        } else {
            revision
        };
        let mut records: Vec<&Record> = Vec::new();
        for history in self.keyspace.histories(KeyRange::ALL) {
            let old = history
                .live_at(revision)
                .filter(|record| record.mod_revision() <= self.compact_revision);
            records.extend(old);
            let recent = history
                .iter()
                .skip_while(|record| record.mod_revision() <= self.compact_revision);
            records.extend(recent.take_while(|record| record.mod_revision() <= revision));
        }
        records.sort_unstable_by_key(|record| record.position());
        let hash = records
            .iter()
            .fold(crc32c::crc32c(b"key"), |hash, record| append(hash, record));
        Ok(HashKvResponse {
            header: header(self.revision),
            hash,
            compact_revision: self.compact_revision,
            hash_revision: revision,
        })
    }

    /// A hash of the whole logical state: both revisions and every retained record.
    pub fn state_hash(&self) -> u32 {
        let hash = crc32c::crc32c(&self.revision.to_le_bytes());
        let hash = crc32c::crc32c_append(hash, &self.compact_revision.to_le_bytes());
        self.retained().fold(hash, |hash, record| {
            let bytes = record.as_bytes();
            let hash = crc32c::crc32c_append(hash, &(bytes.len() as u64).to_le_bytes());
            crc32c::crc32c_append(hash, bytes)
        })
    }
}

impl Store {
    /// As [`View::state_hash`].
    pub fn state_hash(&self) -> u32 {
        self.view.state_hash()
    }
}

fn append(hash: u32, record: &Record) -> u32 {
    let (main, sub) = record.position();
    let mut position = Vec::with_capacity(18);
    position.extend_from_slice(&main.to_be_bytes());
    position.push(b'_');
    position.extend_from_slice(&i64::from(sub).to_be_bytes());
    let message = if record.is_tombstone() {
        position.push(b't');
        KeyValue {
            key: record.key().to_vec(),
            ..KeyValue::default()
        }
    } else {
        record.to_key_value()
    };
    crc32c::crc32c_append(
        crc32c::crc32c_append(hash, &position),
        &message.encode_to_vec(),
    )
}
