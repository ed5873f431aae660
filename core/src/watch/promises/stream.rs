//! A stream taken apart: which response is for which of its watchers.

use metastore_proto::etcdserverpb::WatchResponse;

use super::{Broken, NO_WATCH_ID, Promise, is_progress};

/// The responses of a whole stream as each of its watchers received them, in the order of their creation.
///
/// A refused creation is a list of its own. Progress told to the stream is told to every watcher then running.
/// A watcher that a compaction ended keeps its id until the client cancels it; the answer to that is left out. Broken if
/// a response is for a watcher that was never created.
pub fn by_watcher(stream: &[WatchResponse]) -> Result<Vec<Vec<WatchResponse>>, Broken> {
    let mut watchers: Vec<Vec<WatchResponse>> = Vec::new();
    let mut forgotten: Vec<usize> = Vec::new();
    for response in stream {
        if response.created {
            watchers.push(vec![response.clone()]);
        } else if is_for_all(response) {
            let running = watchers
                .iter_mut()
                .filter(|responses| !responses.iter().any(|response| response.canceled));
            running.for_each(|responses| responses.push(response.clone()));
        } else {
            // An id may be used again after a cancellation: the youngest of its watchers is meant.
            let own = |responses: &Vec<WatchResponse>| responses[0].watch_id == response.watch_id;
            let Some(youngest) = watchers.iter().rposition(own) else {
                let story = format!("a response for a watcher never created: {response:?}");
                return Err(Broken::new(Promise::Lifecycle, story));
            };
            let responses = &mut watchers[youngest];
            let compacted = responses
                .last()
                .is_some_and(|last| last.compact_revision != 0);
            if compacted && is_farewell(response) && !forgotten.contains(&youngest) {
                forgotten.push(youngest);
            } else {
                responses.push(response.clone());
            }
        }
    }
    Ok(watchers)
}

/// Whether this answers a client that cancels.
fn is_farewell(response: &WatchResponse) -> bool {
    response.canceled
        && response.compact_revision == 0
        && response.cancel_reason.is_empty()
        && response.events.is_empty()
}

/// Whether this is progress of the whole stream.
pub(super) fn is_for_all(response: &WatchResponse) -> bool {
    response.watch_id == NO_WATCH_ID && is_progress(response)
}
