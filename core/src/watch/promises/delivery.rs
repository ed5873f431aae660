//! The events a watcher received, each at its place in the history.

use std::collections::BTreeMap;

use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use metastore_proto::mvccpb::Event;

use super::history::is_delete;
use super::opening::key_of;
use super::{Broken, History, Promise, Watched, header_revision};
use crate::key::KeyRange;

/// A revision, and the place of an event within it.
pub(super) type Place = (i64, usize);

/// What was to come and what came.
pub(super) struct Delivered<'a> {
    pub(super) history: &'a History,
    pub(super) watched: &'a Watched<'a>,
    /// The first revision of interest.
    pub(super) start: i64,
    /// Every event there is for this watcher, to the end of the history.
    pub(super) expected: Vec<Place>,
    /// The events received, per response.
    pub(super) received: Vec<Vec<Place>>,
}

impl<'a> Delivered<'a> {
    /// Finds each event's place. Fails for one that never happened, came too often, or is not for this watcher.
    pub(super) fn read(
        history: &'a History,
        watched: &'a Watched<'a>,
        start: i64,
    ) -> Result<Self, Broken> {
        let mut seen = BTreeMap::new();
        let mut received = Vec::new();
        for response in watched.responses {
            let places = response.events.iter().map(|event| {
                let place = place_of(history, event, &mut seen)?;
                if !matches(watched.create, event) {
                    let story = format!("{} was not asked for", told(event));
                    return Err(Broken::new(Promise::Reliable, story));
                }
                if place.0 < start {
                    let story = format!("{} lies before the start at {start}", told(event));
                    return Err(Broken::new(Promise::Reliable, story));
                }
                Ok(place)
            });
            received.push(places.collect::<Result<Vec<Place>, Broken>>()?);
        }
        let expected = (start.max(0)..=history.revision())
            .flat_map(|revision| history.events(revision).iter().enumerate())
            .filter(|(_, event)| matches(watched.create, event))
            .map(|(sub, event)| (revision_of(event), sub))
            .collect();
        Ok(Delivered {
            history,
            watched,
            start,
            expected,
            received,
        })
    }

    /// The places received, in the order they came.
    fn places(&self) -> impl Iterator<Item = Place> {
        self.received.iter().flatten().copied()
    }

    pub(super) fn check_order(&self) -> Result<(), Broken> {
        for (earlier, later) in self.places().zip(self.places().skip(1)) {
            if later <= earlier {
                let story = format!("{} came after {}", self.told(later), self.told(earlier));
                return Err(Broken::new(Promise::Ordered, story));
            }
        }
        Ok(())
    }

    /// In order, each once, all of them expected: then the first difference is an event left out.
    pub(super) fn check_gaps(&self) -> Result<(), Broken> {
        for (index, (came, due)) in self.places().zip(&self.expected).enumerate() {
            if came == *due {
                continue;
            }
            let story = format!("{} came, but not {}", self.told(came), self.told(*due));
            let resumes = index == 0 && self.watched.create.start_revision > 0;
            return Err(match resumes {
                true => Broken::new(
                    Promise::Resumable,
                    format!("from {} on, {story}", self.start),
                ),
                false => Broken::new(Promise::Reliable, story),
            });
        }
        Ok(())
    }

    pub(super) fn check_completeness(&self) -> Result<(), Broken> {
        let canceled = self.watched.responses.last();
        let compacted = canceled.is_some_and(|last| last.canceled && last.compact_revision != 0);
        let Some(complete_to) = self.watched.complete_to.filter(|_| !compacted) else {
            return Ok(());
        };
        match self.expected.get(self.places().count()) {
            Some(due) if due.0 <= complete_to => {
                let story = format!("{} never came", self.told(*due));
                Err(Broken::new(Promise::Reliable, story))
            }
            _ => Ok(()),
        }
    }

    /// Whoever was told nothing more had everything by then, unless it had been cancelled.
    pub(super) fn check_silences(&self) -> Result<(), Broken> {
        let mut counts = vec![0];
        for places in &self.received {
            counts.push(counts[counts.len() - 1] + places.len());
        }
        for silence in self.watched.silences {
            let before = self.watched.responses.get(..silence.after);
            let canceled = before.is_some_and(|it| it.last().is_some_and(|last| last.canceled));
            let Some(count) = counts.get(silence.after).filter(|_| !canceled) else {
                continue;
            };
            if let Some(due) = self.expected.get(*count)
                && due.0 <= silence.revision
            {
                let (due, after) = (self.told(*due), silence.after);
                let story = format!("{due} had not come after {after} responses");
                let story = format!("{story}, and nothing came at {}", silence.revision);
                return Err(Broken::new(Promise::Reliable, story));
            }
        }
        Ok(())
    }

