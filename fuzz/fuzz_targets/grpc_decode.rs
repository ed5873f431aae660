//! Requests as they come off the wire: any bytes, for any method, are refused or read without a panic; what is read is
//! stable, and goes the way that the server's handlers take: the checks of the door, the log, the state.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::command::{Command, Request};
use metastore_core::mvcc::Store;
use metastore_core::state::State;
use metastore_core::txn::{is_read_only, is_serializable};
use metastore_core::watch::{Hub, Next, Settings};
use metastore_fuzz::{KEYS, LEASE, value};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::*;
use metastore_proto::{health, v3electionpb, v3lockpb};
use prost::Message;

/// Reads a message, and reads again what that is written as.
fn read<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len(), "the length foretold");
    let again = M::decode(written.as_slice()).expect("what was just written");
    assert!(again == message, "what is read is stable");
    Some(message)
}

/// A state with a few keys and a lease.
fn state() -> (State, u64) {
    let mut state = State::new();
    let mut index = 0;
    let mut apply = |request: Request| {
        let outcome = state.apply(index, &Command::from(request));
        assert!(outcome.is_ok(), "a fair request");
        index += 1;
    };
    apply(Request::LeaseGrant(LeaseGrantRequest {
        id: LEASE,
        ttl: 60,
    }));
    for (number, key) in (1..).zip(KEYS.iter().take(4)) {
        apply(Request::Put(PutRequest {
            key: key.to_vec(),
            value: value(number),
            lease: if number == 2 { LEASE } else { 0 },
            ..PutRequest::default()
        }));
    }
    (state, index)
}

/// Through the log into the state, twice, and both come to the same.
fn replicate(request: Request) {
    let command = Command::from(request);
    let bytes = command.encode();
    assert_eq!(bytes.len(), command.encoded_len(), "the length foretold");
    let logged = Command::decode(&bytes).expect("what was just encoded");
    assert_eq!(logged, command);
    let ((mut one, index), (mut other, _)) = (state(), state());
    assert_eq!(one.apply(index, &command), other.apply(index, &logged));
    one.validate();
    assert_eq!(one.hash(), other.hash());
}

fn kv(method: u8, bytes: &[u8]) {
    let limits = Limits::default();
    match method {
        0 => {
            let Some(range) = read::<RangeRequest>(bytes) else {
                return;
            };
            let view = state().0.view().kv;
            if check::range(&range, &limits).is_ok() {
                let _ = view.range(&range);
            }
            if check::range_stream(&range, &limits).is_ok()
                && let Ok(pieces) = view.range_stream(&range, 64)
            {
                assert!(pieces.count() > 0, "there is always a last piece");
            }
        }
        1 => {
            let put = read::<PutRequest>(bytes);
            let put = put.filter(|it| check::put(it, &limits).is_ok());
            put.map(Request::Put).into_iter().for_each(replicate);
        }
        2 => {
            let delete = read::<DeleteRangeRequest>(bytes);
            let delete = delete.filter(|it| check::delete_range(it, &limits).is_ok());
            delete
                .map(Request::DeleteRange)
                .into_iter()
                .for_each(replicate);
        }
        3 => {
            let txn = read::<TxnRequest>(bytes);
            let Some(txn) = txn.filter(|it| check::txn(it, &limits).is_ok()) else {
                return;
            };
            if is_read_only(&txn) {
                let _ = state().0.view().kv.txn_read_only(&txn);
            }
            let _ = is_serializable(&txn);
            replicate(Request::Txn(txn));
        }
        _ => {
            let compaction = read::<CompactionRequest>(bytes);
            let compaction = compaction.filter(|it| check::compaction(it, &limits).is_ok());
            // The server asks for none of these: what lies below any boundary is refused by the state.
            let compaction = compaction.filter(|it| it.revision >= 0);
            compaction
                .map(Request::Compact)
                .into_iter()
                .for_each(replicate);
        }
    }
}

