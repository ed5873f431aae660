//! The syncs of the log that are under way, and what becomes of proposals meanwhile.

use std::time::{Duration, Instant};

use crate::inbox::Proposals;

/// Where the log stands between what was written and what is durable.
///
/// A leader's proposals stay while a sync is under way, since they can be written only when it is done, and a larger
/// batch costs less. They never stay longer than [`STAY_MAX`]: neither for one sync, since other members may have
/// quicker disks, nor for several in a row, which letters of other members can keep going without a pause.
#[derive(Debug)]
pub(crate) struct Syncs {
    /// The last write that must be synced.
    begun: u64,
    /// The last one that is.
    done: u64,
    /// When the sync began that proposals stay for.
    staying_since: Instant,
    /// Whether some may have stayed and were not taken yet.
    stayed: bool,
}

/// How long a leader's proposals stay.
const STAY_MAX: Duration = Duration::from_millis(3);

impl Syncs {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: 0,
            done: 0,
            staying_since: now,
            stayed: false,
        }
    }

    /// Notes that a write is handed to the log that has to be synced.
    pub(crate) fn begin(&mut self, ticket: u64, now: Instant) {
        if !self.under_way() && !self.stayed {
            self.staying_since = now;
        }
        self.begun = ticket;
    }

    /// Notes that all writes up to this one are durable.
    pub(crate) fn finish(&mut self, up_to: u64) {
        self.done = up_to;
    }

    /// What becomes of proposals when calls are taken next.
    pub(crate) fn proposals(&mut self, leads: bool, now: Instant) -> Proposals {
        let waited = now.saturating_duration_since(self.staying_since);
        let proposals = match self.under_way() {
            false => Proposals::Wake,
            true if leads && waited < STAY_MAX => Proposals::Stay,
            true => Proposals::ComeAlong,
        };
        self.stayed = proposals == Proposals::Stay;
        proposals
    }

    fn under_way(&self) -> bool {
        self.begun > self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(300);

    #[test]
    fn a_leaders_proposals_stay_for_a_sync_and_others_come_along() {
        let now = Instant::now();
        let mut syncs = Syncs::new(now);
        assert_eq!(syncs.proposals(true, now), Proposals::Wake);
        syncs.begin(1, now);
        assert_eq!(syncs.proposals(false, now), Proposals::ComeAlong);
        assert_eq!(syncs.proposals(true, now), Proposals::Stay);
        syncs.finish(1);
        assert_eq!(syncs.proposals(true, now + SYNC), Proposals::Wake);
        syncs.begin(2, now + STAY_MAX);
        assert_eq!(syncs.proposals(true, now + STAY_MAX), Proposals::Stay);
        let late = now + 2 * STAY_MAX;
        assert_eq!(syncs.proposals(true, late), Proposals::ComeAlong);
    }

    #[test]
    fn a_leaders_proposals_are_taken_though_letters_begin_a_sync_with_each_that_ends() {
        let mut now = Instant::now();
        let mut syncs = Syncs::new(now);
        let mut taken_at = now;
        let mut stays = 0;
        syncs.begin(0, now);
        for ticket in 1..1000 {
            // The end of the last sync and a letter that is written at once are taken together.
            syncs.finish(ticket - 1);
            syncs.begin(ticket, now);
            match syncs.proposals(true, now) {
                Proposals::Stay => stays += 1,
                Proposals::Wake | Proposals::ComeAlong => taken_at = now,
            }
            assert!(now - taken_at <= STAY_MAX + SYNC);
            now += SYNC;
        }
        assert!(stays > 800, "they stay most of the time: {stays}");
    }
}
