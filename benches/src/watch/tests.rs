//! Whole runs against a small store that keeps the rules, and against one that breaks them.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Plan, Shape, create, deliver, slow};
use crate::conversation::Site;
use crate::imitation::store::Store;
use crate::imitation::{Call, Say, serve};
use crate::measurement::Measurement;
use crate::schedule::Until;

const SHAPE: Shape = Shape {
    watchers: 12,
    streams: 4,
    connections: 2,
    keys: 3,
    creating: 2,
    ..Shape::THOUSAND
};

fn plan(endpoint: SocketAddr, shape: Shape, until: Until) -> Plan {
    Plan {
        site: Site {
            endpoint,
            server_pid: None,
            patience: Duration::from_millis(500),
        },
        shape,
        key_bytes: 4,
        value_bytes: 20,
        seed: 1,
        until,
        warmup: Duration::from_millis(20),
    }
}

fn honest() -> SocketAddr {
    let mut store = Store::default();
    serve(move |call| store.answer(call))
}

/// A store whose messages pass through `tamper`, which is told how many calls there were before.
fn tampered(mut tamper: impl FnMut(u64, &mut Vec<Say>) + Send + 'static) -> SocketAddr {
    let (mut store, mut puts) = (Store::default(), 0);
    serve(move |call: &Call<'_>| {
        let mut said = store.answer(call);
        if call.path.ends_with("/Put") {
            tamper(puts, &mut said);
            puts += 1;
        }
        said
    })
}

/// Every put that was due went to four watchers; on a busy machine the last may come too late to be sent.
fn delivered_but_for_missed(measurement: &Measurement, due: u64) {
    assert!(measurement.missed < due / 2);
    assert_eq!(measurement.succeeded, 4 * (due - measurement.missed));
}

fn failures(measurement: &Measurement) -> String {
    let failures = measurement.failures.keys().map(ToString::to_string);
    failures.collect::<Vec<_>>().join("; ")
}

#[test]
fn every_event_is_counted_on_every_watcher() {
    let plan = plan(honest(), SHAPE, Until::Total(100));
    let measurement = deliver(&plan).expect("the server is there");
    assert_eq!(failures(&measurement), "");
    // Twelve watchers share three keys, so that each put goes to four.
    assert_eq!(measurement.succeeded, 400);
    assert_eq!(measurement.latency.count(), 400);
}

#[test]
fn watchers_on_ranges_receive_the_puts_of_all_their_keys() {
    let shape = Shape {
        ranges: 1.0,
        range_keys: 3,
        ..SHAPE
    };
    let plan = plan(honest(), shape, Until::Total(50));
    let measurement = deliver(&plan).expect("the server is there");
    assert_eq!(failures(&measurement), "");
    // Key 0 has four readers, key 1 the four besides, key 2 all twelve.
    assert!((200..=600).contains(&measurement.succeeded));
    assert_eq!(measurement.succeeded % 4, 0);
}

#[test]
fn puts_at_a_rate_are_as_many_as_were_due() {
    let shape = Shape {
        rate: Some(1000.0),
        in_flight: 1000,
        ..SHAPE
    };
    let until = Until::Elapsed(Duration::from_millis(200));
    let measurement = deliver(&plan(honest(), shape, until)).expect("the server is there");
    assert_eq!(failures(&measurement), "");
    delivered_but_for_missed(&measurement, 200);
}

#[test]
fn a_lost_event_is_missed() {
    let endpoint = tampered(|put, said| {
        if put == 5 {
            said.remove(0);
        }
    });
    let shape = Shape {
        keys: 1,
        ranges: 1.0,
        range_keys: 2,
        ..SHAPE
    };
    let mut plan = plan(endpoint, shape, Until::Total(20));
    plan.warmup = Duration::ZERO;
    let failures = failures(&deliver(&plan).expect("the server is there"));
    let expect = "no answer in time; wrong: 1 watchers without exactly the events of their puts";
    assert_eq!(failures, expect);
}

#[test]
fn events_in_the_wrong_order_are_found() {
    let mut kept = Vec::new();
    let endpoint = tampered(move |put, said| match put {
        5 => kept.push(said.remove(0)),
        6 => said.append(&mut kept),
        _ => {}
    });
    let shape = Shape { keys: 1, ..SHAPE };
    let failures =
        failures(&deliver(&plan(endpoint, shape, Until::Total(20))).expect("the server is there"));
    assert!(failures.contains("predecessor is missing"), "{failures}");
}

#[test]
fn an_event_told_twice_is_found() {
    let endpoint = tampered(|put, said| {
        if put == 5 {
            let again = said[0].clone();
            said.insert(0, again);
        }
    });
    let plan = plan(endpoint, SHAPE, Until::Total(20));
    let failures = failures(&deliver(&plan).expect("the server is there"));
    assert!(failures.contains("out of order, or twice"), "{failures}");
}

#[test]
fn created_watchers_are_counted_and_idle_ones_work() {
    let shape = Shape {
        watchers: 30,
        keys: 0,
        rate: Some(1000.0),
        ..SHAPE
    };
    let until = Until::Elapsed(Duration::from_millis(50));
    let plan = plan(honest(), shape, until);
    let created = create(&plan, false).expect("the server is there");
    assert_eq!((failures(&created).as_str(), created.succeeded), ("", 30));
    assert!(created.figures.is_empty());
}

#[test]
fn slow_watchers_catch_up_when_they_read_again() {
    let shape = Shape {
        slow: 12,
        rate: Some(500.0),
        in_flight: 1000,
        ..SHAPE
    };
    let until = Until::Elapsed(Duration::from_millis(200));
    let measurement = slow(&plan(honest(), shape, until)).expect("the server is there");
    assert_eq!(failures(&measurement), "");
    delivered_but_for_missed(&measurement, 100);
    let delay = measurement
        .figures
        .iter()
        .find(|figure| figure.name == "slow ones' longest delay");
    assert!(delay.is_some_and(|delay| delay.value >= 190.0), "{delay:?}");
}

#[test]
fn impossible_shapes_are_refused() {
    let refused = |shape| deliver(&plan(honest(), shape, Until::Total(1))).is_err();
    assert!(refused(Shape {
        streams: 0,
        ..SHAPE
    }));
    assert!(refused(Shape {
        ranges: 1.5,
        ..SHAPE
    }));
    assert!(refused(Shape {
        keys: 1 << 16,
        ..SHAPE
    }));
    assert!(refused(Shape {
        rate: Some(0.0),
        ..SHAPE
    }));
}
