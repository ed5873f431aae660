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

/// What came back belongs to another kind of request: some member of the cluster is broken.
pub(crate) fn answered_otherwise(what: &str) -> Status {
    Status::internal(format!("{what} got the answer to another kind of request"))
}

/// The answer to a transaction that was executed has no room anywhere; the code is that of a message which gRPC does not
/// send.
pub(crate) fn answer_too_large() -> Status {
    Status::resource_exhausted(
        "the transaction was executed, and its answer is too large to be sent",
    )
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

    const OF_KEYS: [(KvError, Code, &str); 12] = [
        (
            KvError::EmptyKey,
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
        (
            KvError::KeyNotFound,
            Code::InvalidArgument,
            "etcdserver: key not found",
        ),
        (
            KvError::ValueProvided,
            Code::InvalidArgument,
            "etcdserver: value is provided",
        ),
        (
            KvError::LeaseProvided,
            Code::InvalidArgument,
            "etcdserver: lease is provided",
        ),
        (
            KvError::TooManyOperations,
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        (
            KvError::DuplicateKey,
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        (
            KvError::InvalidSortOption,
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
        (
            KvError::Compacted,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            KvError::FutureRevision,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            KvError::LeaseNotFound,
            Code::NotFound,
            "etcdserver: requested lease not found",
        ),
        (
            KvError::StreamSortUnsupported,
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ),
        (
            KvError::StreamFilterUnsupported,
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
    ];

    const OF_LEASES: [(LeaseError, Code, &str); 3] = [
        (
            LeaseError::NotFound,
            Code::NotFound,
            "etcdserver: requested lease not found",
        ),
        (
            LeaseError::Exists,
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        ),
        (
            LeaseError::TtlTooLarge,
            Code::OutOfRange,
            "etcdserver: too large lease TTL",
        ),
    ];

    const OF_MEMBERS: [(MembershipError, Code, &str); 8] = [
        (
            MembershipError::IdExists,
            Code::FailedPrecondition,
            "etcdserver: member ID already exist",
        ),
        (
            MembershipError::UrlExists,
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists",
        ),
        (
            MembershipError::NotFound,
            Code::NotFound,
            "etcdserver: member not found",
        ),
        (
            MembershipError::NotLearner,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        (
            MembershipError::NotInSync,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        (
            MembershipError::TooManyLearners,
            Code::FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        (
            MembershipError::NotEnoughStarted,
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        (
            MembershipError::Unhealthy,
            Code::Unavailable,
            "etcdserver: unhealthy cluster",
        ),
    ];

    const OF_TRANSFERS: [(TransferError, Code, &str); 3] = [
        (
            TransferError::NotLeader,
            Code::FailedPrecondition,
            "etcdserver: not leader",
        ),
        (
            TransferError::BadTransferee,
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee",
        ),
        (
            TransferError::TooLong,
            Code::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
    ];

    /// Without that of a changed leader, which depends on what was asked.
    const OF_MEMBER: [(Refusal, Code, &str); 8] = [
        (
            Refusal::Corrupt,
            Code::DataLoss,
            "etcdserver: corrupt cluster",
        ),
        (
            Refusal::NotLeader { leader: None },
            Code::Unavailable,
            "etcdserver: no leader",
        ),
        (
            Refusal::NotLeader { leader: Some(7) },
            Code::Unavailable,
            "etcdserver: no leader",
        ),
        (
            Refusal::TooManyRequests,
            Code::Unknown,
            "etcdserver: too many requests",
        ),
        (
            Refusal::TimedOut,
            Code::Unavailable,
            "etcdserver: request timed out",
        ),
        (
            Refusal::TimedOutLeaderLost,
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        (
            Refusal::TimedOutDisconnected,
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
        ),
        (
            Refusal::Stopped,
            Code::Unavailable,
            "etcdserver: server stopped",
        ),
    ];

    #[test]
    fn every_refusal_has_etcds_code_and_text() {
        let keys = OF_KEYS.map(|(error, code, text)| (Refusal::Kv(error), code, text));
        let leases = OF_LEASES.map(|(error, code, text)| (Refusal::Lease(error), code, text));
        let members =
            OF_MEMBERS.map(|(error, code, text)| (Refusal::Membership(error), code, text));
        let transfers =
            OF_TRANSFERS.map(|(error, code, text)| (Refusal::Transfer(error), code, text));
        let all = keys.into_iter().chain(leases).chain(members);
        for (refusal, code, text) in all.chain(transfers).chain(OF_MEMBER) {
            for status in [from_refusal(&refusal), from_write_refusal(&refusal)] {
                assert_eq!(
                    (status.code(), status.message()),
                    (code, text),
                    "{refusal:?}"
                );
            }
        }
        for (status, code, text) in [
            (
                request_too_large(),
                Code::InvalidArgument,
                "etcdserver: request is too large",
            ),
            (
                space_exceeded(),
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (
                bad_member_urls(),
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            (
                not_on_learner(),
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            (no_leader(), Code::Unavailable, "etcdserver: no leader"),
            (
                server_stopped(),
                Code::Unavailable,
                "etcdserver: server stopped",
            ),
            (
                invalid_client_api_version(),
                Code::InvalidArgument,
                "etcdserver: invalid client api version",
            ),
            (
                as_unknown(bad_member_urls()),
                Code::Unknown,
                "etcdserver: given member URLs are invalid",
            ),
        ] {
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

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
