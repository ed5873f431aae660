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
mod lease_generator;
mod pair;
mod run;
mod shrink;
mod transcript;
mod txn_generator;
mod watch_comparison;
mod watch_generator;
mod watchers;

use cluster::{etcd_programs::etcd, random::seed_of_this_run};
use known_differences::KNOWN_DIFFERENCES;
use pair::Subject;
use run::{Run, operations_of_this_run};

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

const OPERATIONS_BETWEEN_RESTARTS: u64 = 900;
const OPERATIONS_OF_THE_SELF_CHECK: u64 = 2_000;
