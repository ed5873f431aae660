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

/// What one stream with several watchers received from one life of a member.
pub struct Stream {
    /// Who watched.
    pub client: u64,
    /// On which member.
    pub member: u64,
    /// What was asked for, in order.
    pub asked: Vec<Asked>,
    /// All that came, in order.
    pub responses: Vec<WatchResponse>,
    /// Whether it was still listening, on a member that lived, when everything was at rest.
    pub to_the_end: bool,
}

/// A watcher that was asked for.
pub struct Asked {
    /// In these words.
    pub create: WatchCreateRequest,
    /// What was compacted on the member at that time.
    pub compact_revision: i64,
}

impl Stream {
    /// What to ask for to go on where the first watchers of this stream ended, save for those that the client cancelled.
    pub fn left_off(&self) -> Vec<WatchCreateRequest> {
        let watchers = promises::by_watcher(&self.responses).unwrap_or_default();
        let each = self.asked.iter().zip(&watchers);
        let resumed = each.filter_map(|(asked, responses)| {
            let last = responses.last()?;
            let given_up = last.canceled && last.compact_revision == 0;
            (!given_up).then(|| WatchCreateRequest {
                start_revision: resume_at(&asked.create, responses),
                watch_id: 0,
                ..asked.create.clone()
            })
        });
        resumed.take(RESUMED_MAX).collect()
    }

    fn judge(&self, history: &History) -> Result<(), Failure> {
        let wrong = |asked: &str, story: &str| {
            let (client, member) = (self.client, self.member);
            let story = format!("client {client} on m{member}: {story}\n  it asked for {asked}");
            Failure::new("watch", story)
        };
        let watchers = promises::by_watcher(&self.responses);
        let watchers = watchers.map_err(|broken| wrong("several", &broken.to_string()))?;
        if watchers.len() > self.asked.len() || self.to_the_end && watchers.len() < self.asked.len()
        {
            let story = format!("{} of its watchers were created", watchers.len());
            return Err(wrong(&self.asked.len().to_string(), &story));
        }
        for (asked, responses) in self.asked.iter().zip(&watchers) {
            let create = &asked.create;
            let told = |story: String| wrong(&format!("{create:?}"), &story);
            asked.ends_if_compacted(responses).map_err(told)?;
            let ended = responses.last().is_some_and(|last| last.canceled);
            let watched = Watched {
                create,
                revision_at_creation: None,
                responses,
                complete_to: (self.to_the_end && !ended).then(|| history.revision()),
            };
            let judged = promises::judge(history, &watched);
            judged.map_err(|broken| told(broken.to_string()))?;
        }
        Ok(())
    }
}

impl Asked {
    /// A watcher whose start is compacted hears that, and nothing else, after it was created.
    fn ends_if_compacted(&self, responses: &[WatchResponse]) -> Result<(), String> {
        let start = self.create.start_revision;
        let Some(next) = responses.get(1) else {
            return Ok(());
        };
        let compacted = (1..self.compact_revision).contains(&start);
        let told = next.compact_revision >= self.compact_revision;
        // Its client may have been faster.
        let given_up = next.canceled && next.compact_revision == 0;
        match compacted && !told && !given_up {
            false => Ok(()),
            true => Err(format!(
                "{} was compacted, and it heard {next:?}",
                self.compact_revision
            )),
        }
    }
}

/// Watchers that one stream takes over from the one before.
const RESUMED_MAX: usize = 3;

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

/// Judges every stretch and every stream against the history; those that lasted to the end must be complete.
pub fn judge(
    stretches: &[Stretch],
    streams: &[Stream],
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    if stretches.is_empty() && streams.is_empty() {
        return Ok(());
    }
    let history = history_of(chronicle);
    streams
        .iter()
        .try_for_each(|stream| stream.judge(&history))?;
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

    use metastore_core::mvcc::Changes;
    use metastore_proto::etcdserverpb::{PutRequest, ResponseHeader};

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
            |stretch: Stretch| judge(&[stretch], &[], &chronicle).map_err(|failure| failure.judge);
        let unfinished = Stretch {
            create: stretch.create.clone(),
            responses: stretch.responses.clone(),
            ..stretch
        };
        assert_eq!(verdict(unfinished), Ok(()));
        stretch.to_the_end = true;
        assert_eq!(verdict(stretch), Err("watch"));
    }

    fn response(watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse {
            watch_id,
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            ..WatchResponse::default()
        }
    }

    fn created(watch_id: i64) -> WatchResponse {
        WatchResponse {
            created: true,
            ..response(watch_id, 3)
        }
    }

    /// A store with two puts, of which the first is compacted, and a stream of one watcher from a revision on.
    fn verdict(start_revision: i64, rest: Vec<WatchResponse>) -> Result<(), &'static str> {
        let mut chronicle = Chronicle::default();
        let mut store = store_with("a");
        let request = PutRequest {
            key: b"k".to_vec(),
            ..PutRequest::default()
        };
        let put = store.put(&request, &mut Changes::new());
        put.expect("a plain put");
        let shown = shown_by(&store, 3, 1);
        let learnt = chronicle.learn(1, &shown, Duration::ZERO);
        learnt.expect("an honest store");
        chronicle.compacted(3, Duration::ZERO);
        let create = WatchCreateRequest {
            key: b"k".to_vec(),
            start_revision,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let stream = Stream {
            client: 1,
            member: 1,
            asked: vec![Asked {
                create,
                compact_revision: 3,
            }],
            responses: [vec![created(0)], rest].concat(),
            to_the_end: false,
        };
        judge(&[], &[stream], &chronicle).map_err(|failure| failure.judge)
    }

    #[test]
    fn a_watcher_below_the_boundary_is_told_so_and_nothing_else() {
        let told = WatchResponse {
            canceled: true,
            compact_revision: 3,
            ..response(0, 0)
        };
        assert_eq!(verdict(2, vec![told.clone()]), Ok(()));
        assert_eq!(verdict(2, vec![response(0, 3)]), Err("watch"));
        assert_eq!(verdict(3, vec![told]), Err("watch"));
    }

    #[test]
    fn progress_before_the_start_of_a_watcher_is_noticed_also_where_it_is_for_the_whole_stream() {
        assert_eq!(verdict(4, Vec::new()), Ok(()));
        assert_eq!(verdict(4, vec![response(0, 3)]), Err("watch"));
        assert_eq!(verdict(4, vec![response(-1, 3)]), Err("watch"));
    }
}
