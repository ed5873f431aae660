//! Contention on a small store that compares, and on one that does not.

use std::time::Duration;

use super::{Plan, Shape, run};
use crate::conversation::Site;
use crate::imitation::serve;
use crate::imitation::store::Store;
use crate::measurement::Measurement;
use crate::schedule::Until;

fn contended(mut store: Store) -> Measurement {
    let plan = Plan {
        site: Site {
            endpoint: serve(move |call| store.answer(call)),
            server_pid: None,
            patience: Duration::from_millis(500),
        },
        shape: Shape {
            clients: 8,
            connections: 3,
            keys: 4,
            keys_per_txn: 2,
        },
        key_bytes: 4,
        value_bytes: 20,
        seed: 1,
        until: Until::Total(200),
        warmup: Duration::from_millis(10),
    };
    run(&plan).expect("the server is there")
}

#[test]
fn conflicts_are_retried_until_every_transaction_is_committed() {
    let measurement = contended(Store::default());
    assert!(
        measurement.failures.is_empty(),
        "{:?}",
        measurement.failures
    );
    assert_eq!(measurement.succeeded, 200);
    assert!(
        measurement.figures[0].value > 0.0,
        "eight clients on four keys conflict"
    );
}

#[test]
fn a_store_that_does_not_compare_loses_counts() {
    let mut store = Store::default();
    store.ignores_compares = true;
    let measurement = contended(store);
    let failures: Vec<String> = measurement
        .failures
        .keys()
        .map(ToString::to_string)
        .collect();
    assert!(
        failures.iter().any(|it| it.contains("the keys hold")),
        "{failures:?}"
    );
}
