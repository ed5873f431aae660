//! What the server acknowledged, and whether it still knows it after a crash.

use std::collections::{BTreeMap, BTreeSet};

use metastore_proto::{
    etcdserverpb::{RangeRequest, RangeResponse},
    mvccpb::KeyValue,
};

use crate::{
    cluster::{connection::Connection, random::Random},
    load::{balance, put},
};

/// All that clients were told, over all crashes.
#[derive(Default)]
pub(crate) struct Ledger {
    /// What is known of each key that was ever written.
    keys: BTreeMap<Vec<u8>, Known>,
    /// Every acknowledged put in order of its revision, for reading history.
    puts: BTreeMap<i64, Write>,
    /// Each revision that an acknowledgement named as its own.
    revisions: BTreeSet<i64>,
    /// The newest revision any answer named.
    pub(crate) newest_revision: i64,
    /// The boundary of the last acknowledged compaction.
    pub(crate) compacted: i64,
    /// The boundary of the last compaction asked for.
    pub(crate) compaction_tried: i64,
    /// What the accounts hold together.
    pub(crate) sum: i64,
    /// The values of all acknowledged puts together.
    pub(crate) bytes_acknowledged: u64,
    acknowledged: u64,
    doubts_that_had_happened: u64,
    doubts: u64,
}

/// One write of a key; without a value, its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

#[derive(Default)]
struct Known {
    /// The last acknowledged value and the revision that made it; `None` while absent.
    settled: Option<(Vec<u8>, i64)>,
    /// A write whose answer has not come. Each key has one writer, so there is at most one.
    in_doubt: Option<Option<Vec<u8>>>,
}

impl Ledger {
    /// A write was sent.
    pub(crate) fn begin(&mut self, write: Write) {
        let known = self.keys.entry(write.key).or_default();
        assert!(known.in_doubt.is_none(), "a writer waits for its answer");
        known.in_doubt = Some(write.value);
    }

    /// The write of `key` was answered with `revision`. `changed` is false for a delete that found nothing.
    pub(crate) fn acknowledge(&mut self, key: &[u8], revision: i64, changed: bool) {
        let known = self.keys.get_mut(key).expect("the write was begun");
        let value = known.in_doubt.take().expect("the write was begun");
        assert_eq!(
            changed,
            value.is_some() || known.settled.is_some(),
            "a delete of {} found what was not there, or missed what was",
            key.escape_ascii()
        );
        known.settled = value.clone().map(|value| (value, revision));
        if changed {
            self.claim(revision);
            if let Some(bytes) = &value {
                self.bytes_acknowledged += bytes.len() as u64;
                let key = key.to_vec();
                self.puts.insert(revision, Write { key, value });
            }
        }
        self.newest_revision = self.newest_revision.max(revision);
    }

    /// Some other change was answered with `revision`.
    pub(crate) fn acknowledge_other(&mut self, revision: i64) {
        self.claim(revision);
    }

    fn claim(&mut self, revision: i64) {
        assert!(
            self.revisions.insert(revision),
            "two acknowledged writes report revision {revision}"
        );
        self.newest_revision = self.newest_revision.max(revision);
        self.acknowledged += 1;
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "{} writes of {} MiB acknowledged, {} of {} unanswered ones had happened, revision {}, compacted at {}",
            self.acknowledged,
            self.bytes_acknowledged >> 20,
            self.doubts_that_had_happened,
            self.doubts,
            self.newest_revision,
            self.compacted
        )
    }

    /// Checks a server that came back, and takes over how its unanswered writes ended.
    pub(crate) async fn check_and_adopt(
        &mut self,
        connection: &mut Connection,
        random: &mut Random,
    ) {
        let found = range(connection, b"own/", b"own0", 0).await;
        let current = found.header.expect("a header").revision;
        assert!(
            current >= self.newest_revision,
            "the revision went back from {} to {current}",
            self.newest_revision
        );
        self.check_own_keys(found.kvs, current);
        self.check_accounts(connection).await;
        // What lies below a compaction that may have happened cannot be asked for again.
        self.puts = self.puts.split_off(&self.compaction_tried.max(1));
        self.check_history(connection, random).await;
        self.check_compaction(connection).await;

        let answer = connection
            .kv
            .put(put(b"after".to_vec(), b"a crash".to_vec()))
            .await;
        let revision = answer
            .expect("a put after a crash")
            .into_inner()
            .header
            .expect("a header")
            .revision;
        assert!(
            revision > current,
            "a new write got revision {revision} after {current} had been seen"
        );
        self.claim(revision);
    }

    fn check_own_keys(&mut self, found: Vec<KeyValue>, current: i64) {
        let mut found: BTreeMap<_, _> = found.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        for (key, known) in &mut self.keys {
            let shown = key.escape_ascii();
            let stored = found.remove(key).map(|kv| (kv.value, kv.mod_revision));
            let doubt = known.in_doubt.take();
            self.doubts += u64::from(doubt.is_some());
            if stored == known.settled {
                continue;
            }
            let stored_value = stored.as_ref().map(|(value, _)| value);
            assert!(
                doubt
                    .as_ref()
                    .is_some_and(|doubt| doubt.as_ref() == stored_value),
                "{shown} was acknowledged as {:?} and holds {:?}; unanswered was {:?}",
                known.settled.as_ref().map(shorten),
                stored.as_ref().map(shorten),
                doubt.map(|value| value.map(|value| shorten(&(value, 0)))),
            );
            if let Some((value, revision)) = &stored {
                let settled = known.settled.as_ref().map_or(0, |(_, revision)| *revision);
                assert!(
                    *revision > settled && *revision <= current,
                    "{shown} has revision {revision}, which is not between {settled} and {current}"
                );
                assert!(
                    self.revisions.insert(*revision),
                    "{shown} has revision {revision}, which another write was told"
                );
                let value = Some(value.clone());
                self.puts.insert(
                    *revision,
                    Write {
                        key: key.clone(),
                        value,
                    },
                );
            }
            self.doubts_that_had_happened += 1;
            known.settled = stored;
        }
        assert!(
            found.is_empty(),
            "keys nobody wrote: {:?}",
            found
                .keys()
                .map(|key| key.escape_ascii().to_string())
                .collect::<Vec<_>>()
        );
        self.newest_revision = self.newest_revision.max(current);
    }

    async fn check_accounts(&self, connection: &mut Connection) {
        let accounts = range(connection, b"account/", b"account0", 0).await;
        assert_eq!(accounts.kvs.len() as u64, ACCOUNTS, "an account is missing");
        let sum: i64 = accounts.kvs.iter().map(balance).sum();
        assert_eq!(sum, self.sum, "money was made or lost: {:?}", accounts.kvs);
    }

    /// Acknowledged puts read back at their own revisions.
    async fn check_history(&self, connection: &mut Connection, random: &mut Random) {
        let readable: Vec<_> = self.puts.iter().collect();
        for _ in 0..READS_OF_HISTORY.min(readable.len()) {
            let (&revision, write) = *random.pick(&readable);
            let found = range(connection, &write.key, b"", revision).await;
            assert_eq!(
                found.kvs.len(),
                1,
                "nothing at revision {revision} of {write:?}"
            );
            assert_eq!(
                Some(&found.kvs[0].value),
                write.value.as_ref(),
                "at revision {revision}"
            );
            assert_eq!(found.kvs[0].mod_revision, revision);
        }
    }

    async fn check_compaction(&self, connection: &mut Connection) {
        if self.compacted == 0 {
            return;
        }
        let request = RangeRequest {
            key: b"own/".to_vec(),
            revision: self.compacted - 1,
            ..RangeRequest::default()
        };
        let refused = connection
            .kv
            .range(request)
            .await
            .expect_err("below an acknowledged compaction");
        assert_eq!(
            refused.message(),
            "etcdserver: mvcc: required revision has been compacted"
        );
    }
}

