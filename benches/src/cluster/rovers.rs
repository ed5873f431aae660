//! Clients that put without end and go to the next member whenever one fails them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Findings;
use super::line::{self, Line};
use crate::answer;
use crate::ask::Ask;
use crate::measurement::Figure;
use crate::message::{PUT_PATH, RANGE_PATH};
use crate::status::Failure;

/// How clients behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) clients: usize,
    /// Least time between the beginnings of two puts of one client.
    pub(crate) pace: Duration,
    /// A put without an answer for so long is given up, and the next member is asked.
    ///
    /// This is the last client's patience; the others have less, in even steps, so that they do not all wait for
    /// answers that never come while new puts would be served.
    pub(crate) patience: Duration,
}

/// A put that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) member: usize,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

/// Clients at work, each in a thread of its own with a key of its own; they end when this is dropped.
pub(crate) struct Rovers {
    endpoints: Vec<SocketAddr>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    log: Mutex<Log>,
}

/// What the clients did so far.
#[derive(Debug, Default)]
struct Log {
    /// In the order of their ends.
    acks: Vec<Ack>,
    /// Of each client.
    puts: Vec<Puts>,
    failures: BTreeMap<Failure, u64>,
}

/// The puts of one client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Puts {
    begun: u64,
    acknowledged: u64,
}

impl Rovers {
    /// Lets clients begin to put at the members at `endpoints`, each first at another one.
    pub(crate) fn begin(endpoints: &[SocketAddr], habits: Habits) -> Self {
        let shared = Arc::new(Shared::default());
        let mut log = shared.log.lock().expect("no client has begun");
        log.puts = vec![Puts::default(); habits.clients];
        drop(log);
        let threads = (0..habits.clients).map(|client| {
            let (endpoints, shared) = (endpoints.to_vec(), Arc::clone(&shared));
            std::thread::spawn(move || rove(client, &endpoints, habits, &shared))
        });
        Self {
            endpoints: endpoints.to_vec(),
            threads: threads.collect(),
            shared,
        }
    }

    /// Waits for a put that `accepts` takes, among those that ended at `since` or later; `None` if there is none
    /// within `patience`.
    pub(crate) fn await_ack(
        &self,
        since: Instant,
        patience: Duration,
        accepts: impl Fn(&Ack) -> bool,
    ) -> Option<Ack> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(ack) = self.acks(since).into_iter().find(&accepts) {
                return Some(ack);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    /// The puts that ended at `since` or later, and the last one before.
    pub(crate) fn acks_around(&self, since: Instant) -> Vec<Ack> {
        let log = self.shared.log.lock().expect("no client panicked");
        let first = log.acks.partition_point(|ack| ack.ended < since);
        log.acks[first.saturating_sub(1)..].to_vec()
    }

    fn acks(&self, since: Instant) -> Vec<Ack> {
        let log = self.shared.log.lock().expect("no client panicked");
        let first = log.acks.partition_point(|ack| ack.ended < since);
        log.acks[first..].to_vec()
    }

    /// Ends the clients and answers how many puts failed, and what went wrong in a way that no failing member excuses:
    /// acknowledged puts that are lost, puts that were executed more often than they were asked for, and refusals that
    /// are no failover's.
    ///
    /// Every put of a client counts in the version of its key.
    pub(crate) fn judge(mut self) -> io::Result<Findings> {
        self.end();
        let log = self.shared.log.lock().expect("no client panicked");
        let mut findings = Findings::default();
        for (failure, count) in &log.failures {
            eprintln!("  clients went to the next member {count} times: {failure}");
            if !excused(failure) {
                findings.failures.push(format!("{count} × {failure}"));
            }
        }
        for (client, puts) in log.puts.iter().enumerate() {
            let version = version(&self.endpoints, client).map_err(io::Error::other)?;
            findings.failures.extend(breach(client, *puts, version));
        }
        let (done, failed) = (log.acks.len() as u64, log.failures.values().sum());
        findings.figures = vec![
            Figure::count("puts acknowledged in all", "puts", done),
            Figure::count("puts refused, given up or cut off", "puts", failed),
        ];
        Ok(findings)
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no client panicked");
        }
    }
}

