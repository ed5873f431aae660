//! A snapshot as it arrives: chunks become a store, in memory bounded by what arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::raft::SnapshotResponse;

use super::machine::snapshot_from;
use super::network::Reply;
use super::sending::{CHUNKS_MAX, Chunk};
use super::types::{Snapshot, Vote};
use crate::snapshot::Decoder;

/// How long a transfer may be silent before what came of it is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The transfer that this member takes in, if there is one. A newer one replaces it.
#[derive(Default)]
pub(crate) struct Assembly {
    current: Option<Incoming>,
    /// The newest transfer seen: those before it are late copies, or of a leader of the past.
    newest: Option<(u64, u64)>,
}

struct Incoming {
    decoder: Decoder,
    /// The chunk to be decoded next.
    next: u64,
    /// Chunks that overtook it.
    early: BTreeMap<u64, Chunk>,
    /// The call that the end of the transfer answers.
    last_call: Option<u64>,
    silent_since: Duration,
}

/// What becomes of a chunk.
pub(crate) enum Taken {
    /// It is to be acknowledged.
    Acknowledged,
    /// It was the last and came early: its call is answered when the others are there.
    Waiting,
    /// The snapshot is whole; this call awaits its end.
    Whole {
        /// The call of the last chunk.
        call: u64,
        /// The leader that sent it.
        vote: Vote,
        /// What to install.
        snapshot: Box<Snapshot>,
    },
    /// The transfer is given up, for this reason.
    Refused(String),
}

/// Tells a leader of the past that there is a newer one.
pub(crate) fn outvoted(own: Vote) -> Reply {
    Reply::Snapshot(SnapshotResponse::new(own))
}

impl Assembly {
    /// Takes in a chunk that came as this call.
    pub(crate) fn take(&mut self, call: u64, chunk: Chunk, now: Duration) -> Taken {
        let transfer = (chunk.vote.leader_id.term, chunk.transfer);
        if self.newest < Some(transfer) {
            self.newest = Some(transfer);
            self.current = Some(Incoming {
                decoder: Decoder::new(),
                next: 0,
                early: BTreeMap::new(),
                last_call: None,
                silent_since: now,
            });
        }
        let Some(incoming) = self
            .current
            .as_mut()
            .filter(|_| self.newest == Some(transfer))
        else {
            return Taken::Refused("this transfer is over".into());
        };
        incoming.silent_since = now;
        let taken = incoming.take(call, chunk);
        match taken {
            Ok(None) => Taken::Acknowledged,
            Ok(Some(End::Awaited)) => Taken::Waiting,
            Ok(Some(End::Reached { call, vote })) => {
                let whole = self.current.take().map(|incoming| incoming.decoder);
                whole.map_or_else(
                    || Taken::Refused("this transfer is over".into()),
                    |decoder| finish(decoder, call, vote),
                )
            }
            Err(reason) => {
                self.current = None;
                Taken::Refused(reason)
            }
        }
    }

    /// Drops a transfer that nothing has been heard of for long.
    pub(crate) fn drop_silent(&mut self, now: Duration) {
        if self.alarm().is_some_and(|at| at <= now) {
            self.current = None;
        }
    }

    /// When the transfer under way has been silent for too long.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        let current = self.current.as_ref()?;
        Some(current.silent_since + SILENCE_MAX)
    }

    /// Whether a transfer is under way.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        self.current.is_some()
    }
}

/// How far the last chunk is.
enum End {
    /// It is here, others are missing.
    Awaited,
    /// All are decoded.
    Reached { call: u64, vote: Vote },
}

impl Incoming {
    fn take(&mut self, call: u64, chunk: Chunk) -> Result<Option<End>, String> {
        if chunk.number < self.next {
            return Ok(None);
        }
        if chunk.number >= self.next + CHUNKS_MAX as u64 {
            return Err(format!("chunk {} came far too early", chunk.number));
        }
        let is_last = chunk.last;
        if is_last {
            self.last_call = Some(call);
        }
        self.early.insert(chunk.number, chunk);
        while let Some(chunk) = self.early.remove(&self.next) {
            let pushed = self.decoder.push(&chunk.frame);
            pushed.map_err(|error| error.to_string())?;
            self.next += 1;
            if let (true, Some(call)) = (chunk.last, self.last_call) {
                let vote = chunk.vote;
                return Ok(Some(End::Reached { call, vote }));
            }
        }
        Ok(is_last.then_some(End::Awaited))
    }
}

fn finish(decoder: Decoder, call: u64, vote: Vote) -> Taken {
    let decoded = decoder.finish().map_err(|error| error.to_string());
    let snapshot = decoded
        .and_then(|(store, about)| snapshot_from(store, &about).map_err(|error| error.to_string()));
    match snapshot {
        Ok(snapshot) => Taken::Whole {
            call,
            vote,
            snapshot: Box::new(snapshot),
        },
        Err(reason) => Taken::Refused(reason),
    }
}

#[cfg(test)]
mod tests;
