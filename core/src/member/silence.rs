//! When a leader falls silent.
//!
//! A follower that hears a leader helps to elect no other, and consensus has a leader speak for as long as it lives. Where
//! its words arrive but no quorum's answers do, since ways are cut in one direction or lead to few, the others would wait
//! for ever, though they could agree among themselves. So a leader that no quorum answers is silent for long enough that
//! they can elect another (etcd's steps down instead), and then speaks for a while, since they may all have come back and
//! need it: perhaps nobody else can lead. That it hears them is no reason to speak sooner, as they may not hear it.

use std::ops::Range;
use std::time::Duration;

use super::Member;
use crate::plant::Plant;
use crate::raft::message::{MessageKind, PeerMessage};

/// The election timeouts without an answer in which a leader is silent, of so many, counted from the moment in which it is
/// not believed in any more. One passes before, as those that are slow to write answer late. In the next the others hear
/// of its end, and in the one after each tries for itself.
const SILENT: Range<u128> = 1..3;
const PERIOD: u128 = 6;

/// Since when no quorum answers this leader; none if one does, or this member does not lead.
#[derive(Default)]
pub(super) struct Silence(Option<Duration>);

impl Silence {
    /// Whether this member leads and no quorum answers it.
    pub(super) fn note(&mut self, unanswered: bool, now: Duration) {
        self.0 = unanswered.then(|| self.0.unwrap_or(now));
    }
}

impl Member {
    /// Whether this leader says nothing now that would keep others from electing one.
    pub(super) fn is_silent(&self) -> bool {
        let Silence(Some(since)) = self.silence else {
            return false;
        };
        let timeout = self.settings.election_timeout;
        let timeouts = (self.now - since).as_nanos() / timeout.as_nanos();
        // Who hands over says nothing by itself, and what the other lacks has to go out.
        let hands_over = self.transfers.hands_over(self.published.term);
        let planted = self.settings.planted().is(Plant::SpeaksForEver);
        SILENT.contains(&(timeouts % PERIOD)) && !hands_over && !planted
    }
}

/// Whether a letter has its receiver believe in the leader that sends it.
pub(super) fn is_of_leader(message: &PeerMessage) -> bool {
    matches!(message.kind(), MessageKind::Append | MessageKind::Chunk)
}
