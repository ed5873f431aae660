//! What the clients know of the lives of a lease: an id may be granted again when its lease has ended.
//!
//! A grant and the end of a lease name revisions, so which came first is known where both were answered or shown. A grant
//! without an answer may have been made at any time after it was asked for, or never.

use std::collections::BTreeMap;
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseError;
use metastore_core::output::{Outcome, Refusal};

use super::{LeaseEnd, granted_seconds, lease_ended_by, surely};
use crate::chronicle::Chronicle;
use crate::history::{Ending, Moment, Record};
use crate::model::Op;

/// One life of a lease, which begins with a grant that was made or may have been.
pub(super) struct Life<'a> {
    /// The grant.
    pub(super) asked: &'a Record,
    /// The newest revision when it was made; none if nobody knows whether it was.
    pub(super) granted_at: Option<i64>,
    /// For how long, in seconds.
    pub(super) ttl_seconds: i64,
    /// When its holder heard of its life, and until when it then surely lives.
    promises: Vec<(Moment, Duration)>,
}

/// What says that a lease is gone.
enum Gone {
    /// An answer: it was at some time between the question and this.
    Told { asked: Moment, heard: Moment },
    /// A revision that took its keys away, and when that was first seen.
    Shown { revision: i64, at: Duration },
}

/// All that is known of one id.
#[derive(Default)]
pub(super) struct Story<'a> {
    /// In the order in which they were asked for.
    pub(super) lives: Vec<Life<'a>>,
    /// The revocations that happened or may have.
    revocations: Vec<Revocation<'a>>,
    gone: Vec<Gone>,
}

struct Revocation<'a> {
    record: &'a Record,
    /// The revision that its answer names.
    revision: Option<i64>,
    /// Whether that is its own, which took the keys away.
    took_keys: bool,
}

impl Life<'_> {
    /// Until when it must live at least, by all that anybody heard.
    pub(super) fn alive_until(&self) -> Duration {
        let promised = self.promises.iter().map(|(_, until)| *until);
        promised.max().unwrap_or_default()
    }

    /// As [`Life::alive_until`], by what was heard before a moment.
    pub(super) fn alive_until_by(&self, moment: Moment) -> Duration {
        let heard = self.promises.iter().filter(|(heard, _)| *heard < moment);
        heard.map(|(_, until)| *until).max().unwrap_or_default()
    }

    /// Whether its grant was answered before a moment.
    pub(super) fn granted_before(&self, moment: Moment) -> bool {
        let ended = self.asked.ended.as_ref();
        self.granted_at.is_some() && ended.is_some_and(|(ended, _)| *ended < moment)
    }

    /// Whether a revision that ends the lease came after the grant, as far as that is known.
    pub(super) fn began_before(&self, revision: i64) -> bool {
        self.granted_at.is_some_and(|granted| granted < revision)
    }

    /// Whether a revocation may have ended this life, rather than one before it. `ran_out` says whether that may have been
    /// over by itself: then its end may have the revision that the revocation of a life without keys names, too.
    fn may_be_ended_by(&self, revocation: &Revocation<'_>, ran_out: bool) -> bool {
        let Some(revision) = revocation.revision else {
            return true;
        };
        if self.granted_before(revocation.record.begun) {
            return true;
        }
        let over = revocation.record.ended.as_ref();
        let was_over = over.is_some_and(|(over, _)| *over < self.asked.begun);
        let before = self.granted_at.is_some_and(|granted| {
            revision < granted || revision == granted && revocation.took_keys && !ran_out
        });
        !was_over && !before
    }
}

impl<'a> Story<'a> {
    /// Whether somebody may have asked for the end of a life by a time.
    pub(super) fn end_asked_for(&self, life: &Life<'_>, by: Duration) -> bool {
        let mut revocations = self.revocations.iter();
        revocations.any(|it| {
            let ran_out = self.may_have_run_out_before(life, it.record);
            it.record.begun.time <= by && life.may_be_ended_by(it, ran_out)
        })
    }

    /// Whether every life before this one may have been over by itself at the end of an operation.
    fn may_have_run_out_before(&self, life: &Life<'_>, record: &Record) -> bool {
        let over = record.ended.as_ref().map(|(ended, _)| ended.time);
        let mut earlier = self.lives.iter();
        earlier.all(|it| {
            it.asked.begun >= life.asked.begun || over.is_none_or(|over| it.alive_until() <= over)
        })
    }

    /// The lives that a lease may have had at some time of this operation.
    pub(super) fn lives_during(&self, record: &Record) -> impl Iterator<Item = &Life<'a>> {
        let places = self.places_during(record);
        places.map(|place| &self.lives[place])
    }

    fn places_during(&self, record: &Record) -> impl Iterator<Item = usize> {
        let (begun, ended) = (record.begun, record.ended.as_ref().map(|(ended, _)| *ended));
        let lives = self.lives.iter().enumerate();
        let possible = lives.filter(move |(_, life)| {
            let asked = life.asked.begun;
            let later = ended.is_some_and(|ended| ended < asked);
            asked != begun && !later && !self.surely_over(life, begun)
        });
        possible.map(|(place, _)| place)
    }

    /// Whether the end of this life had been seen or told before a moment, or another was granted after it.
    fn surely_over(&self, life: &Life<'_>, moment: Moment) -> bool {
        let seen = self.gone.iter().any(|gone| match gone {
            Gone::Told { asked, heard } => *heard < moment && life.granted_before(*asked),
            Gone::Shown { revision, at } => *at < moment.time && life.began_before(*revision),
        });
        let mut lives = self.lives.iter();
        seen || life.granted_at.is_some()
            && lives.any(|it| it.asked.begun > life.asked.begun && it.granted_before(moment))
    }

    /// Whether a state with this revision may have the lease.
    pub(super) fn may_live_at(&self, revision: i64) -> bool {
        let over = |life: &Life<'_>| {
            self.gone.iter().any(|gone| match gone {
                Gone::Shown { revision: end, .. } => *end <= revision && life.began_before(*end),
                Gone::Told { .. } => false,
            })
        };
        self.lives.iter().any(|life| !over(life))
    }
}

