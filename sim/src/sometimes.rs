//! What happens sometimes: counters of the situations that a sweep of seeds is there for.
//!
//! A judge that never saw a torn tail says nothing about torn tails. So each run counts what it met, a sweep adds that
//! up, and one of many seeds fails where a situation never came about: then the worlds have become too tame.

use std::cell::Cell;
use std::collections::BTreeMap;

/// A list of situations, each with its name in plain words.
macro_rules! situations {
    ($($name:ident = $words:literal,)*) => {
        /// A situation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Situation {
            $(#[doc = $words] $name,)*
        }

        impl Situation {
            /// All of them, with their names.
            pub(crate) const ALL: &'static [(Situation, &'static str)] =
                &[$((Situation::$name, $words),)*];
        }
    };
}

situations! {
    // The disk.
    TornTailCut = "a torn tail was cut",
    TornTailCutHalfway = "a start crashed while it cut a torn tail",
    StartCrashed = "a start crashed and the next one went on",
    CheckpointAhead = "a start found its checkpoint ahead of its log",
    ReplayedBehindCheckpoint = "a start replayed a log behind a checkpoint",
    CheckpointUnconfirmed = "a checkpoint was there that nobody had confirmed",
    SegmentsDropped = "segments were dropped behind a checkpoint",
    DiskRefused = "a disk refused a write and its member stopped",
    CheckpointFailed = "a checkpoint failed and the log went on",
    EntriesTakenBack = "a follower took back entries it had written",
    RotRefusedLog = "a member refused a log with a flipped bit",
    RotRefusedCheckpoint = "a member refused a checkpoint with a flipped bit",
    RotNeverRead = "a flipped bit went away before anybody read it",
    RottenReplaced = "a machine with a flipped bit was replaced",
    // Leaders.
    DeposedWithWrites = "a leader was deposed with writes in flight",
    CrashedWithWrites = "a leader crashed with writes in flight",
    TwoLeaders = "two members believed to lead at once",
    LeaderAlone = "a leader without a quorum ceased to be believed",
    HandedOverWithWrites = "leadership was handed over with writes in flight",
    TransferGivenUp = "a transfer of leadership was given up",
    SteppedDown = "a member that was to stop handed leadership over",
    StoppedInOrder = "a start found a log that was closed in order",
    PausedThroughElection = "a process stood still while others elected a leader",
    ElectedBesideLeader = "a majority elected a leader while it heard one without a quorum",
    SuspendedLeader = "the clock of a leader stood still with it",
    // Proposals.
    SurvivedLeaderChange = "a write asked for under one leader was answered under the next",
    ForwardedSurvived = "a forwarded proposal survived a leader change",
    EndUnknown = "a client was told that nobody knows the end of its write",
    TimedOut = "a request timed out",
    TwiceInAnotherLife = "a duplicate letter arrived in another life",
    HeldIntoAnotherLife = "a letter that was held back arrived in another life",
    // Reads.
    ReadByFollower = "a linearizable read was answered by a follower",
    ReadSurvivedLeaderChange = "a read asked for under one leader was answered under the next",
    ReadIndexRefused = "a read index was refused",
    StaleSerializable = "a serializable read showed an older state",
    PastCompacted = "a read of the past was refused as compacted",
    // Leases.
    RenewedThroughFollower = "a lease was renewed through a follower",
    RenewedUnderAnother = "a lease was renewed under another leader than granted it",
    RanOut = "a lease ended because its time was over",
    RenewedTooLate = "a renewal came too late",
    HungTooLate = "a key was to hang on a lease that was gone",
    // Watchers.
    ResumedAcrossCompaction = "a watcher resumed across a compaction",
    OvertakenByCompaction = "a watcher was cancelled because its start was compacted",
    ResumedAcrossLeaders = "a watcher resumed on another member under another leader",
    CaughtUp = "a watcher began in the past and caught up",
    // Snapshots.
    Installed = "a snapshot was installed",
    InstalledInChange = "a snapshot was installed during a membership change",
    InstalledTwice = "a member installed two snapshots within seconds",
    CompactedWhileSent = "a compaction came while a snapshot was being sent",
    CheckpointWhileInstalled = "a checkpoint was under way when a snapshot came",
    ReceiverCrashed = "a member crashed while a snapshot was on its way to it",
    SenderCrashed = "a leader crashed while it sent a snapshot",
    PieceWaited = "a piece of a snapshot waited for others to be acknowledged",
    // The membership.
    Promoted = "a learner was promoted",
    FinishedByNext = "a leader finished the membership change of the one before",
    ChangeTakenBack = "a membership in a log was taken back",
    RemovedLeader = "a removed leader stepped down",
    RemovedWhileDown = "a member was removed while it was down",
    CameBack = "a removed member came back and was told",
    NotInSync = "a promotion was refused because the learner lagged",
    MachineReplaced = "a destroyed machine was replaced by another",
    ChangeForwarded = "a change of the membership was forwarded to the leader",
    // Transactions and registers.
    ReadInstead = "a transaction read instead of writing",
    SurveyedByFollower = "a transaction that only reads was answered by a follower",
    OrderFound = "an order of all operations on a register was found",
    // What scenarios are there for, and few worlds that are drawn: see FOR_SCENARIOS.
    DrainedAtStop = "a member that stopped wrote what still waited for its log",
    AloneWithJoiner = "a leader without a quorum had a member to make a voter",
    LeftWithJoiner = "a leader that had taken itself out had a member to make a voter",
    CrashedLeaving = "a leader that had taken itself out crashed before that was in force",
    ToldByLeaver = "a member that was taken out answered who had asked it for a change",
    ListedInChange = "members were listed where a change was in the log and not agreed on",
    InstallFailed = "the checkpoint of a snapshot that was to be installed failed",
    PieceLost = "a piece of a snapshot was lost without a word",
    AppendLost = "an append was lost without a word",
    ForwardedTwice = "a second copy of forwarded proposals arrived in another life",
    CompactionReplayed = "a start replayed a compaction from its log",
    ResumedWithin = "a watcher went on within a transaction of which it had heard a part",
    ProgressWhileBehind = "a stream was asked for its progress while a watcher on it lagged",
}