    /// A response that is not followed by a further part ends at the end of a revision.
    pub(super) fn check_whole_revisions(&self) -> Result<(), Broken> {
        let mut count = 0;
        for (response, places) in self.watched.responses.iter().zip(&self.received) {
            count += places.len();
            let (Some(last), Some(due)) = (places.last(), self.expected.get(count)) else {
                continue;
            };
            if !response.fragment && due.0 == last.0 {
                let story = format!("a response ends at {}", self.told(*last));
                let story = format!("{story}, before {}", self.told(*due));
                return Err(Broken::new(Promise::Atomic, story));
            }
        }
        Ok(())
    }

    /// Parts of one response repeat its header and follow each other; all but the last are flagged.
    pub(super) fn check_fragments(&self) -> Result<(), Broken> {
        let broken = |story: String| Err(Broken::new(Promise::Atomic, story));
        let mut open: Option<&WatchResponse> = None;
        for response in self.watched.responses {
            if let Some(part) = open
                && (response.events.is_empty() || response.header != part.header)
            {
                let revision = header_revision(part);
                return broken(format!(
                    "a part of a response at {revision} was followed by {response:?}"
                ));
            }
            if response.fragment && !self.watched.create.fragment {
                return broken(format!("a part, though whole ones were due: {response:?}"));
            }
            if response.fragment && response.events.is_empty() {
                return broken(format!("a part without events: {response:?}"));
            }
            open = Some(response).filter(|response| response.fragment);
        }
        // A client hands out the parts only when it has the last: without it, none of their events has arrived.
        let first_part = self.watched.responses.iter().zip(&self.received).rev();
        let first_part = first_part
            .take_while(|(response, _)| response.fragment)
            .last();
        let held_back = first_part.and_then(|(_, places)| places.first());
        match (held_back, self.watched.complete_to) {
            (Some(place), Some(complete_to)) if place.0 <= complete_to => broken(format!(
                "the last part after {} is missing",
                self.told(*place)
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_contents(&self) -> Result<(), Broken> {
        let responses = self.watched.responses.iter().enumerate();
        let events = responses.flat_map(|(at, it)| it.events.iter().map(move |event| (at, event)));
        for ((at, event), place) in events.zip(self.places()) {
            let truth = self.event(place);
            if event.kv != truth.kv {
                let story = format!("{} came as {:?}", self.told(place), event.kv);
                return Err(Broken::new(
                    Promise::Content,
                    format!("{story}, committed was {:?}", truth.kv),
                ));
            }
            let due = truth
                .prev_kv
                .as_ref()
                .filter(|_| self.watched.create.prev_kv);
            // Readable was the revision before only until the boundary passed it.
            let compacted = place.0 <= self.boundary(at);
            if event.prev_kv.as_ref() != due && !(compacted && event.prev_kv.is_none()) {
                let story = format!("{} came after {:?}", self.told(place), event.prev_kv);
                return Err(Broken::new(
                    Promise::PrevKv,
                    format!("{story}, before was {due:?}"),
                ));
            }
        }
        Ok(())
    }

    /// What was compacted at most when this response was made.
    fn boundary(&self, response: usize) -> i64 {
        let heard = self.watched.boundaries.get(response);
        heard
            .copied()
            .unwrap_or_else(|| self.history.compact_revision())
    }

    fn event(&self, (revision, sub): Place) -> &Event {
        &self.history.events(revision)[sub]
    }

    pub(super) fn told(&self, place: Place) -> String {
        told(self.event(place))
    }
}

/// The place of an event among those committed.
///
/// One revision puts a key at most once, but may delete it before and after: such deletes are told apart by counting.
fn place_of<'a>(
    history: &History,
    event: &'a Event,
    seen: &mut BTreeMap<(i64, &'a [u8], i32), usize>,
) -> Result<Place, Broken> {
    let revision = revision_of(event);
    let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
    let same = |other: &Event| {
        let same_key = other.kv.as_ref().is_some_and(|kv| kv.key == key);
        same_key && other.r#type == event.r#type
    };
    let committed = history.events(revision).iter().enumerate();
    let subs: Vec<usize> = committed
        .filter(|(_, other)| same(other))
        .map(|(sub, _)| sub)
        .collect();
    let times = seen.entry((revision, key, event.r#type)).or_insert(0);
    *times += 1;
    match subs.get(*times - 1) {
        Some(sub) => Ok((revision, *sub)),
        None if subs.is_empty() => {
            let story = format!("{} never happened", told(event));
            Err(Broken::new(Promise::Reliable, story))
        }
        None => {
            let story = format!("{} came {times} times", told(event));
            Err(Broken::new(Promise::Unique, story))
        }
    }
}

/// Whether a watcher of this request hears of the event, its start aside.
fn matches(create: &WatchCreateRequest, event: &Event) -> bool {
    let unwanted = match is_delete(event) {
        true => FilterType::Nodelete,
        false => FilterType::Noput,
    };
    let range = KeyRange::new(key_of(create), &create.range_end);
    let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
    range.contains(key) && !create.filters.contains(&i32::from(unwanted))
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn told(event: &Event) -> String {
    let verb = if is_delete(event) { "delete" } else { "put" };
    let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
    format!("{verb} \"{}\"@{}", key.escape_ascii(), revision_of(event))
}
