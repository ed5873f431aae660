//! Faults on purpose, to prove that the judges can fail. Those of the surroundings are here; those of the core are behind
//! its feature `plant`, which no release build can have. A judge is never told what is planted.

use metastore_core::command::Request;
use metastore_core::lease::LeaseTerms;
use metastore_core::mvcc::View;
use metastore_core::output::Outcome;
use metastore_core::plant::{Plant as InCore, Planted};
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request as InTxn;
use metastore_proto::etcdserverpb::response_op::Response as Done;
use metastore_proto::etcdserverpb::{Compare, RangeRequest, TxnRequest, TxnResponse};
use prost::Message;

use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// A fault on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// One that lies in the core.
    Core(InCore),
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
    /// Truncations never reach the disk.
    TruncationNotDurable,
    /// The log before a checkpoint goes when the checkpoint is begun.
    DropsLogEarly,
    /// Checkpoints are written without the leases.
    CheckpointWithoutLeases,
    /// Checkpoints are written without the members that left.
    CheckpointWithoutRemoved,
    /// Leases are granted for half the time that is asked for, and told otherwise.
    ShortensLeases,
    /// A leader acknowledges changes of the membership when they are asked for.
    AcksChangesEarly,
    /// The members are listed as whoever is asked knows them.
    ListWithoutBarrier,
    /// Every fiftieth response with events never reaches its watcher.
    LosesWatchResponses,
    /// The guards of a transaction are looked at when it is asked for, not when it is executed.
    GuardsTooEarly,
    /// Every fifth read that needs no barrier is answered from the state before.
    ReadsOlderView,
    /// Every fiftieth answer of a member never reaches who waits for it.
    ForgetsAnswers,
    /// Who waits behind a claim takes itself for the owner as soon as it hears of anything.
    OwnsUnlooked,
    /// A transaction whose guards fail reads the state before.
    ElseFromBefore,
    /// The last read of a transaction that only reads comes from the state before.
    SurveysApart,
    /// A store counts as full when half of its room is taken.
    FullTooSoon,
    /// Who renews a lease is told a second more than it has.
    TellsLongerLeases,
    /// Checkpoints are written without what leases have left.
    CheckpointWithoutRecords,
}

