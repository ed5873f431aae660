//! The watch promises, for every watcher on every member it went to.

use metastore_core::watch::promises::{self, History, Watched};
use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use metastore_proto::mvccpb::event::EventType;
use metastore_proto::mvccpb::{Event, KeyValue};

use super::Failure;
use super::chronicle::Chronicle;
use crate::model::KeyChange;

/// What one watcher received from one life of a member.
pub struct Stretch {
    /// Who watched.
    pub client: u64,
    /// On which member.
    pub member: u64,
    /// What was asked for.
    pub create: WatchCreateRequest,
    /// All that came, in order.
    pub responses: Vec<WatchResponse>,
    /// Whether it was still listening, on a member that lived, when everything was at rest.
    pub to_the_end: bool,
}

/// Where a watcher goes on after a stretch: behind what arrived, or at the boundary that ended it.
pub fn resume_at(create: &WatchCreateRequest, responses: &[WatchResponse]) -> i64 {
    let Some(last) = responses.last() else {
        return create.start_revision;
    };
    if last.compact_revision > 0 {
        return last.compact_revision;
    }
    let passed = responses.iter().map(|response| {
        let events = response.events.last().and_then(|event| event.kv.as_ref());
        let event = events.map_or(0, |kv| kv.mod_revision);
        match response.events.is_empty() && !response.canceled {
            true => response.header.as_ref().map_or(0, |header| header.revision),
            false if response.fragment => event - 1,
            false => event,
        }
    });
    // Without a start of its own a watcher begins behind the revision it was created at.
    let created = create.start_revision == 0;
    let passed = passed.skip(usize::from(!created)).max().unwrap_or(0);
    create.start_revision.max(passed + 1)
}

/// Judges every stretch against the history; those that lasted to the end must be complete.
pub fn judge(stretches: &[Stretch], chronicle: &Chronicle) -> Result<(), Failure> {
    if stretches.is_empty() {
        return Ok(());
    }
    let history = history_of(chronicle);
    for stretch in stretches {
        let watched = Watched {
            create: &stretch.create,
            revision_at_creation: None,
            responses: &stretch.responses,
            complete_to: stretch.to_the_end.then(|| history.revision()),
        };
        if let Err(broken) = promises::judge(&history, &watched) {
            let story = format!(
                "client {} on m{}: {broken}\n  it asked for {:?}",
                stretch.client, stretch.member, stretch.create
            );
            return Err(Failure::new("watch", story));
        }
    }
    Ok(())
}

fn history_of(chronicle: &Chronicle) -> History {
    let base = chronicle.base();
    let keys = chronicle.keys(base).unwrap_or_default();
    let mut history = History::after(base, keys.values().map(|kv| (**kv).clone()));
    for number in chronicle.known() {
        let revision = chronicle.revision(number).expect("the history has no gaps");
        let events: Vec<Event> = revision
            .changes
            .iter()
            .map(|change| event(change, number))
            .collect();
        history.commit(&events);
    }
    for boundary in chronicle.boundaries() {
        history.compact(boundary);
    }
    history
}

fn event((key, record): &KeyChange, revision: i64) -> Event {
    let (kind, kv) = match record {
        Some(kv) => (EventType::Put, (**kv).clone()),
        None => {
            let gone = KeyValue {
                key: key.to_vec(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            (EventType::Delete, gone)
        }
    };
    Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metastore_proto::etcdserverpb::ResponseHeader;

    use super::super::chronicle::tests::{shown_by, store_with};
    use super::*;

    #[test]
    fn a_watcher_at_rest_that_misses_an_event_was_betrayed() {
        let mut chronicle = Chronicle::default();
        let shown = shown_by(&store_with("a"), 2, 1);
        chronicle
            .learn(1, &shown, Duration::ZERO)
            .expect("an honest store");
        let created = WatchResponse {
            header: Some(ResponseHeader {
                revision: 2,
                ..ResponseHeader::default()
            }),
            created: true,
            ..WatchResponse::default()
        };
        let mut stretch = Stretch {
            client: 1,
            member: 1,
            create: WatchCreateRequest {
                key: b"k".to_vec(),
                start_revision: 2,
                ..WatchCreateRequest::default()
            },
            responses: vec![created],
            to_the_end: false,
        };
        let verdict =
            |stretch: Stretch| judge(&[stretch], &chronicle).map_err(|failure| failure.judge);
        let unfinished = Stretch {
            create: stretch.create.clone(),
            responses: stretch.responses.clone(),
            ..stretch
        };
        assert_eq!(verdict(unfinished), Ok(()));
        stretch.to_the_end = true;
        assert_eq!(verdict(stretch), Err("watch"));
    }
}
