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
    /// The disk confirms a write of entries when it begins rather than when it is synced; votes are confirmed in time.
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
    /// Checkpoints are written without the leases that no key hangs on.
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
    /// A member that stops in good order forgets what still waits for its log.
    StopsHastily,
}

/// How a fault is planted, and who must notice.
pub(crate) struct Sowing {
    pub(crate) plant: Plant,
    pub(crate) name: &'static str,
    /// Within so many seeds each of the judges must object.
    pub(crate) seeds: u64,
    /// Not only one of them: whoever else objects first in a seed proves nothing about these.
    pub(crate) judges: &'static [&'static str],
    /// Numbers of its worlds that are not as the seeds draw them, where few worlds would show it.
    pub(crate) set: &'static [(&'static str, u64)],
}

impl Sowing {
    const fn new(
        plant: Plant,
        name: &'static str,
        seeds: u64,
        judges: &'static [&'static str],
    ) -> Self {
        Self {
            plant,
            name,
            seeds,
            judges,
            set: &[],
        }
    }
}

impl Plant {
    /// Every plant. The judges of each are those whose blindness it would show: they say what its name says.
    pub(crate) const ALL: &'static [Sowing] = &[
        Sowing::new(Plant::AckBeforeSync, "ack-before-sync", 200, &["quorum"]),
        Sowing::new(
            Plant::ReadWithoutBarrier,
            "read-without-barrier",
            100,
            &["linearizable"],
        ),
        Sowing::new(
            Plant::StaleLeaderRead,
            "stale-leader-read",
            200,
            &["linearizable"],
        ),
        Sowing::new(
            Plant::LosesSyncedBatch,
            "loses-synced-batch",
            100,
            &["durable"],
        ),
        Sowing::new(
            Plant::VoteNotDurable,
            "vote-not-durable",
            200,
            &["membership"],
        ),
        Sowing::new(
            Plant::Core(InCore::LeaderRestore),
            "leader-restore",
            200,
            &["one-history", "membership"],
        ),
        Sowing::new(
            Plant::CheckpointWithoutLeases,
            "checkpoint-without-leases",
            200,
            &["equal-states"],
        ),
        Sowing::new(Plant::ShortensLeases, "shortens-leases", 100, &["leases"]),
        Sowing::new(
            Plant::Core(InCore::PromotesEarly),
            "promotes-early",
            200,
            &["membership"],
        ),
        Sowing::new(
            Plant::Core(InCore::IdsReturn),
            "ids-return",
            200,
            &["membership"],
        ),
        Sowing::new(
            Plant::AcksChangesEarly,
            "acks-changes-early",
            100,
            &["changes"],
        ),
        Sowing::new(
            Plant::ListWithoutBarrier,
            "list-without-barrier",
            200,
            &["changes"],
        ),
        Sowing::new(
            Plant::LosesWatchResponses,
            "loses-watch-responses",
            100,
            &["watch"],
        ),
        Sowing::new(
            Plant::TruncationNotDurable,
            "truncation-not-durable",
            200,
            &["recovery"],
        ),
        Sowing::new(Plant::DropsLogEarly, "drops-log-early", 200, &["recovery"]),
        Sowing::new(
            Plant::CheckpointWithoutRemoved,
            "checkpoint-without-removed",
            200,
            &["replay"],
        ),
        Sowing::new(
            Plant::GuardsTooEarly,
            "guards-too-early",
            200,
            &["answers", "sum"],
        ),
        Sowing::new(
            Plant::Core(InCore::FollowersEndLeases),
            "followers-end-leases",
            200,
            &["leases"],
        ),
        Sowing::new(
            Plant::Core(InCore::RenewsAnywhere),
            "renews-anywhere",
            200,
            &["leases"],
        ),
        Sowing::new(
            Plant::Core(InCore::ShowsUncommitted),
            "shows-uncommitted",
            200,
            &["equal-states"],
        ),
        Sowing::new(
            Plant::Core(InCore::ForgetsCompaction),
            "forgets-compaction",
            200,
            &["replay"],
        ),
        Sowing::new(
            Plant::Core(InCore::ReusesRevision),
            "reuses-revision",
            200,
            &["one-history"],
        ),
        Sowing::new(
            Plant::Core(InCore::TearsTransaction),
            "tears-transaction",
            200,
            &["one-history"],
        ),
        Sowing::new(
            Plant::Core(InCore::AppliesTwice),
            "applies-twice",
            200,
            &["one-history"],
        ),
        Sowing {
            // Members leave all the time and crash for a moment, also the leader while it takes itself out: others know less
            // than who votes, and get no vote for that alone.
            set: LEADERS_LEAVE,
            ..Sowing::new(
                Plant::Core(InCore::VotesForStrangers),
                "votes-for-strangers",
                200,
                &["membership"],
            )
        },
        Sowing::new(
            Plant::Core(InCore::RemovedStays),
            "removed-stays",
            200,
            &["liveness"],
        ),
        Sowing::new(
            Plant::Core(InCore::KeepsReadIndex),
            "keeps-read-index",
            200,
            &["linearizable"],
        ),
        Sowing::new(
            Plant::Core(InCore::TakesLettersTwice),
            "takes-letters-twice",
            200,
            &["once"],
        ),
        Sowing::new(
            Plant::Core(InCore::TriesAgainEarly),
            "tries-again-early",
            200,
            &["once"],
        ),
        Sowing::new(
            Plant::Core(InCore::InstallsEarly),
            "installs-early",
            200,
            &["membership"],
        ),
        Sowing::new(
            Plant::Core(InCore::SkipsCompacted),
            "skips-compacted",
            200,
            &["watch"],
        ),
        Sowing::new(
            Plant::Core(InCore::StartsEarly),
            "starts-early",
            200,
            &["watch"],
        ),
        Sowing::new(
            Plant::Core(InCore::ProgressTooEarly),
            "progress-too-early",
            200,
            &["watch"],
        ),
        Sowing::new(
            Plant::Core(InCore::NewestAsPrevious),
            "newest-as-previous",
            200,
            &["watch"],
        ),
        Sowing::new(
            Plant::ReadsOlderView,
            "reads-older-view",
            200,
            &["followers"],
        ),
        Sowing::new(Plant::OwnsUnlooked, "owns-unlooked", 200, &["claims"]),
        Sowing::new(Plant::ForgetsAnswers, "forgets-answers", 100, &["deadline"]),
        Sowing::new(
            Plant::Core(InCore::CountsWhatIsSwept),
            "counts-what-is-swept",
            200,
            &["liveness"],
        ),
        Sowing::new(Plant::ElseFromBefore, "else-from-before", 200, &["answers"]),
        Sowing::new(Plant::SurveysApart, "surveys-apart", 200, &["answers"]),
        Sowing::new(Plant::FullTooSoon, "full-too-soon", 200, &["room"]),
        Sowing::new(
            Plant::TellsLongerLeases,
            "tells-longer-leases",
            200,
            &["leases"],
        ),
        Sowing::new(
            Plant::CheckpointWithoutRecords,
            "checkpoint-without-records",
            200,
            &["equal-states"],
        ),
        Sowing {
            // Many leases are given back and granted again just when their time is over, and something is written in
            // between: then it is known that whoever gave one back did not end the next.
            set: LEASES_RETURN,
            ..Sowing::new(
                Plant::Core(InCore::EndsAnyLease),
                "ends-any-lease",
                200,
                &["leases"],
            )
        },
        Sowing::new(
            Plant::Core(InCore::ForgetsPrevious),
            "forgets-previous",
            200,
            &["watch"],
        ),
        Sowing::new(
            Plant::Core(InCore::LosesWakeUps),
            "loses-wake-ups",
            200,
            &["watch"],
        ),
        Sowing::new(Plant::StopsHastily, "stops-hastily", 200, &["recovery"]),
        Sowing::new(
            Plant::Core(InCore::SpeaksForEver),
            "speaks-for-ever",
            200,
            &["majority"],
        ),
    ];

    /// The plant of this name.
    pub(crate) fn named(name: &str) -> Option<Plant> {
        let found = Self::ALL.iter().find(|sowing| sowing.name == name);
        found.map(|sowing| sowing.plant)
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|sowing| sowing.plant == self);
        found.expect("every plant is in the list").name
    }

    /// What a member or a hub is started with.
    pub(crate) fn in_core(plant: Option<Plant>) -> Planted {
        Planted::new(match plant {
            Some(Plant::Core(plant)) => Some(plant),
            _ => None,
        })
    }
}

