//! How a watcher begins and ends: creation, refusal, cancellation.

use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::{Broken, History, Promise, Watched, header_revision};

/// The reason of a refusal because no key lies in the range.
pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// The reason of a refusal because the stream has a watcher of this id.
pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// The reason of a refusal because the start is below zero.
pub const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";
/// The id in refusals, and in progress that is told to a whole stream.
pub const NO_WATCH_ID: i64 = -1;

/// The first revision whose events the watcher must receive; `None` if it was refused, or not created yet.
pub(super) fn start_of(history: &History, watched: &Watched<'_>) -> Result<Option<i64>, Broken> {
    let create = watched.create;
    let Some((first, rest)) = watched.responses.split_first() else {
        return match watched.complete_to.is_some() || !watched.silences.is_empty() {
            true => broken("events must have arrived, but the watcher was never created"),
            false => Ok(None),
        };
    };
    if !first.created {
        return broken(format!("the first response is not the creation: {first:?}"));
    }
    if !first.events.is_empty() || first.fragment || first.compact_revision != 0 {
        return broken(format!("a creation says more than that: {first:?}"));
    }
    let revision = header_revision(first);
    let known = watched.revision_at_creation.unwrap_or(revision);
    if known != revision || !(1..=history.revision()).contains(&revision) {
        let story = format!("the creation says revision {revision}, the member was at {known}");
        return Err(Broken::new(Promise::Header, story));
    }
    if first.canceled {
        return check_refusal(create, first, rest).map(|()| None);
    }
    if let Some(reason) = causes(create).first() {
        return broken(format!("created, though to be refused with \"{reason}\""));
    }
    if create.watch_id != 0 && first.watch_id != create.watch_id {
        let (asked, given) = (create.watch_id, first.watch_id);
        return broken(format!("id {asked} was asked for and {given} given"));
    }
    if !first.cancel_reason.is_empty() {
        return broken("a creation gives a reason to cancel");
    }
    Ok(Some(match create.start_revision {
        0 => revision + 1,
        asked => asked,
    }))
}

/// Nothing comes twice, under another id, or after the end.
pub(super) fn check_ending(watched: &Watched<'_>) -> Result<(), Broken> {
    let (first, rest) = watched.responses.split_first().expect("it was created");
    let mut ended = false;
    for response in rest {
        if ended {
            return broken(format!("after the cancellation came {response:?}"));
        }
        if response.created {
            return broken("created twice");
        }
        if response.watch_id != first.watch_id && !super::stream::is_for_all(response) {
            let (own, other) = (first.watch_id, response.watch_id);
            return broken(format!("watcher {own} received a response for {other}"));
        }
        let only_events = response.cancel_reason.is_empty() && response.compact_revision == 0;
        if !response.canceled && !only_events {
            return broken(format!("a cancellation without its flag: {response:?}"));
        }
        if response.canceled && (!response.events.is_empty() || response.fragment) {
            return broken(format!("a cancellation brings events: {response:?}"));
        }
        ended = response.canceled;
    }
    Ok(())
}

fn check_refusal(
    create: &WatchCreateRequest,
    refusal: &WatchResponse,
    rest: &[WatchResponse],
) -> Result<(), Broken> {
    let reason = refusal.cancel_reason.as_str();
    if refusal.watch_id != NO_WATCH_ID {
        return broken(format!("a refusal under id {}", refusal.watch_id));
    }
    if reason.is_empty() {
        return broken("refused without a reason");
    }
    if let Some(response) = rest.first() {
        return broken(format!("after the refusal came {response:?}"));
    }
    // Of several causes any may be told; those that depend on more than the request are not known here.
    let judged = [EMPTY_RANGE, NEGATIVE_START];
    if judged.contains(&reason) && !causes(create).contains(&reason) {
        return broken(format!("refused without cause: {reason}"));
    }
    if reason == DUPLICATE_ID && create.watch_id == 0 {
        return broken("the id that the server chose is said to be in use");
    }
    Ok(())
}

/// Why this request must be refused, whoever asks.
fn causes(create: &WatchCreateRequest) -> Vec<&'static str> {
    let key = key_of(create);
    let end = create.range_end.as_slice();
    let mut causes = Vec::new();
    if !end.is_empty() && end != [0] && end <= key {
        causes.push(EMPTY_RANGE);
    }
    if create.start_revision < 0 {
        causes.push(NEGATIVE_START);
    }
    causes
}

/// The key a request means: the empty one stands for the first there is.
pub(super) fn key_of(create: &WatchCreateRequest) -> &[u8] {
    match create.key.as_slice() {
        [] => &[0],
        key => key,
    }
}

fn broken<T>(story: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::new(Promise::Lifecycle, story))
}
