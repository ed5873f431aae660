//! The account of a watch run: which put is due to which watcher, and whether each got it once and in order.

use std::time::Instant;

use crate::answer::Event;
use crate::message::write_key;

/// Everything that was put and everything that was received.
///
/// A put carries its number in the first eight bytes of its value. A watcher receives every put of its keys once and
/// in order exactly if revisions only grow from one of its events to the next and the numbers of puts and events
/// agree in the end; that every event is the put it says it is, is checked besides.
pub(crate) struct Ledger {
    key_bytes: usize,
    watchers: Vec<Watcher>,
    /// Per key: how many watchers are to be told of its puts, the prompt ones and all.
    readers: Vec<Readers>,
    puts: Vec<Put>,
    /// Puts before this one are not counted in latencies.
    counted_from: usize,
    /// Puts that are not answered yet, or not received by all prompt watchers.
    open: usize,
    due: Readers,
    delivered: Readers,
    /// The key whose digits `key` holds.
    key_number: Option<u64>,
    key: Vec<u8>,
}

/// One watcher: consecutive keys, and how far it has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watcher {
    pub(crate) first_key: u64,
    pub(crate) keys: u64,
    /// Whether it reads all the time.
    pub(crate) prompt: bool,
    revision: u64,
    version: u64,
    received: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Readers {
    prompt: u64,
    all: u64,
}

struct Put {
    key: u64,
    since: Instant,
    acknowledged: Option<Instant>,
    revision: u64,
    awaited: u64,
}

/// An event that is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// When the put was sent.
    pub(crate) since: Instant,
    /// When the put was answered; `None` if the event came first.
    pub(crate) acknowledged: Option<Instant>,
    /// Whether the watcher is one that reads all the time.
    pub(crate) prompt: bool,
    /// Whether it is to be counted in latencies.
    pub(crate) counted: bool,
}

impl Watcher {
    /// A watcher of `keys` consecutive keys, at least one.
    pub(crate) fn new(first_key: u64, keys: u64, prompt: bool) -> Self {
        Self {
            first_key,
            keys,
            prompt,
            revision: 0,
            version: 0,
            received: 0,
        }
    }
}

impl Ledger {
    /// An account of `watchers` over `keys` keys; a watcher may look beyond the last key.
    pub(crate) fn new(key_bytes: usize, keys: u64, watchers: Vec<Watcher>) -> Self {
        let keys = usize::try_from(keys).expect("keys fit the memory");
        let mut begin = vec![Readers::default(); keys + 1];
        let mut end = begin.clone();
        for watcher in &watchers {
            let place = |key: u64| usize::try_from(key).map_or(keys, |key| key.min(keys));
            begin[place(watcher.first_key)].count(watcher.prompt);
            end[place(watcher.first_key.saturating_add(watcher.keys))].count(watcher.prompt);
        }
        let mut now = Readers::default();
        let readers = begin.iter().zip(&end).take(keys).map(|(begin, end)| {
            now.all = now.all + begin.all - end.all;
            now.prompt = now.prompt + begin.prompt - end.prompt;
            now
        });
        Self {
            key_bytes,
            readers: readers.collect(),
            watchers,
            puts: Vec::new(),
            counted_from: 0,
            open: 0,
            due: Readers::default(),
            delivered: Readers::default(),
            key_number: None,
            key: vec![0; key_bytes],
        }
    }

    pub(crate) fn watchers(&self) -> &[Watcher] {
        &self.watchers
    }

    /// Puts that are not answered yet, or not received by all watchers that read all the time.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether all puts are answered and received, by the slow watchers too if `slow`.
    pub(crate) fn settled(&self, slow: bool) -> bool {
        self.open == 0
            && self.delivered.prompt >= self.due.prompt
            && (!slow || self.delivered.all >= self.due.all)
    }

    /// Counts latencies from the next put on.
    pub(crate) fn count_from_here(&mut self) {
        self.counted_from = self.puts.len();
    }

