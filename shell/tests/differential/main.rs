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
mod lease_expiry;
mod lease_generator;
mod long_histories;
mod notifications;
mod pair;
mod run;
mod shrink;
mod transcript;
mod txn_generator;
mod watch_comparison;
mod watch_generator;
mod watch_tests;
mod watchers;

use cluster::{etcd_programs::etcd, random::seed_of_this_run};
use known_differences::KNOWN_DIFFERENCES;
use long_histories::KEYS;
use notifications::{BUSY, FUTURE, IDLE, UNASKED};
use pair::{Pair, Subject};
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

/// Both ways of the reference against itself would do the same; one shows that the test is sound.
#[test]
fn leases_end_with_their_keys_as_etcds_do() {
    let Some(etcd) = etcd("leases_end_with_their_keys_as_etcds_do") else {
        return;
    };
    for (subject, restart) in [
        (Subject::Reference(&etcd), false),
        (Subject::Metastore, false),
        (Subject::Metastore, true),
    ] {
        let mut pair = Pair::start(subject, &etcd);
        let [answered, reference] = pair.let_leases_expire(restart);
        assert_eq!(answered, reference, "with a restart: {restart}");
        assert_eq!(reference.revisions, LEASES_THAT_END_WITH_KEYS);
        assert_eq!(reference.deletions.len(), 4);
    }
}

#[test]
fn a_long_history_is_watched_as_on_etcd() {
    let Some(etcd) = etcd("a_long_history_is_watched_as_on_etcd") else {
        return;
    };
    for subject in [Subject::Reference(&etcd), Subject::Metastore] {
        let mut pair = Pair::start(subject, &etcd);
        let [answered, reference] = pair.watch_a_long_history(PUTS, 1, false);
        assert_eq!(answered.events, reference.events);
        assert_eq!(reference.events.len(), PUTS + KEYS);
        for told in [answered, reference] {
            assert!(told.responses > 1, "{} with events", told.responses);
            assert!(
                told.revisions_max <= REVISIONS_OF_A_RESPONSE,
                "{} revisions in one response",
                told.revisions_max
            );
        }
    }
}

#[test]
fn a_response_too_large_comes_in_parts_where_that_was_asked_for() {
    let Some(etcd) = etcd("a_response_too_large_comes_in_parts_where_that_was_asked_for") else {
        return;
    };
    for subject in [Subject::Reference(&etcd), Subject::Metastore] {
        for fragment in [true, false] {
            let mut pair = Pair::start(subject, &etcd);
            let told = pair.watch_a_long_history(KEYS, 1_000_000, fragment);
            assert_eq!(told[0].events, told[1].events);
            for (name, told) in ["the subject", "etcd"].into_iter().zip(told) {
                assert_eq!(told.events.len(), 2 * KEYS);
                assert_eq!(told.parts > 0, fragment, "{name}: {} parts", told.parts);
                assert!(!fragment || told.bytes_max < PART_BYTES_MAX);
            }
        }
    }
}

#[test]
fn progress_is_notified_as_etcd_does_it() {
    let Some(etcd) = etcd("progress_is_notified_as_etcd_does_it") else {
        return;
    };
    for subject in [Subject::Reference(&etcd), Subject::Metastore] {
        let mut pair = Pair::start_notifying(subject, &etcd);
        let [answered, reference] = pair.be_notified(subject);
        for id in [IDLE, BUSY] {
            assert_eq!(answered[&id].last(), reference[&id].last());
        }
        for heard in [&answered, &reference] {
            assert!(!heard.contains_key(&UNASKED), "{heard:?}");
        }
        // Only the newer API keeps quiet towards a watcher whose start has not come.
        if matches!(subject, Subject::Metastore) {
            assert!(!answered.contains_key(&FUTURE), "{answered:?}");
        }
    }
}

/// As many revisions as a server bundles into one response at most, and more than that.
const REVISIONS_OF_A_RESPONSE: usize = 1_000;
const PUTS: usize = 1_200;
const LEASES_THAT_END_WITH_KEYS: i64 = 4;
/// Of a response with several events: the largest request and half a MiB.
const PART_BYTES_MAX: usize = (1024 + 512 + 512) * 1024;
const OPERATIONS_BETWEEN_RESTARTS: u64 = 900;
const OPERATIONS_OF_THE_SELF_CHECK: u64 = 2_000;