impl Drop for Rovers {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is wrong with the version of a key whose client did `puts`.
fn breach(client: usize, puts: Puts, version: u64) -> Option<String> {
    let Puts {
        begun,
        acknowledged,
    } = puts;
    if version < acknowledged {
        let lost = acknowledged - version;
        return Some(format!(
            "{lost} acknowledged puts of client {client} are lost"
        ));
    }
    let twice = version.checked_sub(begun).filter(|twice| *twice > 0)?;
    Some(format!(
        "{twice} puts of client {client} were executed twice"
    ))
}

/// Whether a client may meet this while members come and go.
fn excused(failure: &Failure) -> bool {
    match failure {
        Failure::ConnectionLost(_)
        | Failure::NoAnswer
        | Failure::Reset { .. }
        | Failure::GoAway { .. } => true,
        Failure::Status { code, message } => {
            // What etcd answers while its leader hands over; the put had no effect.
            let dropped = *code == UNKNOWN && message == "raft proposal dropped";
            dropped || [CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE].contains(code)
        }
        Failure::Http { .. } | Failure::Incomplete(_) | Failure::Wrong(_) => false,
    }
}

/// The version of the key of `client`, by a linearizable read at any member.
fn version(endpoints: &[SocketAddr], client: usize) -> Result<u64, String> {
    let mut last = String::new();
    for endpoint in endpoints.iter().cycle().take(READS) {
        let mut ask = Ask::default();
        let read = line::once(
            *endpoint,
            READ_PATIENCE,
            RANGE_PATH,
            ask.range(&key(client), b"", false),
        );
        match read
            .map(|answer| answer::ranged(&answer).map(|(record, _)| record.map(|it| it.version)))
        {
            Ok(Ok(version)) => return Ok(version.unwrap_or(0)),
            Ok(Err(answer::Malformed)) => return Err("a range is malformed".to_owned()),
            Err(failure) => last = failure.to_string(),
        }
        std::thread::sleep(REST);
    }
    Err(format!("the puts could not be read again: {last}"))
}

fn key(client: usize) -> Vec<u8> {
    format!("rover {client}").into_bytes()
}

#[allow(clippy::cast_precision_loss)]
fn rove(client: usize, endpoints: &[SocketAddr], habits: Habits, shared: &Shared) {
    let mut ask = Ask::default();
    let put = ask.put(&key(client), &[b'v'; VALUE_BYTES], 0);
    let share = (client + 1) as f64 / habits.clients as f64;
    let patience = habits.patience.mul_f64(share);
    let mut member = client % endpoints.len();
    let mut line = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        shared.log.lock().expect("no client panicked").puts[client].begun += 1;
        match attempt(&mut line, endpoints[member], patience, put) {
            Ok(()) => {
                let mut log = shared.log.lock().expect("no client panicked");
                log.puts[client].acknowledged += 1;
                let ended = Instant::now();
                log.acks.push(Ack {
                    member,
                    begun,
                    ended,
                });
            }
            Err(failure) => {
                let mut log = shared.log.lock().expect("no client panicked");
                *log.failures.entry(failure).or_default() += 1;
                drop(log);
                line = None;
                member = (member + 1) % endpoints.len();
                // Where nobody listens, the next attempt would follow at once.
                std::thread::sleep(REST.saturating_sub(begun.elapsed()));
            }
        }
        std::thread::sleep(habits.pace.saturating_sub(begun.elapsed()));
    }
}

/// One put, over a new connection if there is none.
fn attempt(
    line: &mut Option<Line>,
    endpoint: SocketAddr,
    patience: Duration,
    put: &[u8],
) -> Result<(), Failure> {
    let line = match line {
        Some(line) => line,
        None => line.insert(Line::open(endpoint, patience)?),
    };
    line.call(PUT_PATH, put).map(drop)
}

const CANCELLED: u32 = 1;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;
const VALUE_BYTES: usize = 256;
const POLL: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(5);
const READS: usize = 9;
const READ_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