/// The first of those that a sweep need not meet, because scenarios do.
const FOR_SCENARIOS: Situation = Situation::DrainedAtStop;

/// How often each came about in one run, or in many.
pub(crate) struct Sometimes(Vec<Cell<u64>>);

impl Default for Sometimes {
    fn default() -> Self {
        Self(vec![Cell::new(0); Situation::ALL.len()])
    }
}

impl Sometimes {
    /// It came about once more.
    pub(crate) fn saw(&self, situation: Situation) {
        self.saw_times(situation, 1);
    }

    /// As [`Sometimes::saw`], where it holds.
    pub(crate) fn saw_if(&self, holds: bool, situation: Situation) {
        self.saw_times(situation, u64::from(holds));
    }

    /// It came about so many times.
    pub(crate) fn saw_times(&self, situation: Situation, times: u64) {
        let count = &self.0[situation as usize];
        count.set(count.get() + times);
    }

    /// How often it came about.
    pub(crate) fn count(&self, situation: Situation) -> u64 {
        self.0[situation as usize].get()
    }

    /// One line for each, by which [`Tally::take`] reads it back.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let all = Situation::ALL.iter().zip(&self.0);
        all.map(|((_, words), count)| line(count.get(), words))
    }
}

/// What many runs came to: for each situation how often, and in how many runs at all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    runs: u64,
    seen: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    /// Takes in what a run printed.
    pub(crate) fn take(&mut self, output: &str) {
        self.runs += 1;
        for line in output.lines().filter_map(|line| line.strip_prefix(LINE)) {
            let Some((count, words)) = line.split_once(' ') else {
                continue;
            };
            let count: u64 = count.parse().unwrap_or(0);
            let (times, runs) = self.seen.entry(words.to_owned()).or_default();
            *times += count;
            *runs += u64::from(count > 0);
        }
    }

    /// How often something came about that is counted under these words.
    pub(crate) fn times(&self, words: &str) -> u64 {
        self.seen.get(words).map_or(0, |(times, _)| *times)
    }

    /// The situations that never came about.
    pub(crate) fn never(&self) -> Vec<&'static str> {
        let names = Situation::ALL.iter().take(FOR_SCENARIOS as usize);
        let names = names.map(|(_, words)| *words);
        names.filter(|words| self.times(words) == 0).collect()
    }

    /// One line for each, the rarest first.
    pub(crate) fn table(&self) -> String {
        let row = |words: &'static str| {
            let (times, runs) = self.seen.get(words).copied().unwrap_or_default();
            (runs, times, words)
        };
        let names = Situation::ALL.iter().map(|(_, words)| *words);
        let mut rows: Vec<(u64, u64, &str)> = names.map(row).collect();
        rows.sort_unstable();
        let mut text = format!("sometimes, in {} runs:\n", self.runs);
        for (runs, times, words) in rows {
            text.push_str(&format!("  {times:>8} times in {runs:>6} runs: {words}\n"));
        }
        text
    }
}

/// The line that says how often something came about.
pub(crate) fn line(count: u64, words: &str) -> String {
    format!("{LINE}{count} {words}")
}

/// Under these words a scenario counts the situation that it is there for.
pub(crate) const SHOWN: &str = "what the scenario is there for";

/// What is printed for people, without the counts of situations.
pub(crate) fn without_counts(output: &str) -> String {
    let lines = output.lines().filter(|line| !line.starts_with(LINE));
    lines.map(|line| format!("{line}\n")).collect()
}

const LINE: &str = "sometimes ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_has_a_name_of_its_own_and_there_are_many() {
        let names: std::collections::BTreeSet<&str> =
            Situation::ALL.iter().map(|(_, words)| *words).collect();
        assert_eq!(names.len(), Situation::ALL.len());
        assert!(names.len() >= 30);
        for (place, (situation, _)) in Situation::ALL.iter().enumerate() {
            assert_eq!(*situation as usize, place);
        }
    }

    #[test]
    fn what_never_came_about_is_told() {
        let some = Sometimes::default();
        some.saw(Situation::TornTailCut);
        some.saw(Situation::TornTailCut);
        let mut tally = Tally::default();
        let output: String = some.lines().map(|line| line + "\n").collect();
        tally.take(&format!("world\n{output}ok seed=1\n"));
        tally.take("no counts here\n");
        let never = tally.never();
        assert_eq!(never.len(), FOR_SCENARIOS as usize - 1);
        assert!(!never.contains(&"a torn tail was cut"));
        let expected = "2 times in      1 runs: a torn tail was cut";
        assert!(tally.table().contains(expected), "{}", tally.table());
        let people = without_counts(&format!("world\n{output}ok\n"));
        assert_eq!(people, "world\nok\n");
    }
}
