//! The same requests go to this server and to a real etcd, and every answer must be the same.
//!
//! `METASTORE_TEST_ETCD` names the etcd; `METASTORE_TEST_SEED` replays a run, `METASTORE_TEST_OPS`
//! sets its length.

#[path = "../cluster/mod.rs"]
mod cluster;
mod comparison;
mod comparison_tests;
mod generator;
mod known_differences;
mod pair;
mod shrink;
mod txn_generator;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use cluster::{
    etcd_programs::etcd,
    operation::{Answer, Operation},
    random::{number_from_environment, seed_of_this_run},
};
use comparison::{Difference, difference};
use generator::{Generator, Traits};
use known_differences::{KNOWN_DIFFERENCES, KnownDifference};
use metastore_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};

use pair::{Pair, Step, Subject};

#[test]
fn every_answer_equals_etcds() {
    let Some(etcd) = etcd("every_answer_equals_etcds") else {
        return;
    };
    let run = Run {
        test: "every_answer_equals_etcds",
        subject: Subject::Metastore,
        etcd: &etcd,
        known: &KNOWN_DIFFERENCES,
        seed: seed_of_this_run(),
        operations: operations_of_this_run(),
        restart_every: OPERATIONS_BETWEEN_RESTARTS,
        chunks: true,
    };
    run.compare();
}

#[test]
fn etcd_never_differs_from_itself() {
    let Some(etcd) = etcd("etcd_never_differs_from_itself") else {
        return;
    };
    let run = Run {
        test: "etcd_never_differs_from_itself",
        subject: Subject::Reference(&etcd),
        etcd: &etcd,
        known: &[],
        seed: seed_of_this_run(),
        operations: operations_of_this_run().min(OPERATIONS_OF_THE_SELF_CHECK),
        // Told not to sync, etcd keeps writes in its own memory, and they die with it.
        restart_every: u64::MAX,
        chunks: false,
    };
    run.compare();
}

/// One comparison of two servers, all of it drawn from one seed.
struct Run<'a> {
    test: &'a str,
    subject: Subject<'a>,
    etcd: &'a Path,
    known: &'a [KnownDifference],
    seed: u64,
    operations: u64,
    /// The subject is restarted after each so many operations.
    restart_every: u64,
    /// Whether the subject also answers ranges in chunks, which etcd 3.5 does not.
    chunks: bool,
}

impl Run<'_> {
    fn compare(&self) {
        println!(
            "{}: seed {}, {} operations",
            self.test, self.seed, self.operations
        );
        let started = Instant::now();
        let mut pair = Pair::start(self.subject, self.etcd);
        let mut generator = Generator::new(self.seed, traits(&mut pair));
        println!("{}: {:?}", self.test, generator.traits);
        let mut history = Vec::new();
        let mut reached = BTreeMap::new();
        let mut used = vec![0; self.known.len()];
        for number in 1..=self.operations {
            if number % self.restart_every == 0 {
                let kill = generator.random.percent(50);
                history.push(Step::Restart { kill });
                pair.take(&Step::Restart { kill });
            }
            let operation = generator.draw();
            let (answered, reference);
            (pair, answered, reference) =
                self.compare_one(pair, &operation, &mut history, &mut used);
            if self.chunks
                && let Some(in_chunks) = pair.range_in_chunks(&operation)
            {
                assert_eq!(
                    in_chunks, answered,
                    "in chunks and whole, {operation:#?} seed {}",
                    self.seed
                );
            }
            generator.observe(&operation, &reference);
            *reached
                .entry(format!("{} {}", operation.kind(), reference.outcome()))
                .or_insert(0) += 1;
        }
        for operation in self.questions_about_the_whole_state(&generator) {
            (pair, ..) = self.compare_one(pair, &operation, &mut history, &mut used);
        }
        for (outcome, times) in &reached {
            println!("{times:>7} x {outcome}");
        }
        for (known, used) in self.known.iter().zip(&used) {
            println!("{used:>7} x known: {}", known.reason);
        }
        println!("{}: no difference in {:?}", self.test, started.elapsed());
        self.assert_reached_everything(&reached);
    }

    /// Sends one request; does not return if the answers differ.
    fn compare_one(
        &self,
        mut pair: Pair,
        operation: &Operation,
        history: &mut Vec<Step>,
        used: &mut [u64],
    ) -> (Pair, Answer, Answer) {
        history.push(Step::Send(operation.clone()));
        let (answered, reference) = pair.send(operation);
        match difference(operation, &answered, &reference, self.known, used) {
            None => (pair, answered, reference),
            Some(difference) => self.report(pair, history, &difference),
        }
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
        if self.operations < OPERATIONS_THAT_REACH_EVERYTHING {
            return;
        }
        let missing: Vec<_> = REACHED_BY_EVERY_RUN
            .iter()
            .filter(|outcome| !reached.contains_key(**outcome))
            .collect();
        assert!(
            missing.is_empty(),
            "the generator no longer reaches {missing:?}; it reached {reached:#?}"
        );
    }

    fn report(&self, mut pair: Pair, history: &[Step], difference: &Difference) -> ! {
        let index = history.len() - 1;
        println!(
            "DIFFERENCE  seed={} operation={index}\nrequest: {:#?}\nexpected: {:#?}\nanswered: {:#?}",
            self.seed, history[index], difference.expected, difference.answered
        );
        pair.print_last_words();
        drop(pair);
        let shortest = shrink::shrink(history, Instant::now() + SHRINK_LIMIT, |shorter| {
            self.replay(shorter).map(|(index, _)| index)
        });
        println!(
            "the shortest sequence found has {} operations:",
            shortest.len()
        );
        for step in &shortest {
            println!("  {step:?}");
        }
        match self.replay(&shortest) {
            Some((_, difference)) => println!(
                "at its end, expected: {:?}\n            answered: {:?}",
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

    /// The first difference on a fresh pair of servers, and where it was met.
    fn replay(&self, sequence: &[Step]) -> Option<(usize, Difference)> {
        let mut pair = Pair::start(self.subject, self.etcd);
        let mut used = vec![0; self.known.len()];
        sequence.iter().enumerate().find_map(|(index, step)| {
            let (answered, reference) = pair.take(step)?;
            let Step::Send(operation) = step else {
                return None;
            };
            let difference = difference(operation, &answered, &reference, self.known, &mut used)?;
            Some((index, difference))
        })
    }
}

fn operations_of_this_run() -> u64 {
    number_from_environment("METASTORE_TEST_OPS").unwrap_or(OPERATIONS)
}

/// Leaves both servers as it found them.
fn traits(pair: &mut Pair) -> Traits {
    let id = i64::from(i32::MAX);
    let (answered, _) = pair.send(&Operation::Grant(LeaseGrantRequest { id, ttl: 1000 }));
    let unimplemented = matches!(
        answered,
        Answer::Refused {
            code: tonic::Code::Unimplemented,
            ..
        }
    );
    pair.send(&Operation::Revoke(LeaseRevokeRequest { id }));
    Traits {
        leases: !unimplemented,
    }
}

const OPERATIONS: u64 = 3_000;
const OPERATIONS_BETWEEN_RESTARTS: u64 = 900;
const OPERATIONS_OF_THE_SELF_CHECK: u64 = 2_000;
const OPERATIONS_THAT_REACH_EVERYTHING: u64 = 3_000;
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
