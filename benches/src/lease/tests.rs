//! Renewals against a small store that keeps the rules, and against ones that break them.

use std::net::SocketAddr;
use std::time::Duration;

use metastore_proto::etcdserverpb::LeaseKeepAliveResponse;
use prost::Message as _;

use super::{Plan, Renewals, keep_alive};
use crate::conversation::Site;
use crate::imitation::serve;
use crate::imitation::store::Store;
use crate::measurement::Measurement;
use crate::schedule::Until;

fn renewed(endpoint: SocketAddr) -> Measurement {
    let plan = Plan {
        site: Site {
            endpoint,
            server_pid: None,
            patience: Duration::from_millis(500),
        },
        renewals: Renewals {
            clients: 5,
            connections: 2,
            leases: 3,
            ttl_seconds: 60,
        },
        rate: None,
        until: Until::Total(100),
        warmup: Duration::from_millis(10),
    };
    keep_alive(&plan).expect("the server is there")
}

type Tamper = fn(&mut LeaseKeepAliveResponse);

/// A store that changes its renewals before it tells them.
fn tampered(tamper: Tamper) -> SocketAddr {
    let mut store = Store::default();
    serve(move |call| {
        let mut said = store.answer(call);
        if call.path.ends_with("/LeaseKeepAlive") {
            let message = &mut said[0].message;
            let mut response =
                LeaseKeepAliveResponse::decode(message.as_slice()).expect("a renewal");
            tamper(&mut response);
            *message = response.encode_to_vec();
        }
        said
    })
}

#[test]
fn every_renewal_is_answered_on_its_stream() {
    let measurement = renewed(tampered(|_| {}));
    assert!(
        measurement.failures.is_empty(),
        "{:?}",
        measurement.failures
    );
    assert_eq!(measurement.succeeded, 100);
}

#[test]
fn a_renewal_of_another_lease_or_of_a_dead_one_is_found() {
    let tampers: [(Tamper, &str); 2] = [
        (|response| response.id += 1, "another lease"),
        (|response| response.ttl = 0, "is gone"),
    ];
    for (tamper, expect) in tampers {
        let failures = renewed(tampered(tamper)).failures;
        let failures: Vec<String> = failures.keys().map(ToString::to_string).collect();
        assert!(
            failures.iter().any(|it| it.contains(expect)),
            "{failures:?}"
        );
    }
}
