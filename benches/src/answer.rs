//! What the answers that are looked into say: only the fields that a check needs.

use crate::wire::fields;

/// A message that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// `WatchResponse` without its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watched<'a> {
    pub(crate) watch_id: u64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) cancel_reason: &'a [u8],
}

/// `Event` with its record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) deleted: bool,
    pub(crate) record: Record<'a>,
}

/// `KeyValue`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) mod_revision: u64,
    pub(crate) version: u64,
    pub(crate) value: &'a [u8],
}

/// A lease with the seconds it has left, from `LeaseGrantResponse` or `LeaseKeepAliveResponse`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: u64,
    /// Not above zero for a lease that is not there.
    pub(crate) ttl_seconds: i64,
}

/// What a member says of itself in a `StatusResponse`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) member_id: u64,
    /// The member it holds for the leader; 0 for none.
    pub(crate) leader_id: u64,
    /// The last index of the log that it has applied.
    pub(crate) applied_index: u64,
}

/// Reads a `WatchResponse` and calls `event` for each of its events in order, after `watched` is known.
pub(crate) fn watched(message: &[u8]) -> Result<Watched<'_>, Malformed> {
    let mut watched = Watched::default();
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (2, value) => watched.watch_id = value.number(),
            (3, value) => watched.created = value.number() != 0,
            (4, value) => watched.canceled = value.number() != 0,
            (6, value) => watched.cancel_reason = value.bytes(),
            _ => {}
        }
    }
    Ok(watched)
}

/// The events of a `WatchResponse`, in order.
pub(crate) fn events(message: &[u8]) -> impl Iterator<Item = Result<Event<'_>, Malformed>> {
    fields(message).filter_map(|field| match field {
        Some((11, value)) => Some(event(value.bytes())),
        Some(_) => None,
        None => Some(Err(Malformed)),
    })
}

fn event(message: &[u8]) -> Result<Event<'_>, Malformed> {
    let mut event = Event::default();
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (1, value) => event.deleted = value.number() != 0,
            (2, value) => event.record = record(value.bytes())?,
            _ => {}
        }
    }
    Ok(event)
}

fn record(message: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut record = Record::default();
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (1, value) => record.key = value.bytes(),
            (3, value) => record.mod_revision = value.number(),
            (4, value) => record.version = value.number(),
            (5, value) => record.value = value.bytes(),
            _ => {}
        }
    }
    Ok(record)
}

/// The id and time to live of a lease answer; both kinds have them in the same fields.
pub(crate) fn lease(message: &[u8]) -> Result<Lease, Malformed> {
    let mut lease = Lease::default();
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (2, value) => lease.id = value.number(),
            (3, value) => lease.ttl_seconds = value.number().cast_signed(),
            _ => {}
        }
    }
    Ok(lease)
}

/// The first record of a `RangeResponse`, if any, and how many there are in all.
pub(crate) fn ranged(message: &[u8]) -> Result<(Option<Record<'_>>, u64), Malformed> {
    let (mut first, mut count) = (None, 0);
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (2, value) if first.is_none() => first = Some(record(value.bytes())?),
            (4, value) => count = value.number(),
            _ => {}
        }
    }
    Ok((first, count))
}

/// Reads a `StatusResponse`.
pub(crate) fn standing(message: &[u8]) -> Result<Standing, Malformed> {
    let mut standing = Standing::default();
    for field in fields(message) {
        match field.ok_or(Malformed)? {
            (1, value) => standing.member_id = header_field(value.bytes(), 2)?,
            (4, value) => standing.leader_id = value.number(),
            (7, value) => standing.applied_index = value.number(),
            _ => {}
        }
    }
    Ok(standing)
}

/// The revision in the header of any response.
pub(crate) fn revision(message: &[u8]) -> Result<u64, Malformed> {
    let mut revision = 0;
    for field in fields(message) {
        if let (1, value) = field.ok_or(Malformed)? {
            revision = header_field(value.bytes(), 3)?;
        }
    }
    Ok(revision)
}

fn header_field(header: &[u8], number: u64) -> Result<u64, Malformed> {
    let mut found = 0;
    for field in fields(header) {
        match field.ok_or(Malformed)? {
            (field, value) if field == number => found = value.number(),
            _ => {}
        }
    }
    Ok(found)
}

