//! The versions this server reports.

/// The etcd release whose API is spoken; clients and tools decide by it what they may ask.
pub(crate) const ETCD: &str = crate::config::ETCD_VERSION;