    /// Notes that `key` is being put and answers the number of the put.
    pub(crate) fn issue(&mut self, key: u64, since: Instant) -> u64 {
        let readers = self.readers[usize::try_from(key).expect("a key is one of the keys")];
        self.due.all += readers.all;
        self.due.prompt += readers.prompt;
        self.open += 1;
        self.puts.push(Put {
            key,
            since,
            acknowledged: None,
            revision: 0,
            awaited: readers.prompt,
        });
        self.puts.len() as u64 - 1
    }

    /// Notes the answer of the put `number` and tells when it was sent.
    pub(crate) fn acknowledge(&mut self, number: u64, now: Instant) -> Instant {
        let put = self.put(number).expect("only what was put is answered");
        put.acknowledged = Some(now);
        let (since, done) = (put.since, put.awaited == 0);
        self.open -= usize::from(done);
        since
    }

    /// Notes that the watcher `watcher` received `event`, or tells what is wrong with it.
    pub(crate) fn deliver(
        &mut self,
        watcher: usize,
        event: &Event<'_>,
    ) -> Result<Delivery, &'static str> {
        let record = &event.record;
        if event.deleted {
            return Err("an event of a deletion, though nothing was deleted");
        }
        let number = record.value.first_chunk().ok_or("an event without value")?;
        let number = u64::from_le_bytes(*number);
        let place = usize::try_from(number).map_err(|_| NEVER_PUT)?;
        let put = self.puts.get_mut(place).ok_or(NEVER_PUT)?;
        // Events of one put come together, so that its key is rarely another than that of the event before.
        if self.key_number != Some(put.key) {
            write_key(&mut self.key, put.key);
            self.key_number = Some(put.key);
        }
        if record.key != self.key {
            return Err("an event with the key of one put and the value of another");
        }
        if put.revision == 0 {
            put.revision = record.mod_revision;
        }
        if put.revision != record.mod_revision {
            return Err("one put with two revisions");
        }
        let watcher = &mut self.watchers[watcher];
        if put.key.wrapping_sub(watcher.first_key) >= watcher.keys {
            return Err("an event of a key that is not watched");
        }
        if record.mod_revision <= watcher.revision {
            return Err("an event out of order, or twice");
        }
        let follows = watcher.version == 0 || record.version == watcher.version + 1;
        if watcher.keys == 1 && !follows {
            return Err("an event whose predecessor is missing");
        }
        watcher.revision = record.mod_revision;
        watcher.version = record.version;
        watcher.received += 1;
        self.delivered.all += 1;
        if watcher.prompt {
            self.delivered.prompt += 1;
            put.awaited = put
                .awaited
                .checked_sub(1)
                .ok_or("a put received by more watchers than there are")?;
            if put.awaited == 0 && put.acknowledged.is_some() {
                self.open -= 1;
            }
        }
        Ok(Delivery {
            since: put.since,
            acknowledged: put.acknowledged,
            prompt: watcher.prompt,
            counted: place >= self.counted_from,
        })
    }

    /// How many watchers have not received what they should have, or more than that.
    pub(crate) fn unequal(&self) -> u64 {
        let mut puts_before = vec![0; self.readers.len() + 1];
        for put in &self.puts {
            puts_before[usize::try_from(put.key).expect("a key is one of the keys") + 1] += 1;
        }
        for key in 0..self.readers.len() {
            puts_before[key + 1] += puts_before[key];
        }
        let until = |key: u64| {
            let place = usize::try_from(key).unwrap_or(usize::MAX);
            puts_before[place.min(self.readers.len())]
        };
        let unequal = |watcher: &&Watcher| {
            let end = watcher.first_key.saturating_add(watcher.keys);
            watcher.received != until(end) - until(watcher.first_key)
        };
        self.watchers.iter().filter(unequal).count() as u64
    }

    /// How many bytes the keys have.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    fn put(&mut self, number: u64) -> Option<&mut Put> {
        self.puts.get_mut(usize::try_from(number).ok()?)
    }
}

impl Readers {
    fn count(&mut self, prompt: bool) {
        self.all += 1;
        self.prompt += u64::from(prompt);
    }
}

