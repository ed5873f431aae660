//! Draws requests about leases that never expire during a run: few IDs, so that grants collide and
//! revocations meet leases with keys.

use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};

use super::generator::Generator;
use crate::cluster::operation::Operation;

pub(crate) fn lease_operation(generator: &mut Generator) -> Operation {
    match generator.random.below(100) {
        0..=34 => Operation::Grant(LeaseGrantRequest {
            id: *generator.random.pick(&LEASES),
            ttl: ttl(generator),
        }),
        35..=36 => Operation::GrantAnyId {
            ttl: ttl(generator),
        },
        37..=44 => Operation::Revoke(LeaseRevokeRequest {
            id: any_id(generator),
        }),
        45..=76 => Operation::TimeToLive(LeaseTimeToLiveRequest {
            id: any_id(generator),
            keys: generator.random.percent(75),
        }),
        77..=86 => Operation::Leases,
        _ => {
            let renewals = generator.random.below(5);
            Operation::KeepAlive(
                (0..renewals)
                    .map(|_| LeaseKeepAliveRequest {
                        id: any_id(generator),
                    })
                    .collect(),
            )
        }
    }
}

/// An ID that a put may name: mostly one that is granted at some time of the run.
pub(crate) fn any_id(generator: &mut Generator) -> i64 {
    if generator.random.percent(4) {
        return 0;
    }
    if generator.random.percent(85) {
        *generator.random.pick(&LEASES)
    } else {
        *generator.random.pick(&NEVER_GRANTED)
    }
}

/// Far longer than a run, or longer than is allowed.
fn ttl(generator: &mut Generator) -> i64 {
    match generator.random.below(20) {
        0 => TTL_MAX + 1,
        1 => i64::MAX,
        2 => TTL_MAX,
        3..=6 => 100_000,
        _ => 1_000_000,
    }
}

const LEASES: [i64; 5] = [7, 0x1234_5678_9abc_def0, -5, i64::MIN, 8];
const NEVER_GRANTED: [i64; 3] = [1, -1, i64::MAX];
/// The longest that may be asked for, in seconds.
const TTL_MAX: i64 = 9_000_000_000;
