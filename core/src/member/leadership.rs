//! Who leads, as long as that may be believed.
//!
//! Consensus names a leader until there is another. But a follower that has heard nothing from it for an election
//! timeout, or a leader that no quorum has answered for as long, may be alone, and whoever asks is better told that
//! nobody is known to lead.
//!
//! The heartbeats by which a leader is believed are due by the member's clock: consensus' own has one interval for sending
//! them and for giving them up, and where the others are further away than that, no heartbeat would ever be answered.

use std::time::Duration;

use super::Member;
use crate::output::Refusal;
use crate::raft::following::{self, Look};
use crate::raft::types::Vote;

/// What there is to believe in.
#[derive(Default)]
pub(super) struct Leadership {
    /// The newest term whose leader this member heard of, and when it last did.
    heard: Option<(u64, Duration)>,
    /// The newest term that this member led, and since when.
    led: Option<(u64, Duration)>,
    /// The term that consensus has this member lead in now, whether that may be believed or not. What happens through
    /// the log alone, and what must not begin anew while a term lasts, goes by this.
    leads: Option<u64>,
    /// Whom consensus names, whether that may be believed or not.
    named: Option<u64>,
    /// The newest term with a leader that was believed in, and since when.
    elected: Option<(u64, Duration)>,
    /// Until when the published leader is believed in without another word; none if there is none, or for ever.
    until: Option<Duration>,
    /// When this leader's next heartbeats are due; none where it leads nobody.
    heartbeat_at: Option<Duration>,
}

impl Leadership {
    /// When heartbeats are due, or the leader is not believed in any more.
    pub(super) fn alarm(&self) -> Option<Duration> {
        self.until.into_iter().chain(self.heartbeat_at).min()
    }

    /// The term that this member leads, though it may have been replaced without knowing.
    pub(super) fn leads(&self) -> Option<u64> {
        self.leads
    }

    /// The last time anything confirmed that this leader leads; none if nothing did since this member started.
    fn confirmed(&mut self, leader: u64, own: u64, look: &Look, now: Duration) -> Option<Duration> {
        if leader != own {
            let heard = self.heard.filter(|(term, _)| *term == look.term);
            return heard.map(|(_, at)| at);
        }
        // A fresh leader has the votes of a quorum.
        let (_, since) = *match &mut self.led {
            Some(led) if led.0 == look.term => led,
            led => led.insert((look.term, now)),
        };
        Some(look.quorum_answered.map_or(since, |at| at.max(since)))
    }
}

impl Member {
    /// A leader with this vote has spoken.
    pub(super) fn hear_of_leader(&mut self, vote: Vote) {
        if vote.committed && vote >= following::vote(&self.raft) {
            self.leadership.heard = Some((vote.leader_id.term, self.now));
        }
    }

    /// Has a leader's heartbeats go out when they are due.
    pub(super) fn beat(&mut self) {
        let now = self.now;
        if let Some(due) = self.leadership.heartbeat_at.as_mut()
            && *due <= now
        {
            *due = now + self.settings.heartbeat;
            let raft = self.raft.clone();
            drop(
                self.executor
                    .spawn(async move { raft.trigger().heartbeat().await }),
            );
        }
    }

    /// The leader, if it may be believed in now.
    pub(super) fn believed_leader(&mut self, look: &Look) -> Option<u64> {
        self.leadership.named = look.leader;
        let believed = self.look_for_leader(look);
        let unanswered = self.leadership.leads.is_some() && believed.is_none();
        self.silence.note(unanswered, self.now);
        if believed.is_some() && self.leadership.elected.map(|(term, _)| term) != Some(look.term) {
            self.leadership.elected = Some((look.term, self.now));
        }
        believed
    }

    /// The refusal of a proposal or a change of the membership whose deadline has come: that the leader was lost, if it
    /// began in the two election timeouts before the present one was elected.
    pub(super) fn timed_out(&self) -> Refusal {
        let begun = self.now.saturating_sub(self.settings.request_timeout);
        let elected = self.leadership.elected.map(|(_, at)| at);
        let was_lost = elected.is_some_and(|at| {
            let lost = at.saturating_sub(2 * self.settings.election_timeout);
            lost <= begun && begun < at
        });
        match (self.published.leader, self.leadership.named) {
            _ if was_lost => Refusal::TimedOutLeaderLost,
            (None, Some(_)) => Refusal::TimedOutDisconnected,
            _ => Refusal::TimedOut,
        }
    }

    fn look_for_leader(&mut self, look: &Look) -> Option<u64> {
        self.leadership.until = None;
        self.leadership.leads = (look.leader == Some(self.id)).then_some(look.term);
        let others = look.membership.membership().nodes().nth(1).is_some();
        // What makes a leader known first is the entry with which its term begins.
        let heartbeat_at = self.leadership.heartbeat_at;
        self.leadership.heartbeat_at = (self.leadership.leads.is_some() && others)
            .then(|| heartbeat_at.unwrap_or(self.now + self.settings.heartbeat));
        let leader = look.leader?;
        if leader == self.id && look.is_only_voter(self.id) {
            return Some(leader);
        }
        let confirmed = self.leadership.confirmed(leader, self.id, look, self.now)?;
        let until = confirmed + self.settings.election_timeout;
        if until <= self.now {
            return None;
        }
        self.leadership.until = Some(until);
        Some(leader)
    }
}
