//! Each thing that a client must not hear.

use std::time::Duration;

use super::*;
use crate::history::Moment;
use crate::memberships::Configuration;
use crate::memberships::tests::{agreed, configuration};

/// Shown at 10, 20, 30 and so on: a learner comes, votes, and another one goes.
fn memberships() -> Memberships {
    let steps = vec![
        configuration(0, &[&[1, 2]], &[1, 2]),
        configuration(5, &[&[1, 2]], &[1, 2, 3]),
        configuration(7, &[&[1, 2], &[1, 2, 3]], &[1, 2, 3]),
        configuration(8, &[&[1, 2, 3]], &[1, 2, 3]),
        configuration(12, &[&[1, 2, 3], &[1, 3]], &[1, 2, 3]),
        configuration(13, &[&[1, 3]], &[1, 3]),
    ];
    agreed(steps).expect("these steps are allowed")
}

fn record(op: Op, begun: u64, ended: u64, ending: Ending) -> Record {
    let moment = |ordinal| Moment {
        ordinal,
        time: Duration::ZERO,
    };
    Record {
        client: 1,
        op,
        begun: moment(begun),
        ended: Some((moment(ended), ending)),
    }
}

fn list_of(configuration: &Configuration) -> Vec<MemberInfo> {
    let info = |id: &u64| MemberInfo {
        id: *id,
        name: String::new(),
        peer_urls: vec![format!("http://m{id}")],
        client_urls: Vec::new(),
        is_learner: !configuration.is_voter(*id),
    };
    configuration.members.keys().map(info).collect()
}

fn changed(change: MembershipChange, begun: u64, ended: u64, place: usize) -> Record {
    let memberships = memberships();
    let then = memberships.agreed().nth(place).expect("there are so many");
    let list = list_of(&then.configuration);
    record(
        Op::Change(change),
        begun,
        ended,
        Ending::Changed(list.into()),
    )
}

fn add() -> MembershipChange {
    MembershipChange::Add {
        id: 3,
        peer_urls: vec!["http://m3".into()],
        learner: true,
    }
}

/// A history in which all that was done was asked for.
fn honest() -> Vec<Record> {
    vec![
        changed(add(), 15, 25, 1),
        record(
            Op::Change(MembershipChange::Promote { id: 3 }),
            26,
            36,
            Ending::Lost,
        ),
        changed(MembershipChange::Remove { id: 2 }, 45, 65, 5),
    ]
}

fn verdict(history: &[Record]) -> Result<(), &'static str> {
    judge(history, &memberships()).map_err(|failure| failure.judge)
}

#[test]
fn changes_that_were_asked_for_and_made_are_in_order() {
    assert_eq!(verdict(&honest()), Ok(()));
}

#[test]
fn a_change_that_is_acknowledged_early_or_twice_or_never_made_is_seen() {
    let mut early = honest();
    early[2] = changed(MembershipChange::Remove { id: 2 }, 45, 55, 4);
    assert_eq!(verdict(&early), Err("changes"));
    let mut twice = honest();
    twice.push(changed(MembershipChange::Remove { id: 2 }, 46, 66, 5));
    assert_eq!(verdict(&twice), Err("changes"));
    let mut never = honest();
    never.push(changed(MembershipChange::Remove { id: 1 }, 67, 68, 5));
    assert_eq!(verdict(&never), Err("changes"));
}

#[test]
fn a_change_that_nobody_asked_for_or_that_was_refused_is_seen() {
    assert_eq!(verdict(&honest()[..2]), Err("changes"));
    let mut refused = honest();
    let not_in_sync = Refusal::Membership(MembershipError::NotInSync);
    if let Some((_, ending)) = &mut refused[1].ended {
        *ending = Ending::Refused(not_in_sync);
    }
    assert_eq!(verdict(&refused), Err("changes"));
}

#[test]
fn a_refusal_without_a_reason_is_seen() {
    let refusal = |change, error| {
        let ending = Ending::Refused(Refusal::Membership(error));
        let mut history = honest();
        history.push(record(Op::Change(change), 50, 55, ending));
        verdict(&history)
    };
    let remove = |id| MembershipChange::Remove { id };
    assert_eq!(refusal(remove(9), MembershipError::NotFound), Ok(()));
    assert_eq!(
        refusal(remove(1), MembershipError::NotFound),
        Err("changes")
    );
    assert_eq!(refusal(add(), MembershipError::IdExists), Ok(()));
    assert_eq!(refusal(add(), MembershipError::NotFound), Err("changes"));
    assert_eq!(
        refusal(remove(1), MembershipError::NotInSync),
        Err("changes")
    );
}

#[test]
fn a_refusal_by_who_lags_or_is_out_of_touch_needs_members_that_it_can_mean() {
    let refusal = |change, error| {
        let ending = Ending::Refused(Refusal::Membership(error));
        let mut history = honest();
        history.push(record(Op::Change(change), 50, 55, ending));
        verdict(&history)
    };
    use MembershipError::{NotEnoughStarted, NotInSync, Unhealthy};
    let promote = |id| MembershipChange::Promote { id };
    let remove = |id| MembershipChange::Remove { id };
    for error in [NotInSync, NotEnoughStarted] {
        assert_eq!(refusal(promote(3), error), Ok(()));
        assert_eq!(refusal(promote(1), error), Err("changes"), "it votes");
    }
    let voter = MembershipChange::Add {
        id: 4,
        peer_urls: vec!["http://m4".into()],
        learner: false,
    };
    for error in [NotEnoughStarted, Unhealthy] {
        assert_eq!(refusal(voter.clone(), error), Ok(()));
        assert_eq!(refusal(remove(1), error), Ok(()));
        assert_eq!(refusal(remove(9), error), Err("changes"), "nobody");
    }
    assert_eq!(refusal(add(), Unhealthy), Ok(()));
    assert_eq!(refusal(add(), NotEnoughStarted), Err("changes"));
    let alone = agreed(vec![configuration(0, &[&[1]], &[1])]);
    let alone = alone.expect("a cluster of one");
    let refused = Ending::Refused(Refusal::Membership(Unhealthy));
    let judged = judge(&[record(Op::Change(voter), 50, 55, refused)], &alone);
    let judged = judged.map_err(|failure| failure.judge);
    assert_eq!(judged, Err("changes"), "one alone may always grow");
}

#[test]
fn a_list_from_before_it_was_asked_for_is_seen() {
    let memberships = memberships();
    let list = |place: usize, serializable| {
        let then = memberships.agreed().nth(place).expect("there are so many");
        let ending = Ending::Listed(list_of(&then.configuration).into());
        let mut history = honest();
        history.push(record(Op::List { serializable }, 65, 70, ending));
        verdict(&history)
    };
    assert_eq!(list(5, false), Ok(()));
    assert_eq!(list(3, false), Err("changes"));
    assert_eq!(list(3, true), Ok(()));
}