fn watch(bytes: &[u8]) {
    let Some(request) = read::<WatchRequest>(bytes) else {
        return;
    };
    let mut store = Store::new();
    let settings = Settings::new(Duration::from_secs(10), 1 << 10);
    let mut hub = Hub::new(settings, &store.view());
    let stream = hub.open();
    match request.request_union {
        None => {}
        Some(RequestUnion::CreateRequest(create)) => {
            hub.create(&store.view(), Duration::ZERO, stream, &create);
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            hub.cancel(&store.view(), stream, cancel.watch_id);
        }
        Some(RequestUnion::ProgressRequest(_)) => hub.request_progress(&store.view(), stream),
    }
    let put = PutRequest {
        key: b"a".to_vec(),
        ..PutRequest::default()
    };
    let written = store.put(&put, &mut metastore_core::mvcc::Changes::new());
    assert!(written.is_ok());
    loop {
        match hub.next(&store.view(), stream) {
            Next::Response(response) => {
                let mut bytes = Vec::new();
                response.encode(&ResponseHeader::default(), &mut bytes);
                assert!(WatchResponse::decode(bytes.as_slice()).is_ok());
            }
            Next::Again => {}
            Next::Idle => break,
        }
    }
    hub.close(stream);
}

fn leases_and_cluster(method: u8, bytes: &[u8]) {
    match method {
        6 => drop(
            read::<LeaseGrantRequest>(bytes)
                .map(Request::LeaseGrant)
                .map(replicate),
        ),
        7 => drop(
            read::<LeaseRevokeRequest>(bytes)
                .map(Request::LeaseRevoke)
                .map(replicate),
        ),
        8 => drop(read::<LeaseKeepAliveRequest>(bytes)),
        9 => drop(read::<LeaseTimeToLiveRequest>(bytes)),
        10 => drop(read::<LeaseLeasesRequest>(bytes)),
        11 => drop(read::<MemberAddRequest>(bytes)),
        12 => drop(read::<MemberRemoveRequest>(bytes)),
        13 => drop(read::<MemberUpdateRequest>(bytes)),
        14 => drop(read::<MemberListRequest>(bytes)),
        15 => drop(read::<MemberPromoteRequest>(bytes)),
        16 => drop(read::<AlarmRequest>(bytes)),
        17 => drop(read::<StatusRequest>(bytes)),
        18 => drop(read::<DefragmentRequest>(bytes)),
        19 => drop(read::<HashRequest>(bytes)),
        20 => drop(read::<HashKvRequest>(bytes)),
        21 => drop(read::<SnapshotRequest>(bytes)),
        22 => drop(read::<MoveLeaderRequest>(bytes)),
        23 => drop(read::<DowngradeRequest>(bytes)),
        24 => drop(read::<v3lockpb::LockRequest>(bytes)),
        25 => drop(read::<v3lockpb::UnlockRequest>(bytes)),
        26 => drop(read::<v3electionpb::CampaignRequest>(bytes)),
        27 => drop(read::<v3electionpb::ProclaimRequest>(bytes)),
        28 => drop(read::<v3electionpb::LeaderRequest>(bytes)),
        29 => drop(read::<v3electionpb::ResignRequest>(bytes)),
        30 => drop(read::<health::HealthCheckRequest>(bytes)),
        _ => auth(method, bytes),
    }
}

fn auth(method: u8, bytes: &[u8]) {
    match method {
        31 => drop(read::<AuthenticateRequest>(bytes)),
        32 => drop(read::<AuthUserAddRequest>(bytes)),
        33 => drop(read::<AuthUserGetRequest>(bytes)),
        34 => drop(read::<AuthUserChangePasswordRequest>(bytes)),
        35 => drop(read::<AuthUserGrantRoleRequest>(bytes)),
        36 => drop(read::<AuthUserRevokeRoleRequest>(bytes)),
        37 => drop(read::<AuthRoleAddRequest>(bytes)),
        38 => drop(read::<AuthRoleGrantPermissionRequest>(bytes)),
        39 => drop(read::<AuthRoleRevokePermissionRequest>(bytes)),
        40 => drop(read::<AuthRoleDeleteRequest>(bytes)),
        41 => drop(read::<AuthRoleGetRequest>(bytes)),
        42 => drop(read::<AuthRoleListRequest>(bytes)),
        43 => drop(read::<AuthUserListRequest>(bytes)),
        44 => drop(read::<AuthUserDeleteRequest>(bytes)),
        45 => drop(read::<AuthEnableRequest>(bytes)),
        46 => drop(read::<AuthDisableRequest>(bytes)),
        47 => drop(read::<AuthStatusRequest>(bytes)),
        _ => drop(read::<health::HealthListRequest>(bytes)),
    }
}

/// Methods there are.
const METHODS: u8 = 49;

fuzz_target!(|bytes: &[u8]| {
    // The first byte names the method.
    let Some((method, message)) = bytes.split_first() else {
        return;
    };
    match method % METHODS {
        method @ 0..=4 => kv(method, message),
        5 => watch(message),
        method => leases_and_cluster(method, message),
    }
});