/// Whether the compares of a `TxnResponse` held.
pub(crate) fn succeeded(message: &[u8]) -> Result<bool, Malformed> {
    let mut succeeded = false;
    for field in fields(message) {
        if let (2, value) = field.ok_or(Malformed)? {
            succeeded = value.number() != 0;
        }
    }
    Ok(succeeded)
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{
        LeaseGrantResponse, LeaseKeepAliveResponse, RangeResponse, ResponseHeader, StatusResponse,
        TxnResponse, WatchResponse,
    };
    use metastore_proto::mvccpb::{self, KeyValue};
    use prost::Message as _;

    use super::{
        Event, Lease, Malformed, Record, Standing, Watched, events, lease, ranged, revision,
        standing, succeeded, watched,
    };

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 7,
            revision: 300,
            raft_term: 2,
        })
    }

    fn key_value(version: i64) -> KeyValue {
        KeyValue {
            key: b"key".to_vec(),
            create_revision: 3,
            mod_revision: 500 + version,
            version,
            value: vec![9; 300],
            lease: 77,
        }
    }

    #[test]
    fn a_watch_response_is_read_with_its_events_in_order() {
        let events_sent = (0..3).map(|number| mvccpb::Event {
            r#type: i32::from(number == 2),
            kv: Some(key_value(number)),
            prev_kv: Some(key_value(100)),
        });
        let response = WatchResponse {
            header: header(),
            watch_id: 1000,
            fragment: true,
            events: events_sent.collect(),
            ..WatchResponse::default()
        };
        let bytes = response.encode_to_vec();
        let expect = Watched {
            watch_id: 1000,
            ..Watched::default()
        };
        assert_eq!(watched(&bytes), Ok(expect));
        let value = [9; 300];
        let event = |number| Event {
            deleted: number == 2,
            record: Record {
                key: b"key",
                mod_revision: 500 + number,
                version: number,
                value: &value,
            },
        };
        let read: Vec<_> = events(&bytes).collect();
        assert_eq!(read, [0, 1, 2].map(|number| Ok(event(number))));
    }

    #[test]
    fn a_created_and_a_cancelled_watcher_are_told_apart() {
        let created = WatchResponse {
            header: header(),
            created: true,
            ..WatchResponse::default()
        };
        let bytes = created.encode_to_vec();
        let read = watched(&bytes).expect("it is a watch response");
        assert!(read.created && !read.canceled && events(&bytes).next().is_none());
        let canceled = WatchResponse {
            watch_id: -1,
            canceled: true,
            cancel_reason: "permission denied".to_owned(),
            compact_revision: 9,
            ..created
        };
        let bytes = canceled.encode_to_vec();
        let read = watched(&bytes).expect("it is a watch response");
        assert!(read.created && read.canceled);
        assert_eq!(read.watch_id, u64::MAX);
        assert_eq!(read.cancel_reason, b"permission denied");
    }

    #[test]
    fn both_lease_answers_have_id_and_time_to_live() {
        let grant = LeaseGrantResponse {
            header: header(),
            id: 1 << 50,
            ttl: 60,
            ..LeaseGrantResponse::default()
        };
        let expect = Lease {
            id: 1 << 50,
            ttl_seconds: 60,
        };
        assert_eq!(lease(&grant.encode_to_vec()), Ok(expect));
        let renewal = LeaseKeepAliveResponse {
            header: header(),
            id: 1 << 50,
            ttl: -1,
        };
        let expect = Lease {
            ttl_seconds: -1,
            ..expect
        };
        assert_eq!(lease(&renewal.encode_to_vec()), Ok(expect));
    }

    #[test]
    fn a_range_answers_its_first_record_and_the_count() {
        let response = RangeResponse {
            header: header(),
            kvs: vec![key_value(1), key_value(2)],
            more: false,
            count: 2,
        };
        let bytes = response.encode_to_vec();
        let (first, count) = ranged(&bytes).expect("it is a range response");
        assert_eq!(first.map(|record| record.version), Some(1));
        assert_eq!(count, 2);
        assert_eq!(ranged(&[]), Ok((None, 0)));
    }

    #[test]
    fn a_status_tells_the_member_its_leader_and_what_it_applied() {
        let response = StatusResponse {
            header: header(),
            version: "3.5.1".to_owned(),
            db_size: 1 << 20,
            leader: u64::MAX - 5,
            raft_index: 1000,
            raft_term: 9,
            raft_applied_index: 999,
            ..StatusResponse::default()
        };
        let bytes = response.encode_to_vec();
        let expect = Standing {
            member_id: 7,
            leader_id: u64::MAX - 5,
            applied_index: 999,
        };
        assert_eq!(standing(&bytes), Ok(expect));
        assert_eq!(revision(&bytes), Ok(300));
    }

    #[test]
    fn a_transaction_answers_whether_its_compares_held() {
        for held in [false, true] {
            let response = TxnResponse {
                header: header(),
                succeeded: held,
                ..TxnResponse::default()
            };
            assert_eq!(succeeded(&response.encode_to_vec()), Ok(held));
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_malformed() {
        let torn = b"\x5a\x7f";
        assert_eq!(watched(torn), Err(Malformed));
        assert_eq!(events(torn).next(), Some(Err(Malformed)));
        assert_eq!(lease(torn), Err(Malformed));
        assert_eq!(ranged(torn), Err(Malformed));
        assert_eq!(standing(torn), Err(Malformed));
        assert_eq!(revision(torn), Err(Malformed));
        assert_eq!(succeeded(torn), Err(Malformed));
    }
}
