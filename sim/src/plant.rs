//! Faults on purpose, to prove that the judges can fail. All but three lie in the simulated surroundings; those in the
//! core are behind a feature that no release build can have.

use prost::Message;

/// A fault on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The disk confirms a write when it begins rather than when it is synced.
    AckBeforeSync,
    /// Reads are answered from whatever the asked member shows, without a barrier.
    ReadWithoutBarrier,
    /// A member that believes to lead answers reads without asking the quorum.
    StaleLeaderRead,
    /// A crash also takes the last batch that was synced.
    LosesSyncedBatch,
    /// Votes never reach the disk.
    VoteNotDurable,
    /// A member that led when it crashed comes back as the leader of the same term.
    LeaderRestore,
    /// Checkpoints are written without the leases.
    CheckpointWithoutLeases,
    /// Leases are granted for half the time that is asked for, and told otherwise.
    ShortensLeases,
    /// Learners are made voters however far they lag.
    PromotesEarly,
    /// Members come in under ids of members that left.
    IdsReturn,
    /// A leader acknowledges changes of the membership when they are asked for.
    AcksChangesEarly,
    /// The members are listed as whoever is asked knows them.
    ListWithoutBarrier,
    /// Every fiftieth response with events never reaches its watcher.
    LosesWatchResponses,
}

impl Plant {
    /// Every plant, its name, and the number of seeds within which a judge must find it.
    pub(crate) const ALL: [(Plant, &str, u64); 13] = [
        (Plant::AckBeforeSync, "ack-before-sync", 100),
        (Plant::ReadWithoutBarrier, "read-without-barrier", 100),
        (Plant::StaleLeaderRead, "stale-leader-read", 200),
        (Plant::LosesSyncedBatch, "loses-synced-batch", 100),
        (Plant::VoteNotDurable, "vote-not-durable", 200),
        (Plant::LeaderRestore, "leader-restore", 200),
        (
            Plant::CheckpointWithoutLeases,
            "checkpoint-without-leases",
            200,
        ),
        (Plant::ShortensLeases, "shortens-leases", 100),
        (Plant::PromotesEarly, "promotes-early", 200),
        (Plant::IdsReturn, "ids-return", 200),
        (Plant::AcksChangesEarly, "acks-changes-early", 100),
        (Plant::ListWithoutBarrier, "list-without-barrier", 200),
        (Plant::LosesWatchResponses, "loses-watch-responses", 100),
    ];

    /// The plant of this name.
    pub(crate) fn named(name: &str) -> Option<Plant> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(plant, ..)| *plant)
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(plant, ..)| *plant == self);
        found.expect("every plant is in the list").1
    }
}

/// A checkpoint's description with its leases left out.
pub(crate) fn without_leases(description: &[u8]) -> Vec<u8> {
    let written = Description::decode(description).expect("the core wrote a description");
    written.encode_to_vec()
}

/// What a description holds, but for its third field.
#[derive(Clone, PartialEq, Message)]
struct Description {
    #[prost(bytes = "vec", tag = "1")]
    meta: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    members: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::Plant;

    #[test]
    fn every_plant_is_found_by_its_name() {
        for (plant, name, seeds) in Plant::ALL {
            assert_eq!(Plant::named(name), Some(plant));
            assert_eq!(plant.name(), name);
            assert!((1..=200).contains(&seeds));
        }
        assert_eq!(Plant::named("weeds"), None);
    }
}
