//! Core errors as etcd's statuses: exact code, exact text. Clients find the error by its text.

use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseError;
use metastore_core::membership::MembershipError;
use metastore_core::output::Refusal;
use metastore_core::transfer::TransferError;
use tonic::{Code, Status};

/// The replicated form of the request exceeds `--max-request-bytes`.
pub(crate) fn request_too_large() -> Status {
    Status::invalid_argument("etcdserver: request is too large")
}

/// The space quota is used up.
pub(crate) fn space_exceeded() -> Status {
    Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
}

/// Peer URLs of a member that are none.
pub(crate) fn bad_member_urls() -> Status {
    Status::invalid_argument("etcdserver: given member URLs are invalid")
}

/// This member does not vote.
pub(crate) fn not_on_learner() -> Status {
    Status::failed_precondition("etcdserver: rpc not supported for learner")
}

/// This member knows of no leader.
pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// The server is shutting down.
pub(crate) fn server_stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// A refusal of a key-value request.
pub(crate) fn from_kv(error: &KvError) -> Status {
    let code = match error {
        KvError::EmptyKey
        | KvError::KeyNotFound
        | KvError::ValueProvided
        | KvError::LeaseProvided
        | KvError::TooManyOperations
        | KvError::DuplicateKey
        | KvError::InvalidSortOption => Code::InvalidArgument,
        KvError::Compacted | KvError::FutureRevision => Code::OutOfRange,
        KvError::LeaseNotFound => Code::NotFound,
        KvError::StreamSortUnsupported | KvError::StreamFilterUnsupported => Code::Unimplemented,
    };
    Status::new(code, error.to_string())
}

/// A refusal of a request about a lease.
pub(crate) fn from_lease(error: &LeaseError) -> Status {
    let code = match error {
        LeaseError::NotFound => Code::NotFound,
        LeaseError::Exists => Code::FailedPrecondition,
        LeaseError::TtlTooLarge => Code::OutOfRange,
    };
    Status::new(code, error.to_string())
}

/// A refusal of a change of the membership.
pub(crate) fn from_membership(error: MembershipError) -> Status {
    let code = match error {
        MembershipError::IdExists
        | MembershipError::UrlExists
        | MembershipError::NotLearner
        | MembershipError::NotInSync
        | MembershipError::TooManyLearners => Code::FailedPrecondition,
        MembershipError::NotFound => Code::NotFound,
        // The code etcd really sends: its own table says FailedPrecondition, the wire says Unknown.
        MembershipError::NotEnoughStarted => Code::Unknown,
        MembershipError::Unhealthy => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// A refusal of a leader transfer.
pub(crate) fn from_transfer(error: TransferError) -> Status {
    let code = match error {
        TransferError::NotLeader | TransferError::BadTransferee => Code::FailedPrecondition,
        TransferError::TooLong => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

/// A refusal of anything replicated.
pub(crate) fn from_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Kv(error) => from_kv(error),
        Refusal::Lease(error) => from_lease(error),
        Refusal::Membership(error) => from_membership(*error),
        Refusal::Transfer(error) => from_transfer(*error),
        Refusal::Corrupt => Status::data_loss("etcdserver: corrupt cluster"),
        Refusal::NotLeader { .. } => no_leader(),
        Refusal::LeaderChanged => Status::unavailable("etcdserver: leader changed"),
        // The code etcd really sends: its own table says ResourceExhausted, the wire says Unknown.
        Refusal::TooManyRequests => Status::unknown("etcdserver: too many requests"),
        Refusal::TimedOut => Status::unavailable("etcdserver: request timed out"),
        Refusal::TimedOutLeaderLost => Status::unavailable(
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        Refusal::TimedOutDisconnected => {
            Status::unavailable("etcdserver: request timed out, possibly due to connection lost")
        }
        Refusal::Stopped => server_stopped(),
    }
}
