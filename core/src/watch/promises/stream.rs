//! A stream taken apart: which response is for which of its watchers.

use metastore_proto::etcdserverpb::WatchResponse;

use super::{Broken, NO_WATCH_ID, Promise, Silence, is_progress};

/// The responses of a whole stream as each of its watchers received them, in the order of their creation.
///
/// # Errors
/// As [`places_by_watcher`].
pub fn by_watcher(stream: &[WatchResponse]) -> Result<Vec<Vec<WatchResponse>>, Broken> {
    let of_one = |places: Vec<usize>| places.into_iter().map(|at| stream[at].clone()).collect();
    Ok(places_by_watcher(stream)?.into_iter().map(of_one).collect())
}

/// Where in a whole stream the responses are that each of its watchers received, in the order of their creation.
///
/// A refused creation is a list of its own. Progress told to the stream is told to every watcher then running.
/// A watcher that a compaction ended keeps its id until the client cancels it; the answer to that is left out.
///
/// # Errors
/// If a response is for a watcher that was never created.
pub fn places_by_watcher(stream: &[WatchResponse]) -> Result<Vec<Vec<usize>>, Broken> {
    let mut watchers: Vec<Vec<usize>> = Vec::new();
    let mut forgotten: Vec<usize> = Vec::new();
    for (at, response) in stream.iter().enumerate() {
        if response.created {
            watchers.push(vec![at]);
        } else if is_for_all(response) {
            let running = watchers
                .iter_mut()
                .filter(|places| !places.iter().any(|at| stream[*at].canceled));
            running.for_each(|places| places.push(at));
        } else {
            // An id may be used again after a cancellation: the youngest of its watchers is meant.
            let own = |places: &Vec<usize>| stream[places[0]].watch_id == response.watch_id;
            let Some(youngest) = watchers.iter().rposition(own) else {
                let story = format!("a response for a watcher never created: {response:?}");
                return Err(Broken::new(Promise::Lifecycle, story));
            };
            let places = &mut watchers[youngest];
            let last = places.last().map(|last| &stream[*last]);
            let compacted = last.is_some_and(|last| last.compact_revision != 0);
            if compacted && is_farewell(response) && !forgotten.contains(&youngest) {
                forgotten.push(youngest);
            } else {
                places.push(at);
            }
        }
    }
    Ok(watchers)
}

/// The silences of a stream as one of its watchers had them, whose responses are at these places; those before it
/// was created are left out.
pub fn silences_of(places: &[usize], stream: &[Silence]) -> Vec<Silence> {
    let mut silences: Vec<Silence> = Vec::new();
    for silence in stream {
        let after = places.partition_point(|at| *at < silence.after);
        match silences.last_mut() {
            Some(last) if last.after == after => {
                last.revision = last.revision.max(silence.revision)
            }
            _ if after == 0 => {}
            _ => silences.push(Silence { after, ..*silence }),
        }
    }
    silences
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
