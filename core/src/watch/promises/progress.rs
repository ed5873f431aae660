//! What responses say apart from their events: how far the watcher is, and when history was taken away from it.

use super::delivery::Delivered;
use super::{Broken, NO_WATCH_ID, Promise, header_revision, is_progress};

/// Progress at a revision means that everything up to it has been delivered.
pub(super) fn check_bookmarks(delivered: &Delivered<'_>) -> Result<(), Broken> {
    let broken = |story: String| Err(Broken::new(Promise::Bookmarkable, story));
    let create = delivered.watched.create;
    let mut count = 0;
    // The newest revision the watcher knows it has passed.
    let mut passed = 0;
    for (response, places) in delivered.watched.responses.iter().zip(&delivered.received) {
        count += places.len();
        passed = places.last().map_or(passed, |last| passed.max(last.0));
        if !is_progress(response) {
            continue;
        }
        let revision = header_revision(response);
        if response.watch_id != NO_WATCH_ID && !create.progress_notify {
            return broken(format!("progress at {revision} without asking for it"));
        }
        if revision < passed {
            return broken(format!("progress at {revision}, but {passed} had passed"));
        }
        if revision < create.start_revision {
            let start = create.start_revision;
            return broken(format!(
                "progress at {revision} before the start at {start}"
            ));
        }
        if let Some(due) = delivered.expected.get(count)
            && due.0 <= revision
        {
            let due = delivered.told(*due);
            return broken(format!("progress at {revision} overtook {due}"));
        }
        passed = revision;
    }
    Ok(())
}

/// A header's revision is that of the member when the response was made.
pub(super) fn check_headers(delivered: &Delivered<'_>) -> Result<(), Broken> {
    let broken = |story: String| Err(Broken::new(Promise::Header, story));
    let mut newest = 0;
    for (response, places) in delivered.watched.responses.iter().zip(&delivered.received) {
        let revision = header_revision(response);
        if response.compact_revision != 0 {
            if revision != 0 {
                return broken(format!("a compacted watcher was told revision {revision}"));
            }
            continue;
        }
        if let Some(last) = places.last()
            && revision < last.0
        {
            let last = delivered.told(*last);
            return broken(format!("a header at {revision} brought {last}"));
        }
        if revision < newest {
            return broken(format!("a header went back from {newest} to {revision}"));
        }
        if revision > delivered.history.revision() {
            return broken(format!("a header at {revision}, not committed yet"));
        }
        newest = revision;
    }
    Ok(())
}

/// A compaction ends only a watcher that still needs something below the boundary, and says which boundary.
pub(super) fn check_compaction(delivered: &Delivered<'_>) -> Result<(), Broken> {
    let broken = |story: String| Err(Broken::new(Promise::Resumable, story));
    let responses = delivered.watched.responses;
    let Some(end) = responses.last().filter(|last| last.compact_revision != 0) else {
        return Ok(());
    };
    let boundary = end.compact_revision;
    if !delivered.history.compactions().contains(&boundary) {
        return broken(format!("cancelled at {boundary}, where no boundary was"));
    }
    if !end.cancel_reason.is_empty() {
        let reason = &end.cancel_reason;
        return broken(format!("the boundary {boundary} comes with \"{reason}\""));
    }
    let progress = responses.iter().filter(|response| is_progress(response));
    let told = progress.map(header_revision).max();
    let last = delivered
        .received
        .iter()
        .flatten()
        .map(|place| place.0)
        .max();
    // Whoever had everything when nothing more came, before the end, needs only what came later.
    let silences = delivered.watched.silences.iter();
    let before = silences.filter(|silence| silence.after < responses.len());
    let caught_up = before.map(|silence| silence.revision).max();
    let passed = told.max(last).max(caught_up);
    let needed = delivered.start.max(passed.map_or(0, |it| it + 1));
    if needed >= boundary {
        return broken(format!(
            "cancelled at {boundary}, but needed only {needed} on"
        ));
    }
    Ok(())
}
