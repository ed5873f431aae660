//! What clients heard of the membership: every acknowledged change was made exactly once before it was acknowledged, a
//! refused one never and for a reason, nothing else was changed, and a list is no older than what was agreed before.

use std::collections::BTreeSet;

use metastore_core::membership::{MembershipChange, MembershipError};
use metastore_core::output::{MemberInfo, Refusal};

use crate::Failure;
use crate::history::{Ending, Record};
use crate::memberships::{Act, Agreed, Memberships};
use crate::model::Op;

/// Judges all changes and lists.
///
/// # Errors
/// When a promise is broken.
pub fn judge(history: &[Record], memberships: &Memberships) -> Result<(), Failure> {
    let mut made = BTreeSet::new();
    let mut unknown = Vec::new();
    for record in history {
        let ended = record.ended.as_ref();
        match (&record.op, ended.map(|(_, ending)| ending)) {
            (Op::List { serializable }, Some(Ending::Listed(list))) => {
                let floor = if *serializable {
                    None
                } else {
                    known_before(memberships, record)
                };
                listed(memberships, record, list, floor)?;
            }
            (Op::Change(change), Some(Ending::Changed(list))) => {
                let index = acknowledged(memberships, record, change)?;
                listed(memberships, record, list, Some(index))?;
                if !made.insert(index) {
                    return Err(wrong(record, "another one was acknowledged for it, too"));
                }
            }
            (Op::Change(change), Some(Ending::Refused(Refusal::Membership(error)))) => {
                refused(memberships, record, change, *error)?;
            }
            (Op::Change(change), ending) if !ending.is_some_and(Ending::surely_nothing) => {
                unknown.push((record, change));
            }
            _ => {}
        }
    }
    for agreed in memberships.agreed() {
        let index = agreed.configuration.index;
        if agreed.act == Act::ByItself || made.contains(&index) {
            continue;
        }
        let asked = unknown.iter().position(|(record, change)| {
            record.begun.ordinal < agreed.shown && matches(change, &agreed.act)
        });
        let Some(place) = asked else {
            let story = format!("nobody asked for {:?} (once more)", agreed.act);
            return Err(Failure::new("changes", story));
        };
        unknown.swap_remove(place);
    }
    Ok(())
}

/// The step that an acknowledged change is.
fn acknowledged(
    memberships: &Memberships,
    record: &Record,
    change: &MembershipChange,
) -> Result<u64, Failure> {
    let mut within = memberships
        .agreed()
        .filter(|agreed| agreed.shown > record.begun.ordinal && agreed.shown <= end_of(record));
    match within.find(|agreed| matches(change, &agreed.act)) {
        Some(agreed) => Ok(agreed.configuration.index),
        None => Err(wrong(record, "it was not in force then")),
    }
}

/// Whether this is what was asked for.
fn matches(change: &MembershipChange, act: &Act) -> bool {
    match (change, act) {
        (
            MembershipChange::Add {
                id,
                peer_urls,
                learner,
            },
            Act::Added { id: added, peer },
        ) => (id, peer_urls, *learner) == (added, &peer.urls, !peer.joins),
        (MembershipChange::Remove { id }, Act::Removed { id: removed }) => id == removed,
        (MembershipChange::Update { id, peer_urls }, Act::Updated { id: updated, urls }) => {
            (id, peer_urls) == (updated, urls)
        }
        (MembershipChange::Promote { id }, Act::Promoted { id: promoted }) => id == promoted,
        _ => false,
    }
}

/// The entry of the newest membership that was in force before this was asked for.
fn known_before(memberships: &Memberships, record: &Record) -> Option<u64> {
    let before = |agreed: &&Agreed| agreed.shown < record.begun.ordinal;
    let newest = memberships.agreed().take_while(before).last();
    Some(newest.map_or(0, |agreed| agreed.configuration.index))
}

