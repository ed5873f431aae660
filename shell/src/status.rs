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

/// The same words with the code Unknown: so the services that are made of other services tell what those refused.
pub(crate) fn as_unknown(status: Status) -> Status {
    Status::unknown(status.message())
}

/// What clients know the refusal of a message over the limit as, if this is one: the transport has words of its own.
pub(crate) fn of_oversized(refusal: &Status) -> Option<Status> {
    if refusal.code() != Code::OutOfRange {
        return None;
    }
    let numbers = refusal
        .message()
        .strip_prefix("Error, decoded message length too large: found ")?;
    let (found, rest) = numbers.split_once(" bytes, the limit is: ")?;
    let limit = rest.strip_suffix(" bytes")?;
    let (found, limit): (u64, u64) = (found.parse().ok()?, limit.parse().ok()?);
    Some(Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {limit})"
    )))
}

/// The end of a client's requests on an open stream, in the words that clients know.
pub(crate) fn of_requests(ended: Status) -> Status {
    of_oversized(&ended).unwrap_or(ended)
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

/// A `client-api-version` that is no text.
pub(crate) fn invalid_client_api_version() -> Status {
    Status::invalid_argument("etcdserver: invalid client api version")
}

/// A refusal of a leader transfer.
pub(crate) fn from_transfer(error: TransferError) -> Status {
    let code = match error {
        TransferError::NotLeader | TransferError::BadTransferee => Code::FailedPrecondition,
        TransferError::TooLong => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

/// A refusal of a write. Clients take "leader changed" for a read that they may repeat; a write that has no end because
/// of that may have been made.
pub(crate) fn from_write_refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::LeaderChanged => from_refusal(&Refusal::TimedOutLeaderLost),
        other => from_refusal(other),
    }
}

/// A refusal of anything that goes to the leader.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_whose_leader_changed_may_have_been_made_and_a_read_may_be_repeated() {
        let write = from_write_refusal(&Refusal::LeaderChanged);
        let read = from_refusal(&Refusal::LeaderChanged);
        assert_eq!(
            (write.code(), write.message()),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure"
            )
        );
        assert_eq!(
            (read.code(), read.message()),
            (Code::Unavailable, "etcdserver: leader changed")
        );
        let other = from_write_refusal(&Refusal::TimedOut);
        assert_eq!(other.message(), "etcdserver: request timed out");
    }
}
