//! Each promise about memberships, broken once.

use super::*;

/// A membership at an index of the same term, with uniform or joint voters; all others are learners.
pub(crate) fn configuration(index: u64, voters: &[&[u64]], members: &[u64]) -> Configuration {
    let peer = |id: &u64| Peer {
        urls: vec![format!("http://m{id}")],
        joins: false,
    };
    Configuration {
        term: 1,
        index,
        voters: voters
            .iter()
            .map(|set| set.iter().copied().collect())
            .collect(),
        members: members.iter().map(|id| (*id, peer(id))).collect(),
    }
}

fn look<'a>(id: u64, stored: &'a StoredMembership) -> Look<'a> {
    Look {
        id,
        term: 1,
        leads: false,
        applied_index: 1,
        applied: stored,
        newest: stored,
        ordinal: 1,
    }
}

/// Memberships that members agreed on, one after the other.
pub(crate) fn agreed(steps: Vec<Configuration>) -> Result<Memberships, Failure> {
    let nothing = StoredMembership::default();
    let mut memberships = Memberships::default();
    for (ordinal, configuration) in (10..).step_by(10).zip(steps) {
        let look = Look {
            ordinal,
            ..look(1, &nothing)
        };
        memberships.agree(configuration, &look)?;
    }
    Ok(memberships)
}

fn objects(steps: Vec<Configuration>) -> bool {
    agreed(steps).is_err_and(|failure| failure.judge == "membership")
}

#[test]
fn a_member_goes_and_another_comes_one_step_at_a_time() {
    let steps = vec![
        configuration(0, &[&[1, 2, 3]], &[1, 2, 3]),
        configuration(5, &[&[1, 2, 3], &[1, 2]], &[1, 2, 3]),
        configuration(6, &[&[1, 2]], &[1, 2]),
        configuration(9, &[&[1, 2]], &[1, 2, 4]),
        configuration(11, &[&[1, 2], &[1, 2, 4]], &[1, 2, 4]),
        configuration(12, &[&[1, 2, 4]], &[1, 2, 4]),
    ];
    let memberships = agreed(steps).expect("these are the steps that there are");
    let acts: Vec<&Act> = memberships.agreed().map(|agreed| &agreed.act).collect();
    assert_eq!(acts[2], &Act::Removed { id: 3 });
    assert!(matches!(acts[3], Act::Added { id: 4, .. }));
    assert_eq!(acts[4], &Act::Promoted { id: 4 });
    assert_eq!(acts[5], &Act::ByItself);
    assert!(memberships.told(3).is_ok() && memberships.told(2).is_err());
    // It left at 6, and whoever has not applied that may still vote for it.
    assert!(memberships.grants(1, 3, 5).is_ok() && memberships.grants(1, 3, 6).is_err());
}

#[test]
fn steps_that_lose_touch_or_bring_an_id_back_are_seen() {
    let first = || configuration(0, &[&[1, 2, 3]], &[1, 2, 3]);
    // Two members at once, and quorums that decide alone.
    assert!(objects(vec![
        first(),
        configuration(3, &[&[1, 2, 3]], &[1, 2, 3, 4, 5])
    ]));
    let alone = configuration(3, &[&[3]], &[1, 2, 3]);
    assert!(objects(vec![first(), alone]));
    // A voter that stays and votes no more, and one that was never a member.
    assert!(objects(vec![
        first(),
        configuration(3, &[&[1, 2]], &[1, 2, 3])
    ]));
    assert!(objects(vec![
        first(),
        configuration(3, &[&[1, 2, 3, 4]], &[1, 2, 3])
    ]));
    // An id that comes back.
    let back = vec![
        configuration(0, &[&[1]], &[1, 2]),
        configuration(3, &[&[1]], &[1]),
        configuration(4, &[&[1]], &[1, 2]),
    ];
    assert!(objects(back));
}

#[test]
fn two_sequences_are_seen() {
    let first = || configuration(0, &[&[1]], &[1]);
    let other = || configuration(4, &[&[1]], &[1, 3]);
    assert!(objects(vec![
        first(),
        configuration(4, &[&[1]], &[1, 2]),
        other()
    ]));
    assert!(objects(vec![
        first(),
        configuration(5, &[&[1]], &[1, 2]),
        other()
    ]));
}

#[test]
fn a_leader_without_a_quorum_of_its_membership_is_seen() {
    let voters = configuration(0, &[&[1, 2, 3]], &[1, 2, 3]);
    let nothing = StoredMembership::default();
    let mut memberships = agreed(vec![voters.clone()]).expect("the first one");
    let verdict = |memberships: &Memberships, id, newest| {
        let look = Look {
            term: 2,
            ..look(id, &nothing)
        };
        memberships.elected(&look, newest).map_err(|it| it.judge)
    };
    memberships.vote(1, 2, 1);
    // A vote of another term, one for another, and one of somebody who left.
    memberships.vote(2, 1, 1);
    memberships.vote(3, 2, 3);
    memberships.vote(9, 2, 1);
    assert_eq!(verdict(&memberships, 1, &voters), Err("membership"));
    memberships.vote(2, 2, 1);
    assert_eq!(verdict(&memberships, 1, &voters), Ok(()));
    let without = configuration(0, &[&[2, 3]], &[2, 3]);
    assert_eq!(verdict(&memberships, 1, &without), Err("membership"));
    // With all votes it may still be needed, unless it has applied that it left: all have applied the first entry here.
    memberships.vote(3, 2, 1);
    assert_eq!(verdict(&memberships, 1, &without), Err("membership"));
    let without = configuration(2, &[&[2, 3]], &[2, 3]);
    assert_eq!(verdict(&memberships, 1, &without), Ok(()));
    // One that does not know what was agreed on in an earlier term.
    let next = configuration(7, &[&[1, 2, 3]], &[1, 2, 3, 4]);
    memberships
        .agree(next.clone(), &look(2, &nothing))
        .expect("one more");
    assert_eq!(verdict(&memberships, 1, &voters), Err("membership"));
    assert_eq!(verdict(&memberships, 1, &next), Ok(()));
}

#[test]
fn a_voter_that_lags_is_seen() {
    let before = configuration(1, &[&[1]], &[1, 2]);
    let memberships = agreed(vec![before]).expect("the first one");
    let nothing = StoredMembership::default();
    let joint = configuration(50, &[&[1], &[1, 2]], &[1, 2]);
    let look = Look {
        applied_index: 100,
        ..look(1, &nothing)
    };
    let verdict = |has| {
        memberships
            .caught_up(&look, &joint, |_| has)
            .map_err(|it| it.judge)
    };
    assert_eq!(verdict(89), Err("membership"));
    assert_eq!(verdict(90), Ok(()));
}

#[test]
fn a_list_must_say_all_that_the_membership_says() {
    let joining = Peer {
        urls: vec!["http://m3".into()],
        joins: true,
    };
    let mut membership = configuration(1, &[&[1]], &[1, 2, 3]);
    membership.members.insert(3, joining);
    let info = |id: u64, is_learner| MemberInfo {
        id,
        name: String::new(),
        peer_urls: vec![format!("http://m{id}")],
        client_urls: Vec::new(),
        is_learner,
    };
    let list = [info(1, false), info(2, true), info(3, false)];
    assert!(membership.is_listed_as(&list));
    assert!(!membership.is_listed_as(&list[..2]));
    assert!(!membership.is_listed_as(&[info(1, false), info(2, false), info(3, false)]));
}
