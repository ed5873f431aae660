//! Every way the replicated state can refuse an entry.

use std::fmt;

use crate::kv_error::KvError;
use crate::lease::LeaseError;
use crate::membership::MembershipError;

/// Why an entry changed nothing. Every member comes to the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// A key-value request.
    Kv(KvError),
    /// A request about a lease.
    Lease(LeaseError),
    /// What a member says of itself.
    Membership(MembershipError),
}

impl From<KvError> for ApplyError {
    fn from(error: KvError) -> Self {
        Self::Kv(error)
    }
}

impl From<LeaseError> for ApplyError {
    fn from(error: LeaseError) -> Self {
        Self::Lease(error)
    }
}

impl From<MembershipError> for ApplyError {
    fn from(error: MembershipError) -> Self {
        Self::Membership(error)
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Membership(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ApplyError {}