async fn range(
    connection: &mut Connection,
    key: &[u8],
    range_end: &[u8],
    revision: i64,
) -> RangeResponse {
    let request = RangeRequest {
        key: key.to_vec(),
        range_end: range_end.to_vec(),
        revision,
        ..RangeRequest::default()
    };
    let answer = connection.kv.range(request).await;
    answer
        .unwrap_or_else(|status| panic!("reading {} at {revision}: {status}", key.escape_ascii()))
        .into_inner()
}

fn shorten((value, revision): &(Vec<u8>, i64)) -> String {
    let start = &value[..value.len().min(SHOWN_OF_A_VALUE)];
    format!("{}({} bytes)@{revision}", start.escape_ascii(), value.len())
}

pub(crate) fn account_key(account: u64) -> Vec<u8> {
    format!("account/{account}").into_bytes()
}

pub(crate) const ACCOUNTS: u64 = 4;
const READS_OF_HISTORY: usize = 30;
const SHOWN_OF_A_VALUE: usize = 30;

/// The ledger must notice what it is there to notice.
mod tests {
    use super::{KeyValue, Ledger, Write};

    /// A ledger with one key acknowledged at revision 5 and a later write of it unanswered.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for value in [b"acknowledged".as_slice(), b"unanswered"] {
            ledger.begin(Write {
                key: b"k".to_vec(),
                value: Some(value.to_vec()),
            });
            if value == b"acknowledged" {
                ledger.acknowledge(b"k", 5, true);
            }
        }
        ledger
    }

    fn stored(value: &[u8], mod_revision: i64) -> Vec<KeyValue> {
        vec![KeyValue {
            key: b"k".to_vec(),
            value: value.to_vec(),
            mod_revision,
            ..KeyValue::default()
        }]
    }

    #[test]
    fn an_unanswered_write_may_have_happened_or_not() {
        ledger().check_own_keys(stored(b"acknowledged", 5), 5);
        ledger().check_own_keys(stored(b"unanswered", 6), 6);
    }

    #[test]
    #[should_panic(expected = "was acknowledged as")]
    fn a_lost_acknowledged_write_is_noticed() {
        ledger().check_own_keys(Vec::new(), 5);
    }

    #[test]
    #[should_panic(expected = "was acknowledged as")]
    fn half_a_write_is_noticed() {
        ledger().check_own_keys(stored(b"unanswe", 6), 6);
    }

    #[test]
    #[should_panic(expected = "was acknowledged as")]
    fn another_revision_than_the_acknowledged_one_is_noticed() {
        ledger().check_own_keys(stored(b"acknowledged", 4), 5);
    }

    #[test]
    #[should_panic(expected = "keys nobody wrote")]
    fn a_key_nobody_wrote_is_noticed() {
        let mut found = stored(b"acknowledged", 5);
        found.push(KeyValue {
            key: b"l".to_vec(),
            ..KeyValue::default()
        });
        ledger().check_own_keys(found, 5);
    }

    #[test]
    #[should_panic(expected = "two acknowledged writes report revision 5")]
    fn a_revision_told_twice_is_noticed() {
        ledger().acknowledge_other(5);
    }
}
