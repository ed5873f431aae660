//! Whether this member's state is that of the others.
//!
//! The leader tells the others from time to time what its history came to at some indexes, and each voter then tells all
//! others what its own came to at the same ones, as soon as it gets there. With that each member judges itself: it is
//! corrupt if a majority of the voters agree with each other and not with it. Where no majority speaks, since there are two
//! voters or some are away, nobody knows who is right, and a follower that its leader contradicts again and again gives way:
//! better that one serves than none. It goes on telling what it has, and serves again if a majority has the same.
//!
//! A corrupt member refuses requests, hands leadership over and takes none. It stands for election only where nobody leads
//! for long: its log is sound, and it may be the one that the others need.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Member;
use crate::output::{Output, Refusal};
use crate::raft::machine::Mark;
use crate::raft::network::Request;

/// Marks in one comparison: who receives them need not be at the newest yet.
const MARKS_COMPARED: usize = 8;

/// How often a leader may contradict a follower while no majority says who is right.
const DOUBTS_MAX: u32 = 3;

/// Election timeouts after which a new leader compares for the first time, and after which a corrupt member stands where
/// nobody leads.
const TIMEOUTS: u32 = 4;

/// What is known of the states of others.
#[derive(Default)]
pub(super) struct Comparison {
    /// When this leader next tells its marks.
    tell_at: Option<Duration>,
    /// What other voters have said last.
    told: BTreeMap<u64, Vec<Mark>>,
    /// What this member has said to that: it may be long ago that it was there.
    said: Vec<Mark>,
    question: Option<Question>,
    doubts: Option<Doubts>,
    /// Whether a majority has said that this member is the one.
    is_over: bool,
    /// Since when a corrupt member knows of no leader.
    leaderless_since: Option<Duration>,
}

/// What a leader has told last.
struct Question {
    leader: u64,
    marks: Vec<Mark>,
    /// The newest index of it that this member has answered for.
    answered: Option<u64>,
}

/// A leader contradicts this member, and no majority says who is right.
#[derive(Debug, Clone, Copy)]
struct Doubts {
    leader: u64,
    times: u32,
    last: Duration,
}

/// What the voters say of this member's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// No majority has said anything, and nobody has said anything else.
    Unknown,
    /// A majority has the same.
    Sound,
    /// A majority has another one, which it had at this index.
    Corrupt(u64),
    /// Somebody has another one at this index, and no majority has either.
    Open(u64),
}

impl Comparison {
    pub(super) fn alarm(&self, now: Duration, election_timeout: Duration) -> Option<Duration> {
        let since = self.leaderless_since;
        let stands_at = since.map(|at| at + election_timeout * TIMEOUTS);
        let stands_at = stands_at.filter(|at| *at > now);
        self.tell_at.into_iter().chain(stands_at).min()
    }
}

/// What so many voters say who have told these marks, of a member that votes or does not, with these marks. Not all are at
/// the newest yet: where no majority speaks of an index, one before it decides, unless nobody was against this member there,
/// which says nothing of what came later.
fn verdict(own: &[Mark], votes: bool, voters: usize, told: &[&[Mark]]) -> Verdict {
    let mut open = None;
    for mark in own.iter().rev() {
        let at = told.iter().filter_map(|marks| {
            let digest = marks.iter().find(|it| it.index == mark.index)?.digest;
            Some(digest)
        });
        let mut others: BTreeMap<u32, usize> = BTreeMap::new();
        at.for_each(|digest| *others.entry(digest).or_default() += 1);
        let same = others.remove(&mark.digest).unwrap_or(0);
        let against = others.into_values().max().unwrap_or(0);
        if 2 * against > voters {
            return Verdict::Corrupt(mark.index);
        }
        let agreed = same > 0 && 2 * (same + usize::from(votes)) > voters;
        if agreed && (open.is_none() || against > 0) {
            return Verdict::Sound;
        }
        if against > 0 {
            open.get_or_insert(mark.index);
        }
    }
    open.map_or(Verdict::Unknown, Verdict::Open)
}

/// Adds the marks at indexes that are not there yet.
fn add(marks: &mut Vec<Mark>, more: &[Mark]) {
    for mark in more {
        if !at_any(marks, mark.index) {
            marks.push(*mark);
        }
    }
}

fn at_any(marks: &[Mark], index: u64) -> bool {
    marks.iter().any(|mark| mark.index == index)
}

