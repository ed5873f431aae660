//! The watch promises, for every watcher on every member it went to.

use std::time::Duration;

use metastore_core::watch::promises::{self, History, NO_WATCH_ID, Silence, Watched};
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
    /// The revision that the member showed then, if that is known.
    pub revision_at_creation: Option<i64>,
    /// All that came, in order.
    pub responses: Vec<WatchResponse>,
    /// What its client noted beside.
    pub notes: Notes,
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
    /// What its client noted beside.
    pub notes: Notes,
    /// Whether it was still listening, on a member that lived, when everything was at rest.
    pub to_the_end: bool,
}

/// A watcher that was asked for.
pub struct Asked {
    /// In these words.
    pub create: WatchCreateRequest,
    /// The revision that the member showed at that time.
    pub revision_at_creation: i64,
    /// What was compacted on the member at that time.
    pub compact_revision: i64,
}

/// What a client noted while it listened to a stream; nothing where it could not know.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The compact revision of the member when each response was heard.
    pub boundaries: Vec<i64>,
    /// When each response was heard.
    pub times: Vec<Duration>,
    /// When nothing more came, in order.
    pub silences: Vec<Silence>,
    /// So many watchers had been asked for when the last silence began.
    pub asked_in_time: usize,
    /// So many responses had been heard when it asked, with everything at rest, how far the stream is.
    pub asked_at_rest: Option<usize>,
    /// The end of the stream, if nothing was broken then.
    pub calm: Option<Calm>,
}

/// A time in which nothing was broken, and a client listened all the time.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    /// From then on.
    pub since: Duration,
    /// Until then.
    pub until: Duration,
    /// Within this time whoever asked for regular progress hears of something.
    pub patience: Duration,
}

impl Notes {
    /// The notes on the responses at these places.
    fn of(&self, places: &[usize]) -> Self {
        let all = |at: &usize| self.boundaries.get(*at).copied();
        let times = |at: &usize| self.times.get(*at).copied();
        Self {
            boundaries: places.iter().map_while(all).collect(),
            times: places.iter().map_while(times).collect(),
            silences: promises::silences_of(places, &self.silences),
            ..self.clone()
        }
    }

    /// At rest, whoever asks how far a stream is hears that it has everything, unless none of its watchers goes on or one
    /// has not begun.
    fn told_at_rest(
        &self,
        responses: &[WatchResponse],
        going_on: &[&WatchCreateRequest],
        newest: i64,
    ) -> Result<(), String> {
        let Some(answers) = self.asked_at_rest.and_then(|at| responses.get(at..)) else {
            return Ok(());
        };
        let begun = going_on.iter().all(|it| it.start_revision <= newest);
        let told = answers.iter().any(|answer| {
            let header = answer.header.as_ref();
            let revision = header.map_or(0, |header| header.revision);
            answer.watch_id == NO_WATCH_ID && says_only_how_far(answer) && revision == newest
        });
        match going_on.is_empty() || !begun || told {
            true => Ok(()),
            false => Err(format!(
                "at rest at {newest} it asked how far the stream is, and heard {answers:?}"
            )),
        }
    }

    /// Whoever asked for regular progress and has begun hears of something now and then.
    fn told_regularly(
        &self,
        create: &WatchCreateRequest,
        responses: &[WatchResponse],
    ) -> Result<(), String> {
        let created = responses.first().and_then(|first| first.header.as_ref());
        let begun = created.is_some_and(|header| create.start_revision <= header.revision);
        let wanted = create.progress_notify && begun;
        let (Some(calm), Some(created)) = (self.calm.filter(|_| wanted), self.times.first()) else {
            return Ok(());
        };
        let own = responses.iter().zip(&self.times);
        let own = own.filter(|(response, _)| response.watch_id != NO_WATCH_ID);
        let mut last = calm.since.max(*created);
        for time in own.map(|(_, time)| *time).chain([calm.until]) {
            if time > last + calm.patience {
                let (from, to) = (last.as_secs_f64(), time.as_secs_f64());
                return Err(format!(
                    "it asked for regular progress, and heard nothing from {from:.3}s to {to:.3}s"
                ));
            }
            last = last.max(time);
        }
        Ok(())
    }
}

/// Whether a response is progress.
fn says_only_how_far(response: &WatchResponse) -> bool {
    !response.created && !response.canceled && response.events.is_empty()
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
        let watchers = promises::places_by_watcher(&self.responses);
        let watchers = watchers.map_err(|broken| wrong("several", &broken.to_string()))?;
        let due = match self.to_the_end {
            true => self.asked.len(),
            false => self.notes.asked_in_time,
        };
        if watchers.len() > self.asked.len() || watchers.len() < due {
            let story = format!("{} of its watchers were created", watchers.len());
            return Err(wrong(&self.asked.len().to_string(), &story));
        }
        let mut going_on = Vec::new();
        for (asked, places) in self.asked.iter().zip(&watchers) {
            let create = &asked.create;
            let told = |story: String| wrong(&format!("{create:?}"), &story);
            let responses: Vec<WatchResponse> = places
                .iter()
                .map(|at| self.responses[*at].clone())
                .collect();
            let notes = self.notes.of(places);
            asked.ends_if_compacted(&responses).map_err(told)?;
            let ended = responses.last().is_some_and(|last| last.canceled);
            let watched = Watched {
                revision_at_creation: Some(asked.revision_at_creation),
                boundaries: &notes.boundaries,
                silences: &notes.silences,
                complete_to: (self.to_the_end && !ended).then(|| history.revision()),
                ..Watched::of(create, &responses)
            };
            let judged = promises::judge(history, &watched);
            judged.map_err(|broken| told(broken.to_string()))?;
            if self.to_the_end && !ended {
                notes.told_regularly(create, &responses).map_err(told)?;
                going_on.push(create);
            }
        }
        if !self.to_the_end {
            return Ok(());
        }
        let told = self
            .notes
            .told_at_rest(&self.responses, &going_on, history.revision());
        told.map_err(|story| wrong(&format!("{} watchers", self.asked.len()), &story))
    }
}