impl Plant {
    /// Every plant, its name, and the number of seeds within which a judge must find it.
    pub(crate) const ALL: [(Plant, &str, u64); 45] = [
        (Plant::AckBeforeSync, "ack-before-sync", 100),
        (Plant::ReadWithoutBarrier, "read-without-barrier", 100),
        (Plant::StaleLeaderRead, "stale-leader-read", 200),
        (Plant::LosesSyncedBatch, "loses-synced-batch", 100),
        (Plant::VoteNotDurable, "vote-not-durable", 200),
        (Plant::Core(InCore::LeaderRestore), "leader-restore", 200),
        (
            Plant::CheckpointWithoutLeases,
            "checkpoint-without-leases",
            200,
        ),
        (Plant::ShortensLeases, "shortens-leases", 100),
        (Plant::Core(InCore::PromotesEarly), "promotes-early", 200),
        (Plant::Core(InCore::IdsReturn), "ids-return", 200),
        (Plant::AcksChangesEarly, "acks-changes-early", 100),
        (Plant::ListWithoutBarrier, "list-without-barrier", 200),
        (Plant::LosesWatchResponses, "loses-watch-responses", 100),
        (Plant::TruncationNotDurable, "truncation-not-durable", 200),
        (Plant::DropsLogEarly, "drops-log-early", 200),
        (
            Plant::CheckpointWithoutRemoved,
            "checkpoint-without-removed",
            200,
        ),
        (Plant::GuardsTooEarly, "guards-too-early", 200),
        (
            Plant::Core(InCore::FollowersEndLeases),
            "followers-end-leases",
            200,
        ),
        (Plant::Core(InCore::RenewsAnywhere), "renews-anywhere", 200),
        (
            Plant::Core(InCore::ShowsUncommitted),
            "shows-uncommitted",
            200,
        ),
        (
            Plant::Core(InCore::ForgetsCompaction),
            "forgets-compaction",
            200,
        ),
        (Plant::Core(InCore::ReusesRevision), "reuses-revision", 200),
        (
            Plant::Core(InCore::TearsTransaction),
            "tears-transaction",
            200,
        ),
        (Plant::Core(InCore::AppliesTwice), "applies-twice", 200),
        (
            Plant::Core(InCore::VotesForStrangers),
            "votes-for-strangers",
            200,
        ),
        (Plant::Core(InCore::RemovedStays), "removed-stays", 200),
        (Plant::Core(InCore::KeepsReadIndex), "keeps-read-index", 200),
        (
            Plant::Core(InCore::TakesLettersTwice),
            "takes-letters-twice",
            200,
        ),
        (Plant::Core(InCore::InstallsEarly), "installs-early", 200),
        (Plant::Core(InCore::SkipsCompacted), "skips-compacted", 200),
        (Plant::Core(InCore::StartsEarly), "starts-early", 200),
        (
            Plant::Core(InCore::ProgressTooEarly),
            "progress-too-early",
            200,
        ),
        (
            Plant::Core(InCore::NewestAsPrevious),
            "newest-as-previous",
            200,
        ),
        (Plant::ReadsOlderView, "reads-older-view", 200),
        (Plant::OwnsUnlooked, "owns-unlooked", 200),
        (Plant::ForgetsAnswers, "forgets-answers", 100),
        (
            Plant::Core(InCore::CountsWhatIsSwept),
            "counts-what-is-swept",
            200,
        ),
        (Plant::ElseFromBefore, "else-from-before", 200),
        (Plant::SurveysApart, "surveys-apart", 200),
        (Plant::FullTooSoon, "full-too-soon", 200),
        (Plant::TellsLongerLeases, "tells-longer-leases", 100),
        (
            Plant::CheckpointWithoutRecords,
            "checkpoint-without-records",
            200,
        ),
        (Plant::Core(InCore::EndsAnyLease), "ends-any-lease", 200),
        (
            Plant::Core(InCore::ForgetsPrevious),
            "forgets-previous",
            200,
        ),
        (Plant::Core(InCore::LosesWakeUps), "loses-wake-ups", 200),
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

    /// What a member or a hub is started with.
    pub(crate) fn in_core(plant: Option<Plant>) -> Planted {
        Planted::new(match plant {
            Some(Plant::Core(plant)) => Some(plant),
            _ => None,
        })
    }
}

/// A checkpoint's description with something left out.
pub(crate) fn without(plant: Option<Plant>, description: Vec<u8>) -> Vec<u8> {
    let read = || Description::decode(description.as_slice()).expect("the core wrote it");
    match plant {
        Some(Plant::CheckpointWithoutLeases) => Description {
            leases: Vec::new(),
            ..read()
        }
        .encode_to_vec(),
        Some(Plant::CheckpointWithoutRecords) => {
            let mut description = read();
            for lease in &mut description.leases {
                let terms = LeaseTerms::decode(lease.as_slice()).expect("the core wrote it");
                let terms = LeaseTerms {
                    remaining_seconds: 0,
                    ..terms
                };
                *lease = terms.encode_to_vec();
            }
            description.encode_to_vec()
        }
        Some(Plant::CheckpointWithoutRemoved) => Description {
            removed: Vec::new(),
            ..read()
        }
        .encode_to_vec(),
        _ => description,
    }
}

/// As the core describes a checkpoint.
#[derive(Clone, PartialEq, Message)]
struct Description {
    #[prost(bytes = "vec", tag = "1")]
    meta: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    members: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    leases: Vec<Vec<u8>>,
    #[prost(fixed64, repeated, tag = "4")]
    removed: Vec<u64>,
    #[prost(fixed32, tag = "5")]
    digest: u32,
}

/// The transaction with its guards decided by what this view holds.
pub(crate) fn decided(view: &View, txn: TxnRequest) -> Request {
    let guards = TxnRequest {
        compare: txn.compare.clone(),
        ..TxnRequest::default()
    };
    let holds = view.txn_read_only(&guards).is_ok_and(|it| it.succeeded);
    let compare = match holds {
        true => Vec::new(),
        false => vec![impossible()],
    };
    Request::Txn(TxnRequest { compare, ..txn })
}

/// The answer to an operation with what a transaction read last taken from the state before, where that is planted.
pub(crate) fn spoilt(plant: Option<Plant>, view: &View, op: &Op, ending: Ending) -> Ending {
    match (plant, ending) {
        (Some(Plant::SurveysApart), Ending::Surveyed(Ok(mut response))) => {
            let asked = op.inquiry().unwrap_or_default();
            read_before(view, &asked, &mut response);
            Ending::Surveyed(Ok(response))
        }
        (Some(Plant::ElseFromBefore), Ending::Wrote(Outcome::Txn(mut response))) => {
            if let (Some(Request::Txn(asked)), false) = (op.request(), response.succeeded) {
                read_before(view, &asked, &mut response);
            }
            Ending::Wrote(Outcome::Txn(response))
        }
        (_, ending) => ending,
    }
}

/// Reads the last range of a transaction once more, one revision before that of its answer, if that can be read.
fn read_before(view: &View, asked: &TxnRequest, response: &mut TxnResponse) {
    let branch = match response.succeeded {
        true => &asked.success,
        false => &asked.failure,
    };
    let header = response.header.as_ref();
    let revision = header.map_or(0, |header| header.revision) - 1;
    let (Some(asked), Some(answered)) = (branch.last(), response.responses.last_mut()) else {
        return;
    };
    if let (Some(InTxn::RequestRange(range)), Some(Done::ResponseRange(answer))) =
        (&asked.request, &mut answered.response)
        && let Ok(before) = view.range(&RangeRequest {
            revision,
            ..range.clone()
        })
    {
        (answer.kvs, answer.count) = (before.kvs, before.count);
    }
}

/// What never holds.
fn impossible() -> Compare {
    Compare {
        result: CompareResult::Less.into(),
        target: CompareTarget::Version.into(),
        key: b"never".to_vec(),
        target_union: Some(TargetUnion::Version(0)),
        ..Compare::default()
    }
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
        assert!(Plant::ALL.len() >= 22);
        assert_eq!(Plant::named("weeds"), None);
    }
}