/// What is known of every id.
pub(super) fn stories<'a>(
    history: &'a [Record],
    chronicle: &Chronicle,
    ends: &[LeaseEnd],
    rate_ppm: u64,
) -> BTreeMap<i64, Story<'a>> {
    let mut stories: BTreeMap<i64, Story<'_>> = BTreeMap::new();
    for record in history {
        take_part(&mut stories, record, chronicle, rate_ppm);
    }
    for end in ends {
        if let Some(story) = stories.get_mut(&end.id) {
            story.gone.push(Gone::Shown {
                revision: end.revision,
                at: end.shown_at,
            });
        }
    }
    for record in history {
        take_promise(&mut stories, record, rate_ppm);
    }
    stories
}

/// Takes in what a record says of grants and ends.
fn take_part<'a>(
    stories: &mut BTreeMap<i64, Story<'a>>,
    record: &'a Record,
    chronicle: &Chronicle,
    rate_ppm: u64,
) {
    let ended = record.ended.as_ref();
    let happened = !ended.is_some_and(|(_, ending)| ending.surely_nothing());
    match &record.op {
        Op::Grant { id, ttl_seconds } if happened => {
            let life = granted(record, *ttl_seconds, ended, rate_ppm);
            stories.entry(*id).or_default().lives.push(life);
        }
        Op::Revoke { id } if happened => {
            let revision = ended.and_then(|(_, ending)| ending.revision());
            let took_keys = revision.is_some_and(|at| took_keys(chronicle, *id, at));
            let story = stories.entry(*id).or_default();
            if let (Some(revision), Some((heard, _)), true) = (revision, ended, took_keys) {
                let at = heard.time;
                story.gone.push(Gone::Shown { revision, at });
            }
            story.revocations.push(Revocation {
                record,
                revision,
                took_keys,
            });
        }
        _ => {}
    }
    if let Some((id, gone)) = told_gone(record) {
        stories.entry(id).or_default().gone.push(gone);
    }
}

/// Takes in until when a lease lives by what a record says, if it can be but one life's.
fn take_promise(stories: &mut BTreeMap<i64, Story<'_>>, record: &Record, rate_ppm: u64) {
    let (Op::Renew { id } | Op::TimeToLive { id, .. }, Some((heard, ending))) =
        (&record.op, &record.ended)
    else {
        return;
    };
    let seconds = match ending {
        Ending::Renewed { ttl_seconds } => *ttl_seconds,
        Ending::Stands(Some(status)) => status.remaining_seconds,
        _ => return,
    };
    let Some(story) = stories.get_mut(id).filter(|_| seconds > 0) else {
        return;
    };
    let places: Vec<usize> = story.places_during(record).collect();
    if let [place] = places[..] {
        let life = &mut story.lives[place];
        // What is said of a time that was not granted is for another judgement.
        let seconds = seconds.min(life.ttl_seconds);
        let until = record.begun.time + surely(seconds, rate_ppm);
        life.promises.push((*heard, until));
    }
}

fn granted<'a>(
    record: &'a Record,
    asked_seconds: i64,
    ended: Option<&(Moment, Ending)>,
    rate_ppm: u64,
) -> Life<'a> {
    let ttl_seconds = granted_seconds(asked_seconds);
    let until = record.begun.time + surely(ttl_seconds, rate_ppm);
    let answer = match ended {
        Some((heard, ending @ Ending::Wrote(Outcome::LeaseGranted(_)))) => Some((*heard, ending)),
        _ => None,
    };
    Life {
        asked: record,
        granted_at: answer.map(|(_, ending)| ending.revision().unwrap_or(0)),
        ttl_seconds,
        promises: answer.iter().map(|(heard, _)| (*heard, until)).collect(),
    }
}

fn took_keys(chronicle: &Chronicle, id: i64, revision: i64) -> bool {
    let before = chronicle.keys(revision - 1).unwrap_or_default();
    let changes = chronicle.revision(revision).map(|it| &it.changes);
    changes.is_some_and(|changes| lease_ended_by(changes, &before) == Some(id))
}

/// The lease that is gone by what this record says.
fn told_gone(record: &Record) -> Option<(i64, Gone)> {
    let (heard, ending) = record.ended.as_ref()?;
    let id = match ending {
        Ending::Wrote(Outcome::LeaseRevoked(_)) => match record.op {
            Op::Revoke { id } => id,
            _ => return None,
        },
        _ => says_gone(&record.op, ending)?,
    };
    let gone = Gone::Told {
        asked: record.begun,
        heard: *heard,
    };
    Some((id, gone))
}

/// The lease that does not exist by what an answer says.
pub(super) fn says_gone(op: &Op, ending: &Ending) -> Option<i64> {
    match (op, ending) {
        (Op::Renew { id }, Ending::Renewed { ttl_seconds: 0 })
        | (Op::TimeToLive { id, .. }, Ending::Stands(None))
        | (Op::Revoke { id }, Ending::Refused(Refusal::Lease(LeaseError::NotFound))) => Some(*id),
        (
            Op::Put { lease, .. } | Op::Stake { lease, .. },
            Ending::Refused(Refusal::Kv(KvError::LeaseNotFound)),
        ) => Some(*lease),
        _ => None,
    }
}