impl Member {
    /// A leader tells the others what its history came to, from time to time, and others answer when they get there; tells
    /// whether anything is to be sent.
    pub(super) fn tend_comparison(&mut self, leads: bool) -> bool {
        self.tend_candidacy();
        let interval = self.settings.comparison_interval;
        let Some(interval) = interval.filter(|_| leads && !self.standing.is_corrupt()) else {
            self.comparison.tell_at = None;
            return self.answer_comparison();
        };
        let soon = self.settings.election_timeout * TIMEOUTS;
        let due = *self
            .comparison
            .tell_at
            .get_or_insert(self.now + interval.min(soon));
        if due > self.now {
            return false;
        }
        let marks = self.replica.borrow().newest_marks(MARKS_COMPARED);
        let comparison = &mut self.comparison;
        comparison.tell_at = Some(self.now + interval);
        comparison.told.clear();
        comparison.question = None;
        comparison.said = marks.clone();
        self.tell(marks)
    }

    /// Lets a corrupt member stand where nobody has led for long.
    fn tend_candidacy(&mut self) {
        if !self.standing.is_corrupt() {
            return;
        }
        let since = &mut self.comparison.leaderless_since;
        match self.published.leader {
            Some(_) if since.take().is_some() => self.raft.runtime_config().elect(false),
            Some(_) => {}
            None => {
                let since = *since.get_or_insert(self.now);
                let stands = since + self.settings.election_timeout * TIMEOUTS <= self.now;
                self.raft.runtime_config().elect(stands);
            }
        }
    }

    /// Another member has told what its history came to. The leader's word is a question to all.
    pub(super) fn compare(&mut self, from: u64, marks: &[Mark]) {
        if self.comparison.is_over || marks.len() > MARKS_COMPARED {
            return;
        }
        let comparison = &mut self.comparison;
        let asks = self.published.leader == Some(from);
        if asks {
            let same = |told: &[Mark]| told.iter().any(|it| at_any(marks, it.index));
            comparison.told.retain(|_, told| same(told));
            comparison.said.retain(|mark| at_any(marks, mark.index));
            comparison.question = Some(Question {
                leader: from,
                marks: marks.to_vec(),
                answered: None,
            });
        }
        comparison.told.insert(from, marks.to_vec());
        if asks {
            self.answer_comparison();
        } else {
            let verdict = self.judge_own_state();
            self.take(verdict);
        }
    }

    /// Tells the others what this member has come to of what the leader has asked about, and looks at itself again; tells
    /// whether anything is to be sent.
    fn answer_comparison(&mut self) -> bool {
        let Some(question) = &mut self.comparison.question else {
            return false;
        };
        let last = question.marks.last().map(|mark| mark.index);
        if last == question.answered || self.comparison.is_over {
            return false;
        }
        let own = self.replica.borrow().marks_at(&question.marks);
        let newest = own.last().map(|mark| mark.index);
        if newest <= question.answered {
            return false;
        }
        question.answered = newest;
        let leader = question.leader;
        add(&mut self.comparison.said, &own);
        match self.judge_own_state() {
            Verdict::Open(index) => self.doubt(leader, index),
            verdict => self.take(verdict),
        }
        let votes = self.raft.voter_ids().any(|voter| voter == self.id);
        votes && self.tell(own)
    }

