//! The promises a watcher was given, judged from what it received against what really happened.
//!
//! A test or simulation keeps the committed [`History`], records what one watcher received, and calls [`judge`].
//! A run that was cut off anywhere is judged by the same promises; what must have arrived by then is said with
//! [`Watched::complete_to`].
//!
//! ```
//! use metastore_core::watch::promises::{History, Watched, judge};
//! # use metastore_proto::etcdserverpb::WatchCreateRequest;
//! let history = History::new();
//! let create = WatchCreateRequest::default();
//! let nothing_yet = Watched::of(&create, &[]);
//! assert_eq!(judge(&history, &nothing_yet), Ok(()));
//! ```

mod delivery;
mod history;
mod opening;
mod progress;
mod stream;

use std::fmt;

use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use delivery::Delivered;
pub use history::{History, event_of};
pub use opening::{DUPLICATE_ID, EMPTY_RANGE, NEGATIVE_START, NO_WATCH_ID};
pub use stream::{by_watcher, places_by_watcher, silences_of};

/// A promise made to every watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Events come by revision, and within one revision as they were executed.
    Ordered,
    /// Each event comes once.
    Unique,
    /// A revision is not split over two responses, except by fragments; fragments follow each other, all but the
    /// last flagged.
    Atomic,
    /// From the start on no matching event is missing, and no other event comes.
    Reliable,
    /// The first event is the first matching one at or after the requested start; a compaction cancels only a
    /// watcher that needs what was compacted.
    Resumable,
    /// A progress revision never overtakes undelivered events, never goes back, and is never below the start.
    Bookmarkable,
    /// An event carries its record as committed; a delete carries key and revision only.
    Content,
    /// The previous record is the one as of the revision before: when asked for, where there was one, unless
    /// compacted.
    PrevKv,
    /// A header's revision was committed, covers the events of its response and never goes back.
    Header,
    /// Created first and once, with one id; after the cancellation nothing; refusals for their cause alone.
    Lifecycle,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// What was seen, in words.
    pub story: String,
}

impl Broken {
    fn new(promise: Promise, story: impl Into<String>) -> Self {
        Broken {
            promise,
            story: story.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch/{:?}: {}", self.promise, self.story)
    }
}

impl std::error::Error for Broken {}

/// What one watcher asked for and what it received.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// The request that created it.
    pub create: &'a WatchCreateRequest,
    /// The revision of the answering member when it was created; without it, the header of the creation is believed.
    pub revision_at_creation: Option<i64>,
    /// Everything the stream brought for this watcher, in order: see [`by_watcher`].
    pub responses: &'a [WatchResponse],
    /// The compact revision of the member when each response was heard, from the first response on. One without an
    /// entry is taken for one that came when everything was compacted that ever was.
    pub boundaries: &'a [i64],
    /// The times when nothing more came, in order.
    pub silences: &'a [Silence],
    /// Every matching event up to this revision must have arrived by now; `None` if that is not known. A
    /// cancellation by compaction excuses what is missing.
    pub complete_to: Option<i64>,
}

/// A time in which a watcher was told nothing more, although its reader listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// So many responses had come before.
    pub after: usize,
    /// Every matching event up to this revision had its time to come.
    pub revision: i64,
}

impl<'a> Watched<'a> {
    /// What was asked for and what came, with nothing known beside.
    pub fn of(create: &'a WatchCreateRequest, responses: &'a [WatchResponse]) -> Self {
        Self {
            create,
            revision_at_creation: None,
            responses,
            boundaries: &[],
            silences: &[],
            complete_to: None,
        }
    }
}

/// Judges one watcher; the first promise found broken is told.
///
/// The history must be at least as new as anything the watcher received.
pub fn judge(history: &History, watched: &Watched<'_>) -> Result<(), Broken> {
    let Some(start) = opening::start_of(history, watched)? else {
        return Ok(());
    };
    opening::check_ending(watched)?;
    let delivered = Delivered::read(history, watched, start)?;
    delivered.check_order()?;
    delivered.check_gaps()?;
    delivered.check_completeness()?;
    delivered.check_silences()?;
    delivered.check_whole_revisions()?;
    delivered.check_fragments()?;
    delivered.check_contents()?;
    progress::check_bookmarks(&delivered)?;
    progress::check_headers(&delivered)?;
    progress::check_compaction(&delivered)
}

/// Whether a response has nothing to say but its revision.
fn is_progress(response: &WatchResponse) -> bool {
    !response.created && !response.canceled && response.events.is_empty()
}

fn header_revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod perfect;
#[cfg(test)]
mod tests;
