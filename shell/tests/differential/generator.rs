//! Draws requests that collide: few keys, many of them prefixes of each other, and every option.

use metastore_proto::{
    etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest},
    mvccpb::KeyValue,
};

use super::{
    lease_generator,
    pair::Step,
    txn_generator,
    watch_generator::{self, Rhythm},
};
use crate::cluster::{
    operation::{Answer, Operation},
    random::Random,
};

/// Draws one request after another, led by what the reference answered so far.
pub(crate) struct Generator {
    pub(crate) random: Random,
    pub(crate) traits: Traits,
    /// The newest revision any answer named.
    pub(crate) revision: i64,
    /// The boundary of the last compaction that was carried out, -1 before the first.
    pub(crate) compacted: i64,
    /// Records seen lately, so that compares are often true.
    pub(crate) seen: Vec<KeyValue>,
    rhythm: Rhythm,
}

/// What may be drawn, by what the two servers can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    /// What etcd 3.5 answers to depends on its timing, and so is not even equal to itself, but the
    /// contract says exactly.
    pub(crate) what_only_the_contract_settles: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64, traits: Traits) -> Self {
        Self {
            random: Random::seeded(seed),
            traits,
            revision: 1,
            compacted: -1,
            seen: Vec::new(),
            rhythm: Rhythm::default(),
        }
    }

    pub(crate) fn draw_step(&mut self) -> Step {
        if self.rhythm.is_due(&mut self.random) {
            Step::Watch(watch_generator::watch_step(self))
        } else {
            Step::Send(self.draw())
        }
    }

    fn draw(&mut self) -> Operation {
        match self.random.below(1000) {
            0..=369 => Operation::Put(self.put()),
            370..=649 => {
                let mut request = self.range();
                if self.random.percent(1) {
                    request.sort_order = *self.random.pick(&[3, 99, -1]);
                }
                Operation::Range(request)
            }
            650..=729 => Operation::Delete(self.delete()),
            730..=754 => Operation::Compact(self.compaction()),
            755..=834 => lease_generator::lease_operation(self),
            _ => Operation::Txn(txn_generator::txn(self)),
        }
    }

    /// Learns from the reference's answer.
    pub(crate) fn observe(&mut self, operation: &Operation, answer: &Answer) {
        if let Some(revision) = answer.revision() {
            self.revision = self.revision.max(revision);
        }
        match (operation, answer) {
            (Operation::Compact(request), Answer::Compact(_)) => self.compacted = request.revision,
            (_, Answer::Range(answer)) => {
                self.seen
                    .extend(answer.kvs.iter().take(SEEN_OF_ONE_ANSWER).cloned());
                let surplus = self.seen.len().saturating_sub(SEEN_MAX);
                self.seen.drain(..surplus);
            }
            _ => {}
        }
    }

    pub(crate) fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.random.percent(30),
            ignore_value: self.random.percent(8),
            ignore_lease: self.random.percent(8),
            ..PutRequest::default()
        };
        if request.ignore_value && self.random.percent(85) {
            request.value.clear();
        }
        if self.random.percent(20) && !(request.ignore_lease && self.random.percent(85)) {
            request.lease = lease_generator::any_id(self);
        }
        request
    }

    pub(crate) fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        DeleteRangeRequest {
            range_end: self.range_end(&key),
            key,
            prev_kv: self.random.percent(50),
        }
    }

    pub(crate) fn range(&mut self) -> RangeRequest {
        let key = if self.random.percent(30) {
            vec![0]
        } else {
            self.key()
        };
        let mut request = RangeRequest {
            range_end: self.range_end(&key),
            key,
            serializable: self.random.percent(30),
            keys_only: self.random.percent(15),
            count_only: self.random.percent(10),
            limit: self.limit(),
            revision: self.revision_to_read(),
            ..RangeRequest::default()
        };
        if self.random.percent(45) {
            request.sort_order = i32::try_from(self.random.below(3)).expect("small");
            request.sort_target = i32::try_from(self.random.below(5)).expect("small");
        }
        if self.random.percent(20) {
            for filter in [
                &mut request.min_mod_revision,
                &mut request.max_mod_revision,
                &mut request.min_create_revision,
                &mut request.max_create_revision,
            ] {
                if self.random.percent(40) {
                    let newest = self.revision;
                    *filter = match self.random.below(20) {
                        0 => -1,
                        1 => newest + 5,
                        2..=9 => self.random.between(1, newest),
                        _ => self.random.between((newest - 60).max(1), newest),
                    };
                }
            }
        }
        request
    }

    fn compaction(&mut self) -> CompactionRequest {
        let (newest, compacted) = (self.revision, self.compacted);
        let revision = match self.random.below(20) {
            0 => compacted,
            1 => compacted - 1,
            2 => compacted + 1,
            3 => newest,
            4 => newest + 1,
            5 => -1,
            6 => 0,
            7 => i64::MAX,
            8 => i64::MIN,
            _ => self
                .random
                .between((newest - 100).max(compacted).min(newest), newest),
        };
        CompactionRequest {
            revision,
            physical: self.random.percent(50),
        }
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        match self.random.below(200) {
            0 => Vec::new(),
            1..=4 => vec![b'k'; LONG_KEY],
            _ => self.random.pick(&KEYS).to_vec(),
        }
    }

    /// Every kind of end: none, from the key on, the key as a prefix, and one that may lie before the key.
    pub(crate) fn range_end(&mut self, key: &[u8]) -> Vec<u8> {
        match self.random.below(100) {
            0..=34 => Vec::new(),
            35..=54 => vec![0],
            55..=74 => end_of_prefix(key),
            75..=79 => [key, &[0]].concat(),
            80..=82 => key.to_vec(),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0..=2 => Vec::new(),
            3 => vec![b'v'; 2000],
            4 => vec![0, 0xff],
            _ => self.random.pick(&VALUES).to_vec(),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.random.below(40) {
            0..=19 => 0,
            20 => -1,
            21 => i64::MAX,
            22 => i64::MIN,
            23 => 1000,
            _ => self.random.between(1, 6),
        }
    }

    pub(crate) fn revision_to_read(&mut self) -> i64 {
        let (newest, compacted) = (self.revision, self.compacted);
        match self.random.below(100) {
            0..=59 => 0,
            60..=84 => self.random.between(compacted.max(1).min(newest), newest),
            85..=88 => newest,
            89..=91 => compacted,
            92..=93 => compacted - self.random.between(1, 3),
            94..=95 => newest + self.random.between(1, 3),
            96 => -1,
            97 => i64::MAX,
            98 => i64::MIN,
            _ => 1,
        }
    }
}

/// The first key after all keys that begin with `prefix`, or "from the key on" where there is none.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

pub(crate) const KEYS: [&[u8]; 16] = [
    b"a",
    b"a\0",
    b"a/",
    b"a/1",
    b"a/10",
    b"a/2",
    b"a\xff",
    b"aa",
    b"b",
    b"b/1",
    b"z",
    b"\0",
    b"\0\0",
    b"\x01",
    b"\xff",
    b"\xff\xff",
];
const VALUES: [&[u8]; 6] = [b"", b"0", b"1", b"10", b"2", b"x"];
const LONG_KEY: usize = 300;
const SEEN_MAX: usize = 48;
const SEEN_OF_ONE_ANSWER: usize = 4;