    fn take(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Unknown | Verdict::Open(_) => {}
            Verdict::Sound => {
                self.comparison.doubts = None;
                self.acquit();
            }
            Verdict::Corrupt(index) => {
                self.comparison.is_over = true;
                self.convict(index);
            }
        }
    }

    /// A leader contradicts this member, and no majority says who is right. It is counted once for each question, also if
    /// that comes twice.
    fn doubt(&mut self, leader: u64, index: u64) {
        let told = self.comparison.told.get(&leader);
        let mut said = self.comparison.said.iter();
        let contradicted = said.any(|own| {
            let mut told = told.into_iter().flatten();
            told.any(|it| it.index == own.index && it.digest != own.digest)
        });
        let interval = self.settings.comparison_interval.unwrap_or_default();
        let before = self.comparison.doubts.filter(|it| it.leader == leader);
        let is_counted = before.is_some_and(|it| self.now < it.last + interval / 2);
        if !contradicted || is_counted {
            return;
        }
        let times = before.map_or(1, |it| it.times + 1);
        let last = self.now;
        self.comparison.doubts = Some(Doubts {
            leader,
            times,
            last,
        });
        if times >= DOUBTS_MAX && !self.standing.is_corrupt() {
            self.convict(index);
        }
    }

    fn judge_own_state(&mut self) -> Verdict {
        let voters: Vec<u64> = self.raft.voter_ids().collect();
        let comparison = &mut self.comparison;
        comparison
            .told
            .retain(|id, _| *id != self.id && voters.contains(id));
        let told: Vec<&[Mark]> = comparison.told.values().map(Vec::as_slice).collect();
        let mut own = self.replica.borrow().newest_marks(usize::MAX);
        add(&mut own, &comparison.said);
        own.sort_unstable_by_key(|mark| mark.index);
        verdict(&own, voters.contains(&self.id), voters.len(), &told)
    }

    /// Says that this member is corrupt; once more when a majority says so of one that gave way.
    fn convict(&mut self, index: u64) {
        let by_majority = self.comparison.is_over;
        if !self.standing.is_corrupt() {
            self.standing.convict(true);
            self.raft.runtime_config().elect(false);
            self.refuse_all_barriers(&Refusal::Corrupt);
        }
        self.outputs
            .push_back(Output::Corrupt { index, by_majority });
    }

    /// A majority has what this member has, which gave way to its leader before that was known.
    fn acquit(&mut self) {
        if self.standing.is_corrupt() && !self.comparison.is_over {
            self.standing.convict(false);
            self.comparison.leaderless_since = None;
            self.raft.runtime_config().elect(true);
            self.outputs.push_back(Output::Acquitted);
        }
    }

    /// Sends marks to all others; tells whether there are any.
    fn tell(&mut self, marks: Vec<Mark>) -> bool {
        if marks.is_empty() {
            return false;
        }
        let others: Vec<u64> = self.published.members.iter().map(|m| m.id).collect();
        let mut outbox = self.outbox.borrow_mut();
        for to in others.into_iter().filter(|id| *id != self.id) {
            let (call, _reply) = outbox.call(to, Request::Compare(marks.clone()));
            // Nothing to wait for: who differs says so to its own.
            outbox.forget_call(call);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(digests: &[(u64, u32)]) -> Vec<Mark> {
        let mark = |(index, digest): &(u64, u32)| Mark {
            index: *index,
            digest: *digest,
        };
        digests.iter().map(mark).collect()
    }

    /// The verdict of so many voters on one that has 7 at index 512, where the others say this.
    fn of(voters: usize, votes: bool, others: &[&[(u64, u32)]]) -> Verdict {
        let told: Vec<Vec<Mark>> = others.iter().map(|it| marks(it)).collect();
        let told: Vec<&[Mark]> = told.iter().map(Vec::as_slice).collect();
        verdict(&marks(&[(256, 1), (512, 7)]), votes, voters, &told)
    }

    #[test]
    fn a_majority_of_the_voters_decides() {
        let (same, other, third) = (&[(512, 7)][..], &[(512, 8)][..], &[(512, 9)][..]);
        assert_eq!(of(3, true, &[same, other]), Verdict::Sound);
        assert_eq!(of(3, true, &[other, other]), Verdict::Corrupt(512));
        assert_eq!(of(3, true, &[other]), Verdict::Open(512));
        assert_eq!(of(3, true, &[other, third]), Verdict::Open(512));
        assert_eq!(of(2, true, &[other]), Verdict::Open(512));
        assert_eq!(of(5, true, &[same, other, other]), Verdict::Open(512));
        assert_eq!(
            of(5, true, &[same, other, other, other]),
            Verdict::Corrupt(512)
        );
        assert_eq!(of(5, true, &[same, same, other, other]), Verdict::Sound);
        // One that only learns has no voice.
        assert_eq!(of(1, false, &[other]), Verdict::Corrupt(512));
        assert_eq!(of(3, false, &[same, other]), Verdict::Open(512));
        assert_eq!(of(3, false, &[same, same, other]), Verdict::Sound);
    }

    #[test]
    fn who_is_not_at_the_newest_index_yet_is_heard_at_the_one_before() {
        let behind = |digest| [(256, digest)];
        // The leader is wrong: as it hears of itself, and as the follower hears of it that is further.
        assert_eq!(
            of(3, true, &[&[(256, 2), (512, 8)], &behind(2)]),
            Verdict::Corrupt(256)
        );
        assert_eq!(
            of(3, true, &[&[(256, 2), (512, 8)], &behind(1)]),
            Verdict::Sound
        );
        // All agreed at the index before: what was wrong later is open.
        assert_eq!(
            of(3, true, &[&[(256, 1), (512, 8)], &behind(1)]),
            Verdict::Open(512)
        );
        assert_eq!(
            of(5, true, &[&[(256, 1), (512, 7)], &behind(2), &behind(2)]),
            Verdict::Open(256)
        );
    }

    #[test]
    fn only_what_others_say_of_the_same_index_counts_and_the_newest_first() {
        assert_eq!(of(3, true, &[]), Verdict::Unknown);
        assert_eq!(of(3, true, &[&[(768, 8)], &[(768, 8)]]), Verdict::Unknown);
        assert_eq!(
            of(3, true, &[&[(256, 2)], &[(256, 2)]]),
            Verdict::Corrupt(256)
        );
        assert_eq!(
            of(3, true, &[&[(256, 2), (512, 7)], &[(256, 2)]]),
            Verdict::Sound
        );
    }
}
