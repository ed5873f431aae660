//! Faults on purpose, which the simulator plants to see that its judges notice. They do something only with the feature
//! `plant`, which does not compile without debug assertions; without it every question here is answered with no, at
//! compile time.

/// A fault on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A member that led when it stopped leads the same term again.
    LeaderRestore,
    /// Learners are made voters however far they lag.
    PromotesEarly,
    /// Members come in under ids of members that left.
    IdsReturn,
    /// Followers count leases down, too, from what they know, and have the leader end them.
    FollowersEndLeases,
    /// A member that does not lead answers renewals from its own state.
    RenewsAnywhere,
    /// The end of a lease whose time is over also ends a later one with its id.
    EndsAnyLease,
    /// What is in the log and not agreed on is shown to readers and watchers.
    ShowsUncommitted,
    /// A restart forgets what was compacted before its checkpoint.
    ForgetsCompaction,
    /// After a restart the last write of the log is not there, and its revision goes to another.
    ReusesRevision,
    /// A restart executes only the first operation of the last transaction in the log.
    TearsTransaction,
    /// The first entry after a checkpoint or a snapshot is applied twice.
    AppliesTwice,
    /// Who is known to have left is still voted for.
    VotesForStrangers,
    /// A member that was removed goes on as if nobody had told it.
    RemovedStays,
    /// The last read index is used again: by a leader for as long as it knows of no other, elsewhere for a moment.
    KeepsReadIndex,
    /// A letter with proposals that arrives twice is taken twice.
    TakesLettersTwice,
    /// What was sent to a leader goes to the next one before it is known what became of it.
    TriesAgainEarly,
    /// A snapshot counts as installed before it is durable.
    InstallsEarly,
    /// A watcher that asks for what is compacted begins at the boundary, and is not told.
    SkipsCompacted,
    /// A watcher whose start lies ahead of its member begins at once.
    StartsEarly,
    /// Progress is told to watchers that lag.
    ProgressTooEarly,
    /// A watcher that lags is shown the newest value of a key as the one before.
    NewestAsPrevious,
    /// A watcher that lags is never shown the value of a key as the one before.
    ForgetsPrevious,
    /// Whoever waits for a stream is not woken for every seventh revision.
    LosesWakeUps,
    /// A leader that no quorum answers speaks as if it had one.
    SpeaksForEver,
    /// What a sweep has freed counts against the quota as before.
    CountsWhatIsSwept,
}

/// What is planted in one member or hub: nothing, in any build that is shipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    #[cfg(feature = "plant")]
    plant: Option<Plant>,
}

impl Planted {
    /// One fault, or none.
    #[cfg(feature = "plant")]
    pub fn new(plant: Option<Plant>) -> Self {
        Self { plant }
    }

    /// Whether it is this.
    #[cfg(feature = "plant")]
    pub(crate) fn is(self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Whether it is this.
    #[cfg(not(feature = "plant"))]
    pub(crate) const fn is(self, _: Plant) -> bool {
        false
    }
}
