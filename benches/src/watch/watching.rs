//! The party of a watch run: creates watchers, puts keys, and hears the events.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::answer::{self, Malformed};
use crate::ask::Ask;
use crate::conversation::{Next, Party};
use crate::histogram::Histogram;
use crate::http2::{Receiver, Reply};
use crate::links::Links;
use crate::measurement::Tally;
use crate::message::{PUT_PATH, headers, write_key};
use crate::process;
use crate::random::Random;
use crate::schedule::{Due, Schedule};
use crate::status::Failure;

/// All watchers of a run and the puts they are told of.
pub(crate) struct Watching {
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    /// From the answer of a put to its event; zero if the event came first.
    pub(crate) after_answer: Histogram,
    /// From a put to its answer.
    pub(crate) puts: Histogram,
    /// From a put to its event on a watcher that does not read all the time.
    pub(crate) slow: Histogram,
    pub(crate) memory: Option<Memory>,
    goal: Goal,
    streams: Vec<Stream>,
    /// Create requests under way, of one stream.
    creating: usize,
    put_links: Range<usize>,
    keys: u64,
    /// Most puts under way; one that is not received yet is under way.
    in_flight: usize,
    put_headers: Vec<u8>,
    value: Vec<u8>,
    key: Vec<u8>,
    end: Vec<u8>,
    ask: Ask,
    random: Random,
    now: Instant,
    broken: bool,
}

/// One watch stream and its watchers.
pub(crate) struct Stream {
    pub(crate) link: usize,
    pub(crate) number: u32,
    /// In the order in which they are created.
    watchers: Vec<usize>,
    asked: usize,
    /// When the creations under way were asked for.
    since: VecDeque<Instant>,
    created: usize,
    /// The watcher of each number the server gave.
    by_id: Vec<Option<usize>>,
}

/// How the server's memory grows, read at even distances.
pub(crate) struct Memory {
    pub(crate) server_pid: u32,
    pub(crate) every: Duration,
    pub(crate) next: Instant,
    pub(crate) rss_bytes: Vec<u64>,
}

/// What the party wants at present.
enum Goal {
    Create,
    /// Put by the schedule until every watcher has everything, the slow ones too if so said.
    Deliver {
        schedule: Option<Schedule>,
        slow: bool,
    },
}

/// What a [`Watching`] is made of besides its watchers.
pub(crate) struct Puts<'a> {
    pub(crate) authority: &'a str,
    pub(crate) links: Range<usize>,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) seed: u64,
}

impl Stream {
    pub(crate) fn new(link: usize, number: u32) -> Self {
        Self {
            link,
            number,
            watchers: Vec::new(),
            asked: 0,
            since: VecDeque::new(),
            created: 0,
            by_id: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, watcher: usize) {
        self.watchers.push(watcher);
    }

    /// Notes that the oldest creation under way got the number `id`; answers when it was asked for.
    fn create(&mut self, id: u64) -> Result<Instant, &'static str> {
        let since = self
            .since
            .pop_front()
            .ok_or("a watcher that was not asked for")?;
        let place = usize::try_from(id)
            .ok()
            .filter(|id| *id < IDS_MAX)
            .ok_or("a watcher with a number beyond all measure")?;
        if place >= self.by_id.len() {
            self.by_id.resize(place + 1, None);
        }
        if self.by_id[place].is_some() {
            return Err("two watchers with one number on a stream");
        }
        self.by_id[place] = Some(self.watchers[self.created]);
        self.created += 1;
        Ok(since)
    }

    fn watcher(&self, id: u64) -> Option<usize> {
        *self.by_id.get(usize::try_from(id).ok()?)?
    }
}

