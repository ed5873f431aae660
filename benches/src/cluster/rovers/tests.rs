//! Clients against members of a few lines: where they go, and what they notice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Habits, Puts, Rovers, breach, excused};
use crate::imitation::serve;
use crate::imitation::store::Store;
use crate::ports;
use crate::status::Failure;

const HABITS: Habits = Habits {
    // One of them goes to each of three members first.
    clients: 3,
    pace: Duration::from_millis(1),
    patience: Duration::from_millis(100),
};
const LONG: Duration = Duration::from_secs(10);

/// A member on a store that others may share; it forgets one put of `forgets`.
fn member(store: &Arc<Mutex<Store>>, forgets: Option<u64>) -> SocketAddr {
    let store = Arc::clone(store);
    let mut puts = 0;
    serve(move |call| {
        let mut store = store.lock().expect("no member panicked");
        puts += u64::from(call.path == "/etcdserverpb.KV/Put");
        if forgets.is_some_and(|forgets| puts % forgets == 0) {
            // As if it had been another store that took the put.
            return Store::default().answer(call);
        }
        store.answer(call)
    })
}

fn nobody() -> SocketAddr {
    let ports = ports::reserve(1).expect("a free port");
    ports[0].local_addr().expect("an address")
}

#[test]
fn clients_pass_over_members_that_are_gone_or_silent() {
    let endpoints = [
        nobody(),
        member(&Arc::default(), None),
        serve(|_| Vec::new()),
    ];
    let rovers = Rovers::begin(&endpoints, HABITS);
    let start = Instant::now();
    let ack = rovers.await_ack(start, LONG, |_| true);
    assert_eq!(ack.expect("one member is well").member, 1);
    let findings = rovers.judge().expect("one member can be read");
    assert_eq!(findings.failures, Vec::<String>::new());
    // The two that went elsewhere first.
    assert!(findings.figures[1].value >= 2.0);
}

#[test]
fn a_wait_for_what_does_not_come_ends() {
    let rovers = Rovers::begin(&[member(&Arc::default(), None)], HABITS);
    let start = Instant::now();
    let patience = Duration::from_millis(50);
    assert_eq!(
        rovers.await_ack(start, patience, |ack| ack.member == 1),
        None
    );
    let first = rovers.await_ack(start, LONG, |ack| ack.begun >= start);
    let around = rovers.acks_around(first.expect("it answers").ended);
    assert!(around.is_sorted_by_key(|ack| ack.ended));
}

#[test]
fn an_acknowledged_put_that_is_lost_is_found() {
    let store = Arc::default();
    let rovers = Rovers::begin(&[member(&store, Some(10))], HABITS);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    rovers.await_ack(start, LONG, |_| true);
    let faults = rovers.judge().expect("the member can be read").failures;
    assert!(
        faults.iter().any(|fault| fault.contains("are lost")),
        "{faults:?}"
    );
}

#[test]
fn puts_may_be_unknown_but_neither_lost_nor_doubled() {
    let puts = Puts {
        begun: 12,
        acknowledged: 10,
    };
    let faults = [9, 10, 12, 13].map(|version| breach(1, puts, version));
    assert!(
        faults[0]
            .as_ref()
            .is_some_and(|it| it.starts_with("1 acknowledged"))
    );
    assert_eq!((&faults[1], &faults[2]), (&None, &None));
    assert!(
        faults[3]
            .as_ref()
            .is_some_and(|it| it.ends_with("executed twice"))
    );
}

#[test]
fn only_what_a_failover_brings_about_is_excused() {
    let said = |code, message: &str| Failure::Status {
        code,
        message: message.to_owned(),
    };
    let status = |code| said(code, "raft: not now");
    assert!(excused(&status(14)) && excused(&Failure::NoAnswer));
    assert!(excused(&said(2, "raft proposal dropped")));
    for code in [2, 3, 8, 12, 13] {
        assert!(!excused(&status(code)), "{code}");
    }
    assert!(!excused(&Failure::Incomplete("no message")));
}
