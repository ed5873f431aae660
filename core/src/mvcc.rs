//! The multi-version store: every change of every key since the last compaction, readable at any revision.
//!
//! - [`Store`] is the writer. It applies requests one at a time; all its effects come back as [`Changes`].
//! - [`View`] is the whole state at one revision, taken in O(1); it reads on any thread and never sees a later write.
//!
//! Revisions start at 1 on an empty store; every command that changes a key takes the next one, and all its changes
//! share it. A compaction moves the boundary at once and removes nothing itself: [`Store::sweep`] does so bit by
//! bit. What a member answers never depends on how far its sweep came; only [`Store::bytes_in_use`] does.

pub mod changes;
pub mod event_log;
pub mod events;
mod hash;
pub mod history;
pub mod keyspace;
mod range;
pub mod range_stream;
pub mod record;
mod retained;
pub mod store;
mod sweep;
mod validate;
pub mod view;
pub(crate) mod write;

pub use changes::{Change, Changes};
pub use events::{Events, RevisionEvents};
pub use range::is_in_key_order;
pub use range_stream::RangeStream;
pub use record::Record;
pub use store::{Store, Sweep};
pub use view::View;

pub(crate) use view::NEVER_COMPACTED;

use metastore_proto::etcdserverpb::ResponseHeader;

/// A header of which the store knows only the revision; the other fields are the member's to fill.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

#[cfg(test)]
pub(crate) mod generate;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
pub(crate) mod model;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests;
