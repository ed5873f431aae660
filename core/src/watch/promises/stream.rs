//! A stream taken apart: which response is for which of its watchers.

use metastore_proto::etcdserverpb::WatchResponse;

use super::{Broken, NO_WATCH_ID, Promise, is_progress};

/// The responses of a whole stream as each of its watchers received them, in the order of their creation.
///
/// A refused creation is a list of its own. Progress told to the stream is told to every watcher then running.
/// Broken if a response is for a watcher that was never created.
pub fn by_watcher(stream: &[WatchResponse]) -> Result<Vec<Vec<WatchResponse>>, Broken> {
    let mut watchers: Vec<Vec<WatchResponse>> = Vec::new();
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
            let mut own = watchers.iter_mut().rev();
            let responses = own.find(|responses| responses[0].watch_id == response.watch_id);
            let Some(responses) = responses else {
                let story = format!("a response for a watcher never created: {response:?}");
                return Err(Broken::new(Promise::Lifecycle, story));
            };
            responses.push(response.clone());
        }
    }
    Ok(watchers)
}

/// Whether this is progress of the whole stream.
pub(super) fn is_for_all(response: &WatchResponse) -> bool {
    response.watch_id == NO_WATCH_ID && is_progress(response)
}