impl Watching {
    pub(crate) fn new(
        ledger: Ledger,
        streams: Vec<Stream>,
        creating: usize,
        puts: Puts<'_>,
    ) -> Self {
        let now = Instant::now();
        let mut random = Random::new(puts.seed);
        let words = (0..puts.value_bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
        let key_bytes = ledger.key_bytes();
        Self {
            ledger,
            tally: Tally::new(now),
            after_answer: Histogram::new(),
            puts: Histogram::new(),
            slow: Histogram::new(),
            memory: None,
            goal: Goal::Create,
            streams,
            creating,
            put_links: puts.links,
            keys: puts.keys,
            in_flight: puts.in_flight,
            put_headers: headers(puts.authority, PUT_PATH),
            value: words.take(puts.value_bytes.max(STAMP_BYTES)).collect(),
            key: vec![0; key_bytes],
            end: vec![0; key_bytes],
            ask: Ask::default(),
            random,
            now,
            broken: false,
        }
    }

    /// From now on puts by `schedule`, if any, until all has arrived, at the slow watchers too if `slow`;
    /// counts begin anew.
    pub(crate) fn begin(&mut self, schedule: Option<Schedule>, slow: bool, start: Instant) {
        self.tally.restart(start);
        self.after_answer = Histogram::new();
        self.puts = Histogram::new();
        self.ledger.count_from_here();
        self.goal = Goal::Deliver { schedule, slow };
    }

    /// Whether the run ended before its goal.
    pub(crate) fn broken(&self) -> bool {
        self.broken || !self.tally.failures.is_empty()
    }

    /// Asks for the watchers that no one asked for yet, within what may be under way.
    fn create(&mut self, now: Instant, links: &mut Links) -> Next {
        let mut missing = false;
        for stream in &mut self.streams {
            while stream.asked < stream.watchers.len() && stream.since.len() < self.creating {
                let watcher = &self.ledger.watchers()[stream.watchers[stream.asked]];
                write_key(&mut self.key, watcher.first_key);
                let mut end: &[u8] = &[];
                if watcher.keys > 1 {
                    write_key(&mut self.end, watcher.first_key + watcher.keys);
                    end = &self.end;
                }
                let body = self.ask.watch(&self.key, end);
                links.connection(stream.link).send(stream.number, body);
                stream.asked += 1;
                stream.since.push_back(now);
            }
            missing |= stream.created < stream.watchers.len();
        }
        if missing { Next::Heard } else { Next::Over }
    }

    /// Puts what is due.
    fn put(&mut self, now: Instant, links: &mut Links) -> Next {
        loop {
            let Goal::Deliver { schedule, slow } = &mut self.goal else {
                return Next::Over;
            };
            let due = schedule
                .as_ref()
                .map_or(Due::Over, |schedule| schedule.due(now));
            match due {
                Due::At(time) => return Next::At(time),
                Due::Now(since) => {
                    if self.ledger.open() >= self.in_flight {
                        return Next::Heard;
                    }
                    schedule.as_mut().map(Schedule::issue);
                    self.put_one(since, links);
                }
                Due::Over => {
                    for since in schedule.take().iter().flat_map(|over| over.missed(now)) {
                        self.tally.missed += 1;
                        self.tally.latency.record(now - since);
                    }
                    let settled = self.ledger.settled(*slow);
                    return if settled { Next::Over } else { Next::Heard };
                }
            }
        }
    }

    fn put_one(&mut self, since: Instant, links: &mut Links) {
        let key = self.random.below(self.keys);
        let number = self.ledger.issue(key, since);
        write_key(&mut self.key, key);
        self.value[..STAMP_BYTES].copy_from_slice(&number.to_le_bytes());
        let body = self.ask.put(&self.key, &self.value, 0);
        let count = self.put_links.len() as u64;
        let place = usize::try_from(number % count).expect("below the number of connections");
        let link = self.put_links.start + place;
        links
            .connection(link)
            .request(&self.put_headers, body, PUT | number);
    }

    fn heard(&mut self, stream: usize, message: &[u8]) -> Result<(), String> {
        let malformed = |Malformed| "a message that is no watch response".to_owned();
        let watched = answer::watched(message).map_err(malformed)?;
        let stream = &mut self.streams[stream];
        if watched.canceled {
            let reason = String::from_utf8_lossy(watched.cancel_reason);
            return Err(format!("a watcher was cancelled: {reason}"));
        }
        if watched.created {
            let since = stream.create(watched.watch_id)?;
            if matches!(self.goal, Goal::Create) {
                let latency = self.now.saturating_duration_since(since);
                self.tally.succeed(self.now, latency);
            }
            return Ok(());
        }
        let watcher = stream
            .watcher(watched.watch_id)
            .ok_or("an event for a watcher that was not created")?;
        for event in answer::events(message) {
            let delivery = self.ledger.deliver(watcher, &event.map_err(malformed)?)?;
            let latency = self.now.saturating_duration_since(delivery.since);
            if delivery.prompt && delivery.counted {
                self.tally.succeed(self.now, latency);
                let after = delivery.acknowledged.unwrap_or(self.now);
                self.after_answer.record(self.now - after);
            } else if !delivery.prompt {
                self.tally.last_answer = self.now;
                self.slow.record(latency);
            }
        }
        Ok(())
    }
}

impl Receiver for Watching {
    fn arrived(&mut self, now: Instant) {
        self.now = now;
    }

