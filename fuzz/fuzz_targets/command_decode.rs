//! Commands: any bytes are refused or read, and every command survives its own encoding and its application.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::command::{Command, MemberAttributes, Request};
use metastore_core::lease::{LeaseExpiry, RemainingTime, RemainingTimes};
use metastore_core::state::State;
use metastore_fuzz::{Delete, Put, Txn};
use metastore_proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, TxnRequest,
};
use prost::Message as _;

#[derive(Arbitrary, Debug)]
enum Op {
    Raw(Vec<u8>),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Compact {
        revision: i8,
        physical: bool,
    },
    Publish {
        member: u8,
        name: String,
        urls: Vec<String>,
    },
    Grant {
        id: i8,
        ttl: i64,
    },
    Revoke(i8),
    Expire {
        id: i8,
        granted_index: u8,
    },
    Remaining(Vec<(i8, u8, i64)>),
}

impl Op {
    fn command(self) -> Option<Command> {
        let request = match self {
            Op::Raw(bytes) => return Command::decode(&bytes).ok(),
            Op::Put(put) => Request::Put(put.request()),
            Op::Delete(delete) => Request::DeleteRange(delete.request()),
            Op::Txn(txn) => Request::Txn(off_the_wire(&txn.request())?),
            Op::Compact { revision, physical } => Request::Compact(CompactionRequest {
                revision: revision.into(),
                physical,
            }),
            Op::Publish { member, name, urls } => Request::Publish(MemberAttributes {
                member_id: member.into(),
                name,
                client_urls: urls,
            }),
            Op::Grant { id, ttl } => Request::LeaseGrant(LeaseGrantRequest { id: id.into(), ttl }),
            Op::Revoke(id) => Request::LeaseRevoke(LeaseRevokeRequest { id: id.into() }),
            Op::Expire { id, granted_index } => Request::LeaseExpire(LeaseExpiry {
                id: id.into(),
                granted_index: granted_index.into(),
            }),
            Op::Remaining(times) => Request::LeaseRemaining(RemainingTimes {
                leases: times
                    .into_iter()
                    .map(|(id, granted_index, seconds)| RemainingTime {
                        id: id.into(),
                        granted_index: granted_index.into(),
                        seconds,
                    })
                    .collect(),
            }),
        };
        Some(request.into())
    }
}

/// The transaction as a server receives it; none if it is nested deeper than a message may be.
fn off_the_wire(request: &TxnRequest) -> Option<TxnRequest> {
    TxnRequest::decode(request.encode_to_vec().as_slice()).ok()
}

/// Whether the request could have come through the door: only those are ever applied.
fn admitted(command: &Command) -> bool {
    let limits = Limits::default();
    match command.request() {
        Request::Put(put) => check::put(put, &limits).is_ok(),
        Request::DeleteRange(delete) => check::delete_range(delete, &limits).is_ok(),
        Request::Txn(txn) => check::txn(txn, &limits).is_ok(),
        Request::Compact(compact) => check::compaction(compact, &limits).is_ok(),
        Request::Publish(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseExpire(_)
        | Request::LeaseRemaining(_) => true,
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let (mut state, mut twin) = (State::new(), State::new());
    let mut index = 0;
    for command in ops.into_iter().filter_map(Op::command) {
        let bytes = command.encode();
        assert_eq!(bytes.len(), command.encoded_len(), "the length foretold");
        let again = Command::decode(&bytes).expect("what was just encoded");
        assert_eq!(again, command);
        if admitted(&command) {
            let outcome = state.apply(index, &command);
            assert_eq!(
                twin.apply(index, &again),
                outcome,
                "equal commands, equal outcomes"
            );
            index += 1;
        }
    }
    state.validate();
    assert_eq!(state.hash(), twin.hash());
});
