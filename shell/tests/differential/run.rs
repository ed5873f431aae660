//! One comparison from its seed to its report.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use metastore_proto::etcdserverpb::RangeRequest;

use super::{
    comparison::{Difference, Rules, difference},
    generator::{Generator, Traits},
    known_differences::KnownDifference,
    pair::{Pair, Step, Subject},
    shrink,
};
use crate::cluster::{
    operation::{Answer, Operation},
    random::number_from_environment,
};

/// One comparison of two servers, all of it drawn from one seed.
pub(crate) struct Run<'a> {
    pub(crate) test: &'a str,
    pub(crate) subject: Subject<'a>,
    pub(crate) etcd: &'a Path,
    pub(crate) known: &'a [KnownDifference],
    pub(crate) seed: u64,
    pub(crate) operations: u64,
    /// The subject is restarted after each so many operations.
    pub(crate) restart_every: u64,
    /// Whether the subject also answers ranges in chunks, which etcd 3.5 does not.
    pub(crate) chunks: bool,
}

impl Run<'_> {
    pub(crate) fn compare(&self) {
        println!(
            "{}: seed {}, {} operations",
            self.test, self.seed, self.operations
        );
        let started = Instant::now();
        let mut pair = Pair::start(self.subject, self.etcd);
        let traits = Traits {
            what_only_the_contract_settles: matches!(self.subject, Subject::Metastore),
        };
        let mut generator = Generator::new(self.seed, traits);
        let mut history = Vec::new();
        let mut reached = BTreeMap::new();
        let mut used = vec![0; self.known.len()];
        for number in 1..=self.operations {
            if number % self.restart_every == 0 {
                let step = Step::Restart {
                    kill: generator.random.percent(50),
                    settled: generator.random.percent(50),
                };
                (pair, _) = self.compare_one(pair, &step, &mut history, &mut used);
            }
            let step = generator.draw_step();
            let answers;
            (pair, answers) = self.compare_one(pair, &step, &mut history, &mut used);
            let (Step::Send(operation), Some((answered, reference))) = (&step, answers) else {
                continue;
            };
            if self.chunks
                && let Some(in_chunks) = pair.range_in_chunks(operation)
            {
                assert_eq!(
                    in_chunks, answered,
                    "in chunks and whole, {operation:#?} seed {}",
                    self.seed
                );
            }
            generator.observe(operation, &reference);
            *reached
                .entry(format!("{} {}", operation.kind(), reference.outcome()))
                .or_insert(0) += 1;
        }
        for operation in self.questions_about_the_whole_state(&generator) {
            (pair, _) = self.compare_one(pair, &Step::Send(operation), &mut history, &mut used);
        }
        if let Err(difference) = pair.finish() {
            self.report(pair, &history, &difference, true);
        }
        reached.append(&mut pair.watchers.reached);
        self.print_what_was_reached(&reached, &used, &pair);
        self.assert_reached_everything(&reached);
        let restarts = |step: &&Step| matches!(step, Step::Restart { .. });
        println!(
            "{}: {} operations compared, no difference in {:?}",
            self.test,
            history.len() - history.iter().filter(restarts).count(),
            started.elapsed()
        );
    }

    fn print_what_was_reached(&self, reached: &BTreeMap<String, u64>, used: &[u64], pair: &Pair) {
        for (outcome, times) in reached {
            println!("{times:>7} x {outcome}");
        }
        for (known, used) in self.known.iter().zip(used) {
            println!("{used:>7} x known: {}", known.reason);
        }
        for (reason, used) in pair.watchers.known_and_used() {
            println!("{used:>7} x known: {reason}");
        }
    }

    /// Carries out one step; does not return if there is a difference.
    fn compare_one(
        &self,
        mut pair: Pair,
        step: &Step,
        history: &mut Vec<Step>,
        used: &mut [u64],
    ) -> (Pair, Option<(Answer, Answer)>) {
        history.push(step.clone());
        match self.difference_of(&mut pair, step, used) {
            Ok(answers) => (pair, answers),
            Err(difference) => self.report(pair, history, &difference, false),
        }
    }

    /// The answers to one step, where they do not differ.
    fn difference_of(
        &self,
        pair: &mut Pair,
        step: &Step,
        used: &mut [u64],
    ) -> Result<Option<(Answer, Answer)>, Difference> {
        let answers = pair.take(step)?;
        if let (Step::Send(operation), Some((answered, reference))) = (step, &answers) {
            let rules = Rules {
                known: self.known,
                seconds_apart: pair.seconds_apart(),
            };
            if let Some(difference) = difference(operation, answered, reference, rules, used) {
                return Err(difference);
            }
        }
        Ok(answers)
    }

    /// All keys at the newest revisions, at the boundary of compaction and on both sides of it.
    fn questions_about_the_whole_state(&self, generator: &Generator) -> Vec<Operation> {
        let (newest, oldest) = (generator.revision, generator.compacted.max(1));
        let step = usize::try_from((newest - oldest) / WHOLE_READS + 1).expect("a positive step");
        let mut revisions = vec![0, newest, newest + 1, oldest - 1];
        revisions.extend((oldest..=newest).step_by(step));
        revisions
            .into_iter()
            .map(|revision| {
                Operation::Range(RangeRequest {
                    key: vec![0],
                    range_end: vec![0],
                    revision,
                    ..RangeRequest::default()
                })
            })
            .collect()
    }

    /// A run that never met a refusal proves nothing about it.
    fn assert_reached_everything(&self, reached: &BTreeMap<String, u64>) {
        let demanded = [
            (OPERATIONS_THAT_REACH_EVERYTHING, &REACHED_BY_EVERY_RUN[..]),
            (OPERATIONS_THAT_REACH_WHAT_IS_RARE, &REACHED_WITH_LEASES),
            (OPERATIONS_THAT_REACH_WHAT_IS_RARE, &REACHED_WITH_WATCHES),
        ];
        let missing: Vec<_> = demanded
            .into_iter()
            .filter(|(operations, _)| self.operations >= *operations)
            .flat_map(|(_, outcomes)| outcomes)
            .filter(|outcome| !reached.contains_key(**outcome))
            .collect();
        assert!(
            missing.is_empty(),
            "the generator no longer reaches {missing:?}; it reached {reached:#?}"
        );
    }

    fn report(
        &self,
        mut pair: Pair,
        history: &[Step],
        difference: &Difference,
        at_the_end: bool,
    ) -> ! {
        let index = history.len() - 1;
        println!(
            "DIFFERENCE  seed={} operation={index}\nafter: {:?}\nexpected: {}\nanswered: {}",
            self.seed, history[index], difference.expected, difference.answered
        );
        pair.print_last_words();
        drop(pair);
        let deadline = Instant::now() + SHRINK_LIMIT;
        let replay = |shorter: &[Step]| self.replay(shorter, at_the_end).map(|(index, _)| index);
        let shorter = shrink::without_needless_kinds(history, deadline, Step::kind, replay);
        let shortest = shrink::shrink(&shorter, deadline, replay);
        println!(
            "the shortest sequence found has {} operations:",
            shortest.len()
        );
        for step in &shortest {
            println!("  {step:?}");
        }
        match self.replay(&shortest, at_the_end) {
            Some((_, difference)) => println!(
                "at its end, expected: {}\n            answered: {}",
                difference.expected, difference.answered
            ),
            None => println!("but played again it shows no difference: time has a part in this"),
        }
        panic!(
            "operation {index} was answered differently; replay: METASTORE_TEST_SEED={} METASTORE_TEST_OPS={} \
             METASTORE_TEST_ETCD={} cargo test -p metastore --test differential {} -- --nocapture",
            self.seed,
            self.operations,
            self.etcd.display(),
            self.test
        );
    }

    /// The first difference on a fresh pair of servers, and where it was met. `to_the_end` also compares what
    /// is left to compare after the last step.
    fn replay(&self, sequence: &[Step], to_the_end: bool) -> Option<(usize, Difference)> {
        let mut pair = Pair::start(self.subject, self.etcd);
        let mut used = vec![0; self.known.len()];
        for (index, step) in sequence.iter().enumerate() {
            if let Err(difference) = self.difference_of(&mut pair, step, &mut used) {
                return Some((index, difference));
            }
        }
        let difference = to_the_end.then(|| pair.finish().err())??;
        Some((sequence.len() - 1, difference))
    }
}