impl Stretch {
    fn judge(&self, history: &History) -> Result<(), Failure> {
        let wrong = |story: String| {
            let (client, member) = (self.client, self.member);
            let story = format!("client {client} on m{member}: {story}");
            let story = format!("{story}\n  it asked for {:?}", self.create);
            Failure::new("watch", story)
        };
        let watched = Watched {
            revision_at_creation: self.revision_at_creation,
            boundaries: &self.notes.boundaries,
            silences: &self.notes.silences,
            complete_to: self.to_the_end.then(|| history.revision()),
            ..Watched::of(&self.create, &self.responses)
        };
        let judged = promises::judge(history, &watched);
        judged.map_err(|broken| wrong(broken.to_string()))?;
        if !self.to_the_end {
            return Ok(());
        }
        let (create, responses) = (&self.create, &self.responses);
        let told = self.notes.told_regularly(create, responses);
        told.map_err(wrong)?;
        let told = self
            .notes
            .told_at_rest(responses, &[create], history.revision());
        told.map_err(wrong)
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
    stretches
        .iter()
        .try_for_each(|stretch| stretch.judge(&history))
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
            revision_at_creation: Some(2),
            responses: vec![created],
            notes: Notes::default(),
            to_the_end: false,
        };
        let verdict =
            |stretch: Stretch| judge(&[stretch], &[], &chronicle).map_err(|failure| failure.judge);
        let unfinished = Stretch {
            create: stretch.create.clone(),
            responses: stretch.responses.clone(),
            notes: Notes::default(),
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
        spoilt(start_revision, rest, |_| ())
    }

    fn spoilt(
        start_revision: i64,
        rest: Vec<WatchResponse>,
        spoil: impl FnOnce(&mut Stream),
    ) -> Result<(), &'static str> {
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
        let mut stream = Stream {
            client: 1,
            member: 1,
            asked: vec![Asked {
                create,
                revision_at_creation: 3,
                compact_revision: 3,
            }],
            responses: [vec![created(0)], rest].concat(),
            notes: Notes::default(),
            to_the_end: false,
        };
        spoil(&mut stream);
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

    #[test]
    fn a_creation_that_is_behind_what_its_member_showed_is_noticed() {
        let behind = |shown| {
            let spoil = |stream: &mut Stream| stream.asked[0].revision_at_creation = shown;
            spoilt(4, Vec::new(), spoil)
        };
        assert_eq!(behind(3), Ok(()));
        assert_eq!(behind(4), Err("watch"));
    }

    #[test]
    fn a_stream_that_is_silent_has_told_everything_and_answered_every_creation() {
        let silent = |revision, asked_in_time| {
            spoilt(3, Vec::new(), |stream| {
                stream.notes.silences = vec![Silence { after: 1, revision }];
                stream.notes.asked_in_time = asked_in_time;
            })
        };
        assert_eq!(silent(2, 1), Ok(()));
        assert_eq!(silent(3, 1), Err("watch"), "revision 3 is its own");
        assert_eq!(silent(2, 2), Err("watch"), "another was asked for");
    }

    #[test]
    fn at_rest_a_stream_says_how_far_it_is_when_it_is_asked() {
        let asked = |start: i64, answers: Vec<WatchResponse>| {
            spoilt(start, answers, |stream| {
                stream.to_the_end = true;
                stream.notes.asked_at_rest = Some(1);
            })
        };
        assert_eq!(asked(0, vec![response(NO_WATCH_ID, 3)]), Ok(()));
        assert_eq!(asked(0, Vec::new()), Err("watch"));
        assert_eq!(asked(0, vec![response(0, 3)]), Err("watch"), "regular");
        assert_eq!(asked(4, Vec::new()), Ok(()), "it has not begun");
        let canceled = WatchResponse {
            canceled: true,
            ..response(0, 3)
        };
        assert_eq!(asked(0, vec![canceled]), Ok(()), "there is none left");
    }

    #[test]
    fn whoever_asked_for_regular_progress_hears_it_in_time() {
        let seconds = |times: &[u64]| times.iter().copied().map(Duration::from_secs).collect();
        let heard = |start: i64, answer: WatchResponse, times: &[u64]| {
            spoilt(start, vec![answer], |stream| {
                stream.to_the_end = true;
                stream.notes.times = seconds(times);
                stream.notes.calm = Some(Calm {
                    since: Duration::from_secs(10),
                    until: Duration::from_secs(20),
                    patience: Duration::from_secs(6),
                });
            })
        };
        assert_eq!(heard(0, response(0, 3), &[1, 15]), Ok(()));
        assert_eq!(
            heard(0, response(0, 3), &[1, 12]),
            Err("watch"),
            "then no more"
        );
        assert_eq!(heard(0, response(0, 3), &[1, 17]), Err("watch"), "late");
        assert_eq!(heard(0, response(0, 3), &[13, 19]), Ok(()), "created later");
        let of_all = response(NO_WATCH_ID, 3);
        assert_eq!(heard(0, of_all, &[1, 15]), Err("watch"), "on request");
    }
}