const NEVER_PUT: &str = "an event of something that was never put";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Ledger, Watcher};
    use crate::answer::{Event, Record};

    /// The event of put `number` of `key` at `revision`, the key's `version`-th, given to `watcher`.
    fn deliver(
        ledger: &mut Ledger,
        watcher: usize,
        (number, key): (u64, &str),
        (mod_revision, version): (u64, u64),
    ) -> Option<&'static str> {
        let value = [&number.to_le_bytes()[..], b"more"].concat();
        let record = Record {
            key: key.as_bytes(),
            mod_revision,
            version,
            value: &value,
        };
        let event = Event {
            deleted: false,
            record,
        };
        ledger.deliver(watcher, &event).err()
    }

    /// Two watchers of key 0, one of them slow, and one of keys 0 to 2.
    fn ledger() -> Ledger {
        let watchers = [(1, true), (1, false), (3, true)];
        let watchers = watchers.map(|(keys, prompt)| Watcher::new(0, keys, prompt));
        Ledger::new(2, 4, watchers.into())
    }

    #[test]
    fn a_run_is_settled_when_every_watcher_has_every_event() {
        let (mut ledger, now) = (ledger(), Instant::now());
        assert!(ledger.settled(true));
        assert_eq!(ledger.issue(0, now), 0);
        assert_eq!(ledger.issue(1, now), 1);
        assert_eq!(deliver(&mut ledger, 0, (0, "00"), (5, 1)), None);
        assert_eq!(deliver(&mut ledger, 2, (0, "00"), (5, 1)), None);
        ledger.acknowledge(0, now);
        ledger.acknowledge(1, now);
        assert_eq!((ledger.open(), ledger.unequal()), (1, 2));
        assert_eq!(deliver(&mut ledger, 2, (1, "01"), (6, 1)), None);
        assert!(ledger.settled(false) && !ledger.settled(true));
        assert_eq!(deliver(&mut ledger, 1, (0, "00"), (5, 1)), None);
        assert!(ledger.settled(true));
        assert_eq!(ledger.unequal(), 0);
    }

    #[test]
    fn a_gap_an_exchange_and_a_repetition_are_found() {
        let (mut ledger, now) = (ledger(), Instant::now());
        (0..4).for_each(|_| _ = ledger.issue(0, now));
        assert_eq!(deliver(&mut ledger, 0, (0, "00"), (5, 1)), None);
        let gap = deliver(&mut ledger, 0, (2, "00"), (7, 3));
        assert_eq!(gap, Some("an event whose predecessor is missing"));
        let again = deliver(&mut ledger, 0, (0, "00"), (5, 1));
        assert_eq!(again, Some("an event out of order, or twice"));
        assert_eq!(deliver(&mut ledger, 2, (1, "00"), (6, 2)), None);
        let exchanged = deliver(&mut ledger, 2, (0, "00"), (5, 1));
        assert_eq!(exchanged, Some("an event out of order, or twice"));
    }

    #[test]
    fn an_event_that_is_not_a_put_of_a_watched_key_is_found() {
        let (mut ledger, now) = (ledger(), Instant::now());
        ledger.issue(0, now);
        ledger.issue(3, now);
        let never = deliver(&mut ledger, 0, (2, "00"), (5, 1));
        assert_eq!(never, Some("an event of something that was never put"));
        let other = deliver(&mut ledger, 2, (1, "03"), (5, 1));
        assert_eq!(other, Some("an event of a key that is not watched"));
        let mixed = deliver(&mut ledger, 2, (0, "01"), (5, 1));
        let expect = "an event with the key of one put and the value of another";
        assert_eq!(mixed, Some(expect));
        assert_eq!(deliver(&mut ledger, 0, (0, "00"), (6, 1)), None);
        let moved = deliver(&mut ledger, 2, (0, "00"), (7, 1));
        assert_eq!(moved, Some("one put with two revisions"));
    }

    #[test]
    fn a_missing_event_leaves_the_watcher_unequal() {
        let (mut ledger, now) = (ledger(), Instant::now());
        for number in 0..2 {
            ledger.issue(2, now);
            ledger.acknowledge(number, now);
        }
        assert_eq!(deliver(&mut ledger, 2, (1, "02"), (6, 2)), None);
        assert!(!ledger.settled(false));
        assert_eq!(ledger.unequal(), 1);
    }
}