/// A list is one of those that were agreed on until it came, and none from before an entry, where one is given.
fn listed(
    memberships: &Memberships,
    record: &Record,
    list: &[MemberInfo],
    floor: Option<u64>,
) -> Result<(), Failure> {
    // What a cluster begins with needs no agreement.
    let known =
        |agreed: &&Agreed| agreed.shown <= end_of(record) || agreed.configuration.index == 0;
    let mut fits = memberships.agreed().take_while(known).filter(|agreed| {
        agreed.configuration.index >= floor.unwrap_or(0) && agreed.configuration.is_listed_as(list)
    });
    // Whoever has heard nothing yet knows of nobody.
    if fits.next().is_some() || floor.is_none() && list.is_empty() {
        return Ok(());
    }
    let why = format!("no membership from entry {floor:?} on that was in force says {list:?}");
    Err(wrong(record, &why))
}

/// A refusal has a reason in a membership that was agreed on before it came. Whether it was the newest one is not said:
/// a leader that is cut off refuses by what it knows.
fn refused(
    memberships: &Memberships,
    record: &Record,
    change: &MembershipChange,
    error: MembershipError,
) -> Result<(), Failure> {
    let mut known = memberships
        .agreed()
        .take_while(|agreed| agreed.shown <= end_of(record));
    let is_member = |agreed: &Agreed, id: u64| agreed.configuration.members.contains_key(&id);
    let left = |agreed: &Agreed, id: u64| agreed.act == Act::Removed { id };
    let taken = |agreed: &Agreed, id: u64, urls: &[String]| {
        let mut others = agreed
            .configuration
            .members
            .iter()
            .filter(|(other, _)| **other != id);
        others.any(|(_, peer)| urls.iter().any(|url| peer.urls.contains(url)))
    };
    // Who comes in to vote does so from the beginning, by what the list says.
    let votes = |agreed: &Agreed, id: u64| {
        let of = &agreed.configuration;
        let peer = of.members.get(&id);
        peer.is_some_and(|peer| peer.joins || of.is_voter(id))
    };
    let voters = |agreed: &Agreed| {
        let ids = agreed.configuration.members.keys();
        ids.filter(|id| votes(agreed, **id)).count()
    };
    use MembershipChange::{Add, Promote, Remove, Update};
    let explained = match (error, change) {
        (MembershipError::IdExists, Add { id, .. }) => known.any(|it| is_member(it, *id)),
        (MembershipError::UrlExists, Add { id, peer_urls, .. } | Update { id, peer_urls }) => {
            known.any(|it| taken(it, *id, peer_urls))
        }
        (MembershipError::NotFound, Add { id, .. }) => known.any(|it| left(it, *id)),
        (MembershipError::NotFound, Remove { id } | Update { id, .. } | Promote { id }) => {
            known.any(|it| !is_member(it, *id))
        }
        (MembershipError::NotLearner, Promote { id }) => known.any(|it| votes(it, *id)),
        (MembershipError::TooManyLearners, Add { learner: true, .. }) => {
            known.any(|it| it.configuration.members.keys().any(|id| !votes(it, *id)))
        }
        // Whether members lag, were never started or are out of touch is believed; whether that matters is not.
        (MembershipError::NotInSync | MembershipError::NotEnoughStarted, Promote { id }) => {
            known.any(|it| is_member(it, *id) && !votes(it, *id))
        }
        (MembershipError::NotEnoughStarted, Add { learner: true, .. }) => false,
        (MembershipError::NotEnoughStarted | MembershipError::Unhealthy, Add { .. }) => {
            known.any(|it| voters(it) > 1)
        }
        (MembershipError::NotEnoughStarted | MembershipError::Unhealthy, Remove { id }) => {
            known.any(|it| votes(it, *id))
        }
        _ => false,
    };
    match explained {
        true => Ok(()),
        false => Err(wrong(record, "no membership explains the refusal")),
    }
}

fn end_of(record: &Record) -> u64 {
    record
        .ended
        .as_ref()
        .map_or(u64::MAX, |(ended, _)| ended.ordinal)
}

fn wrong(record: &Record, why: &str) -> Failure {
    Failure::new("changes", format!("{record}\n  {why}"))
}

#[cfg(test)]
mod tests;