pub(crate) fn operations_of_this_run() -> u64 {
    number_from_environment("METASTORE_TEST_OPS").unwrap_or(OPERATIONS)
}

const OPERATIONS: u64 = 3_000;
const OPERATIONS_THAT_REACH_EVERYTHING: u64 = 3_000;
/// Bursts of watch requests, and the leases that are asked about, are few.
const OPERATIONS_THAT_REACH_WHAT_IS_RARE: u64 = 10_000;
const WHOLE_READS: i64 = 100;
const SHRINK_LIMIT: Duration = Duration::from_secs(90);

/// Met in any run that is long enough.
const REACHED_BY_EVERY_RUN: [&str; 20] = [
    "range ok",
    "range more",
    "range InvalidArgument etcdserver: key is not provided",
    "range OutOfRange etcdserver: mvcc: required revision has been compacted",
    "range OutOfRange etcdserver: mvcc: required revision is a future revision",
    "put ok",
    "put InvalidArgument etcdserver: key is not provided",
    "put InvalidArgument etcdserver: value is provided",
    "put NotFound etcdserver: requested lease not found",
    "delete ok",
    "delete nothing deleted",
    "txn succeeded",
    "txn failed",
    "txn InvalidArgument etcdserver: duplicate key given in txn request",
    "txn InvalidArgument etcdserver: key is not provided",
    "txn InvalidArgument etcdserver: key not found",
    "txn OutOfRange etcdserver: mvcc: required revision has been compacted",
    "compact ok",
    "compact OutOfRange etcdserver: mvcc: required revision has been compacted",
    "compact OutOfRange etcdserver: mvcc: required revision is a future revision",
];
const REACHED_WITH_LEASES: [&str; 11] = [
    "grant ok",
    "grant FailedPrecondition etcdserver: lease already exists",
    "grant OutOfRange etcdserver: too large lease TTL",
    "revoke ok",
    "revoke NotFound etcdserver: requested lease not found",
    "time to live ok",
    "time to live keys",
    "time to live no lease",
    "leases ok",
    "keep alive ok",
    "keep alive no lease",
];
const REACHED_WITH_WATCHES: [&str; 9] = [
    "watch created",
    "watch refused mvcc: watcher range is empty",
    "watch refused mvcc: duplicate watch ID provided on the WatchStream",
    "watch compacted",
    "watch cancelled",
    "watched put",
    "watched put with its earlier record",
    "watched delete",
    "watched delete with its earlier record",
];
