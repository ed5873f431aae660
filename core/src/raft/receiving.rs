//! A snapshot as it arrives: chunks become a store, in memory bounded by what arrived.
//!
//! A chunk that comes again is acknowledged again. The last one, once all are there, asks for the end of the
//! installation: its newest call is answered when there is one, and from then on each is at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use openraft::raft::SnapshotResponse;

use super::machine::snapshot_from;
use super::network::Reply;
use super::sending::{self, CHUNKS_MAX, Chunk};
use super::types::{Snapshot, Vote};
use crate::snapshot::Decoder;

/// How long a transfer may be silent before what came of it is dropped, at least.
const SILENCE_MIN: Duration = Duration::from_secs(30);

/// The transfer that this member takes in, or took in last. A newer one replaces it.
pub(crate) struct Assembly {
    /// How long a transfer may be silent before what came of it is dropped.
    silence_max: Duration,
    stage: Stage,
    /// The newest transfer seen: those before it are late copies, or of a leader of the past.
    newest: Option<(u64, u64)>,
}

#[derive(Default)]
enum Stage {
    /// Nothing is there, or what was there is given up.
    #[default]
    Idle,
    Arriving(Box<Incoming>),
    /// All is there: consensus installs it, or has.
    Whole(SharedInstallation),
}

struct Incoming {
    decoder: Decoder,
    /// The chunk to be decoded next.
    next: u64,
    /// Chunks that overtook it.
    early: BTreeMap<u64, Chunk>,
    silent_since: Duration,
}

/// An installation, shared by the assembly and whoever installs.
pub(crate) type SharedInstallation = Rc<RefCell<Installation>>;

/// What is known of an installation.
#[derive(Default)]
pub(crate) struct Installation {
    /// The newest call that asks for the end.
    asked: Option<u64>,
    end: Option<Reply>,
}

/// What becomes of a chunk.
pub(crate) enum Taken {
    /// It is to be acknowledged.
    Acknowledged,
    /// It asks for the end of the installation, which is to be awaited.
    Awaited,
    /// It asks for the end of the installation, which is this.
    Ended(Reply),
    /// It is to be acknowledged, and the snapshot is whole.
    Whole {
        /// The leader that sent it.
        vote: Vote,
        /// What to install.
        snapshot: Box<Snapshot>,
        /// Where to tell the end.
        installation: SharedInstallation,
    },
    /// The transfer is given up, for this reason.
    Refused(String),
}

/// Tells a leader that its snapshot is there, or, if the vote is newer than its own, that it leads no more.
pub(crate) fn answered_with(own: Vote) -> Reply {
    Reply::Snapshot(SnapshotResponse::new(own))
}

impl Installation {
    /// It has ended so. Gives the call that asks for this, if there is one.
    pub(crate) fn end(&mut self, reply: Reply) -> Option<u64> {
        self.end = Some(reply);
        self.asked.take()
    }

    fn ask(&mut self, call: u64) -> Taken {
        match &self.end {
            Some(reply) => Taken::Ended(reply.clone()),
            None => {
                self.asked = self.asked.max(Some(call));
                Taken::Awaited
            }
        }
    }
}

impl Assembly {
    /// A transfer may be silent for as long as the leader takes to send a lost chunk again, and as much once more.
    pub(crate) fn new(election_timeout: Duration) -> Self {
        Self {
            silence_max: SILENCE_MIN.max(sending::chunk_patience(election_timeout) * 2),
            stage: Stage::Idle,
            newest: None,
        }
    }

    /// Takes in a chunk that came as this call.
    pub(crate) fn take(&mut self, call: u64, chunk: Chunk, now: Duration) -> Taken {
        let transfer = (chunk.vote.leader_id.term, chunk.transfer);
        if self.newest < Some(transfer) {
            self.newest = Some(transfer);
            self.stage = Stage::Arriving(Box::new(Incoming {
                decoder: Decoder::new(),
                next: 0,
                early: BTreeMap::new(),
                silent_since: now,
            }));
        }
        if self.newest > Some(transfer) {
            return Taken::Refused("this transfer is over".into());
        }
        let incoming = match &mut self.stage {
            Stage::Idle => return Taken::Refused("this transfer is over".into()),
            Stage::Whole(installation) if chunk.last => return installation.borrow_mut().ask(call),
            Stage::Whole(_) => return Taken::Acknowledged,
            Stage::Arriving(incoming) => incoming,
        };
        incoming.silent_since = now;
        let vote = chunk.vote;
        match incoming.take(chunk) {
            Ok(false) => Taken::Acknowledged,
            Ok(true) => self.finish(vote),
            Err(reason) => self.give_up(reason),
        }
    }

    fn finish(&mut self, vote: Vote) -> Taken {
        let Stage::Arriving(incoming) = std::mem::take(&mut self.stage) else {
            return self.give_up("nothing arrived".into());
        };
        match decode(incoming.decoder) {
            Ok(snapshot) => {
                let installation = SharedInstallation::default();
                self.stage = Stage::Whole(Rc::clone(&installation));
                Taken::Whole {
                    vote,
                    snapshot: Box::new(snapshot),
                    installation,
                }
            }
            Err(reason) => self.give_up(reason),
        }
    }

    fn give_up(&mut self, reason: String) -> Taken {
        self.stage = Stage::Idle;
        Taken::Refused(reason)
    }

    /// Drops a transfer that nothing has been heard of for long.
    pub(crate) fn drop_silent(&mut self, now: Duration) {
        if self.alarm().is_some_and(|at| at <= now) {
            self.stage = Stage::Idle;
        }
    }

    /// When the transfer under way has been silent for too long.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Arriving(incoming) => Some(incoming.silent_since + self.silence_max),
            Stage::Idle | Stage::Whole(_) => None,
        }
    }

    /// Whether a transfer is under way.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Arriving(_))
    }
}

impl Incoming {
    /// Takes in a chunk; tells whether the last one is decoded.
    fn take(&mut self, chunk: Chunk) -> Result<bool, String> {
        if chunk.number < self.next {
            return Ok(false);
        }
        if chunk.number >= self.next + CHUNKS_MAX as u64 {
            return Err(format!("chunk {} came far too early", chunk.number));
        }
        self.early.insert(chunk.number, chunk);
        while let Some(chunk) = self.early.remove(&self.next) {
            let pushed = self.decoder.push(&chunk.frame);
            pushed.map_err(|error| error.to_string())?;
            self.next += 1;
            if chunk.last {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn decode(decoder: Decoder) -> Result<Snapshot, String> {
    let (store, about) = decoder.finish().map_err(|error| error.to_string())?;
    snapshot_from(store, &about).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