const LEASES_RETURN: &[(&str, u64)] = &[
    ("clients", 12),
    ("crash_permille", 0),
    ("holders", 12),
    ("message_ms_max", 40),
    ("pause_ms_max", 1),
    ("watchers", 0),
];

const LEADERS_LEAVE: &[(&str, u64)] = &[
    ("changers", 5),
    ("clients", 1),
    ("crash_permille", 60),
    ("down_ms_max", 20),
    ("loss_permille", 0),
    ("members", 3),
    ("message_ms_max", 5),
    ("pause_ms_max", 400),
    ("safety_act", 40_000),
    ("smallness", 0),
    ("start_crash_permille", 0),
    ("sync_ms_max", 25),
];

/// A checkpoint's description with something left out. Leases with keys stay, since a checkpoint whose keys hang on what
/// is not there says so itself.
pub(crate) fn without(plant: Option<Plant>, view: &View, description: Vec<u8>) -> Vec<u8> {
    let read = || {
        let read = Description::decode(description.as_slice()).expect("the core wrote it");
        let again = read.encode_to_vec();
        assert_eq!(
            again, description,
            "a field of the core's is not known here"
        );
        read
    };
    match plant {
        Some(Plant::CheckpointWithoutLeases) => Description {
            leases: with_keys(view, read().leases),
            ..read()
        }
        .encode_to_vec(),
        Some(Plant::CheckpointWithoutRecords) => {
            let mut description = read();
            for lease in &mut description.leases {
                lease.remaining_seconds = 0;
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

/// The leases on which a key hangs.
fn with_keys(view: &View, mut leases: Vec<LeaseTerms>) -> Vec<LeaseTerms> {
    let everything = RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    };
    let keys = view
        .range(&everything)
        .expect("the newest revision can be read");
    leases.retain(|lease| keys.kvs.iter().any(|kv| kv.lease == lease.id));
    leases
}

/// As the core describes a checkpoint.
#[derive(Clone, PartialEq, Message)]
struct Description {
    #[prost(bytes = "vec", tag = "1")]
    meta: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    members: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    leases: Vec<LeaseTerms>,
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
    use std::collections::BTreeSet;

    use super::Plant;
    use crate::child::NO_VERDICT;

    #[test]
    fn every_plant_is_found_by_its_name() {
        for sowing in Plant::ALL {
            assert_eq!(Plant::named(sowing.name), Some(sowing.plant));
            assert_eq!(sowing.plant.name(), sowing.name);
            assert!((1..=200).contains(&sowing.seeds));
        }
        assert_eq!(Plant::named("weeds"), None);
    }

    #[test]
    fn every_plant_has_its_row_in_the_readme() {
        let readme = include_str!("../README.md").lines();
        let table = readme.skip_while(|line| !line.starts_with("| planted |"));
        let rows = table.skip(2).take_while(|line| line.starts_with("| "));
        assert_eq!(rows.count(), Plant::ALL.len());
    }

    #[test]
    fn every_plant_is_there_for_a_judge() {
        for sowing in Plant::ALL {
            assert!(!sowing.judges.is_empty(), "{}", sowing.name);
            // An assertion is no judge, and a run without a verdict proves nothing.
            let by_nobody = ["invariant", NO_VERDICT];
            assert!(by_nobody.iter().all(|it| !sowing.judges.contains(it)));
        }
        let judges: BTreeSet<&str> = Plant::ALL
            .iter()
            .flat_map(|it| it.judges)
            .copied()
            .collect();
        assert!(judges.len() >= 15, "{judges:?}");
    }
}
