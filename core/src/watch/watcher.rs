//! Watcher: what one client wants to hear, and how far it has heard it.

use metastore_proto::etcdserverpb::WatchCreateRequest;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;

use super::hub::StreamKey;
use super::index::Span;
use super::intervals::End;
use crate::key::{Key, KeyRange};
use crate::mvcc::Record;

/// One watcher of one stream.
///
/// It is *synced* while every event it has not got lies in the future, and *lagging* while it reads the history from
/// `next` on. Live events reach synced watchers only.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The stream it belongs to.
    pub(super) stream: StreamKey,
    pub(super) id: i64,
    /// Unique among all watchers the hub ever had.
    pub(super) serial: u64,
    pub(super) span: Span,
    /// Its place in the index.
    pub(super) place: usize,
    /// The first revision it wants: as asked for, or 0.
    pub(super) start: i64,
    /// The first revision it has not been given. While it is synced, that may be behind the live tail.
    pub(super) next: i64,
    pub(super) lagging: bool,
    /// Whether it had no event since the last regular progress.
    pub(super) quiet: bool,
    pub(super) wants: Wants,
}

/// What a watcher wants beside the plain events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) puts: bool,
    pub(super) deletes: bool,
    pub(super) previous: bool,
    pub(super) fragments: bool,
    pub(super) progress: bool,
}

impl Watcher {
    /// Whether this change is for it, as it happens.
    pub(super) fn hears(&self, record: &Record) -> bool {
        !self.lagging && self.next <= record.mod_revision() && self.wants.takes(record)
    }
}

impl Wants {
    pub(super) fn of(request: &WatchCreateRequest) -> Self {
        let filtered = |kind: FilterType| request.filters.contains(&(kind as i32));
        Self {
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            previous: request.prev_kv,
            fragments: request.fragment,
            progress: request.progress_notify,
        }
    }

    pub(super) fn takes(self, record: &Record) -> bool {
        match record.is_tombstone() {
            true => self.deletes,
            false => self.puts,
        }
    }
}

/// The keys a request names; none if its end does not lie behind its start. An empty key stands for the least one.
pub(super) fn span_of(request: &WatchCreateRequest) -> Option<Span> {
    let key: &[u8] = match request.key.as_slice() {
        [] => &[0],
        key => key,
    };
    let end = match KeyRange::new(key, &request.range_end) {
        KeyRange::One(_) => None,
        KeyRange::From(_) => Some(End::Open),
        KeyRange::Between(start, end) if start < end => Some(End::Before(Key::from(end))),
        KeyRange::Between(..) => return None,
    };
    Some(Span {
        start: Key::from(key),
        end,
    })
}