    fn message(&mut self, tag: u64, message: &[u8]) {
        self.tally.response_bytes += message.len() as u64 + PREFIX;
        let stream = usize::try_from(tag).expect("the tag is the place of a stream");
        if let Err(what) = self.heard(stream, message) {
            self.fail(Failure::Wrong(what));
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply.outcome {
            Ok(()) if reply.tag & PUT != 0 => {
                let since = self.ledger.acknowledge(reply.tag & !PUT, self.now);
                self.puts.record(self.now.saturating_duration_since(since));
            }
            Ok(()) => self.fail(Failure::Incomplete("a watch stream ended")),
            Err(failure) => self.fail(failure),
        }
    }
}

impl Party for Watching {
    fn act(&mut self, now: Instant, links: &mut Links) -> io::Result<Next> {
        if self.broken {
            return Ok(Next::Over);
        }
        let next = match self.goal {
            Goal::Create => self.create(now, links),
            Goal::Deliver { .. } => self.put(now, links),
        };
        match &mut self.memory {
            Some(memory) => memory.read(now, next),
            None => Ok(next),
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.broken = true;
        self.tally.fail(failure);
    }
}

impl Memory {
    /// Reads the memory if it is time; answers `next`, or the time of the next reading if that is earlier.
    fn read(&mut self, now: Instant, next: Next) -> io::Result<Next> {
        while self.next <= now {
            self.rss_bytes
                .push(process::usage(self.server_pid)?.rss_bytes);
            self.next += self.every;
        }
        Ok(match next {
            Next::Over => Next::Over,
            Next::Heard => Next::At(self.next),
            Next::At(time) => Next::At(time.min(self.next)),
        })
    }
}

/// Marks the tags of puts; those of streams are their places.
const PUT: u64 = 1 << 63;
/// Length of the number in a value.
pub(crate) const STAMP_BYTES: usize = 8;
const PREFIX: u64 = 5;
/// Numbers of watchers are remembered by place, so that a server must not scatter them.
const IDS_MAX: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Stream;

    #[test]
    fn watchers_get_their_numbers_in_the_order_they_were_asked_for() {
        let mut stream = Stream::new(0, 1);
        stream.add(70);
        stream.add(80);
        let now = Instant::now();
        assert_eq!(stream.create(0), Err("a watcher that was not asked for"));
        stream.since.extend([now, now]);
        assert_eq!(stream.create(5), Ok(now));
        assert_eq!(
            stream.create(5),
            Err("two watchers with one number on a stream")
        );
        stream.since.push_back(now);
        assert_eq!(stream.create(0), Ok(now));
        let known = [0, 1, 5, u64::MAX].map(|id| stream.watcher(id));
        assert_eq!(known, [Some(80), None, Some(70), None]);
    }
}
