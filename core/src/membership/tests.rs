//! Which changes are allowed, case by case.

use super::*;

const RULES: Rules = Rules {
    learners_max: 1,
    strict: true,
};

/// A cluster in which everybody has started, is in touch, and holds a hundred entries.
struct Cluster {
    members: Vec<MemberInfo>,
    voting: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    matched: BTreeMap<u64, u64>,
    active: BTreeSet<u64>,
}

impl Cluster {
    fn of(voters: u64) -> Self {
        Self {
            members: (1..=voters).map(|id| member(id, false)).collect(),
            voting: (1..=voters).collect(),
            removed: BTreeSet::new(),
            matched: (1..=voters).map(|id| (id, 100)).collect(),
            active: (1..=voters).collect(),
        }
    }

    fn with_learner(mut self, id: u64, matched: u64) -> Self {
        self.members.push(member(id, true));
        self.matched.insert(id, matched);
        self
    }

    fn with_joining(mut self, id: u64) -> Self {
        self.members.push(member(id, false));
        self.matched.insert(id, 1);
        self.active.insert(id);
        self
    }

    fn unstarted(mut self, id: u64) -> Self {
        let members = self.members.iter_mut().filter(|member| member.id == id);
        members.for_each(|member| member.name.clear());
        self
    }

    fn out_of_touch(mut self, id: u64) -> Self {
        self.active.remove(&id);
        self
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            members: &self.members,
            voting: &self.voting,
            removed: &self.removed,
            matched: &self.matched,
            active: &self.active,
            leader: 1,
        }
    }

    fn check_with(&self, change: &MembershipChange, rules: Rules) -> Result<(), MembershipError> {
        check(change, &self.sight(), rules)
    }

    /// Whether a removal is allowed and goes ahead at once.
    fn removes_at_once(&self, id: u64) -> bool {
        let change = MembershipChange::Remove { id };
        assert_eq!(self.check(&change), Ok(()));
        !must_wait(&change, &self.sight())
    }

    fn check(&self, change: &MembershipChange) -> Result<(), MembershipError> {
        self.check_with(change, RULES)
    }
}

fn member(id: u64, is_learner: bool) -> MemberInfo {
    MemberInfo {
        id,
        name: format!("m{id}"),
        peer_urls: vec![url(id)],
        client_urls: Vec::new(),
        is_learner,
    }
}

fn url(id: u64) -> String {
    format!("http://host:{id}")
}

fn add(id: u64, learner: bool) -> MembershipChange {
    MembershipChange::Add {
        id,
        peer_urls: vec![url(id)],
        learner,
    }
}

const LOOSE: Rules = Rules {
    learners_max: 1,
    strict: false,
};

#[test]
fn ids_and_urls_are_unique_and_removed_ids_never_return() {
    let mut cluster = Cluster::of(3);
    assert_eq!(cluster.check(&add(4, false)), Ok(()));
    assert_eq!(
        cluster.check(&add(3, false)),
        Err(MembershipError::IdExists)
    );
    let mut taken = add(4, false);
    if let MembershipChange::Add { peer_urls, .. } = &mut taken {
        peer_urls.push(url(2));
    }
    assert_eq!(cluster.check(&taken), Err(MembershipError::UrlExists));
    cluster.removed.insert(4);
    for learner in [false, true] {
        let again = add(4, learner);
        assert_eq!(cluster.check(&again), Err(MembershipError::NotFound));
    }
}

#[test]
fn the_number_of_learners_is_limited() {
    let cluster = Cluster::of(3).with_learner(4, 0);
    assert_eq!(
        cluster.check(&add(5, true)),
        Err(MembershipError::TooManyLearners)
    );
    assert_eq!(cluster.check(&add(5, false)), Ok(()));
    let more = Rules {
        learners_max: 2,
        strict: true,
    };
    assert_eq!(cluster.check_with(&add(5, true), more), Ok(()));
}

#[test]
fn unknown_members_are_not_found() {
    let cluster = Cluster::of(3);
    let update = MembershipChange::Update {
        id: 9,
        peer_urls: vec![url(9)],
    };
    for change in [
        MembershipChange::Remove { id: 9 },
        MembershipChange::Promote { id: 9 },
        update,
    ] {
        assert_eq!(cluster.check(&change), Err(MembershipError::NotFound));
    }
}

#[test]
fn urls_may_be_updated_to_anything_nobody_else_has() {
    let cluster = Cluster::of(3).with_learner(4, 0);
    let update = |id, of| {
        let peer_urls = vec![url(of)];
        cluster.check(&MembershipChange::Update { id, peer_urls })
    };
    assert_eq!(update(2, 2), Ok(()));
    assert_eq!(update(4, 7), Ok(()));
    assert_eq!(update(2, 3), Err(MembershipError::UrlExists));
}

#[test]
fn only_a_learner_that_holds_nine_tenths_is_promoted() {
    let promote = MembershipChange::Promote { id: 4 };
    let at = |matched| {
        Cluster::of(3)
            .with_learner(4, matched)
            .check_with(&promote, LOOSE)
    };
    assert_eq!(at(90), Ok(()));
    assert_eq!(at(89), Err(MembershipError::NotInSync));
    assert_eq!(
        Cluster::of(4).check(&promote),
        Err(MembershipError::NotLearner)
    );
}

#[test]
fn a_change_that_leaves_too_few_started_voters_is_refused() {
    let refused = Err(MembershipError::NotEnoughStarted);
    let alone = Cluster::of(1);
    assert_eq!(alone.check(&add(2, false)), Ok(()));
    assert_eq!(alone.check(&MembershipChange::Remove { id: 1 }), refused);

    let two = Cluster::of(2).unstarted(2);
    assert_eq!(two.check(&add(3, false)), refused);
    assert_eq!(two.check(&add(3, true)), Ok(()));
    assert_eq!(two.check(&MembershipChange::Remove { id: 1 }), refused);
    assert_eq!(two.check(&MembershipChange::Remove { id: 2 }), Ok(()));
    assert_eq!(two.check_with(&add(3, false), LOOSE), Ok(()));

    let many = Cluster::of(4)
        .unstarted(2)
        .unstarted(3)
        .with_learner(5, 100);
    assert_eq!(many.check(&MembershipChange::Promote { id: 5 }), Ok(()));
    let more = many.unstarted(4);
    assert_eq!(more.check(&MembershipChange::Promote { id: 5 }), refused);
}

#[test]
fn a_change_that_could_cost_the_quorum_is_refused_while_voters_are_out_of_touch() {
    let refused = Err(MembershipError::Unhealthy);
    let three = Cluster::of(3).out_of_touch(3);
    assert_eq!(three.check(&add(4, false)), refused);
    assert_eq!(three.check(&add(4, true)), refused);
    assert_eq!(three.check(&MembershipChange::Remove { id: 3 }), Ok(()));
    assert_eq!(three.check(&MembershipChange::Remove { id: 2 }), refused);
    let five = Cluster::of(5).out_of_touch(3);
    assert_eq!(five.check(&add(6, false)), Ok(()));
    assert_eq!(five.check(&MembershipChange::Remove { id: 2 }), Ok(()));
}

#[test]
fn a_removal_waits_for_a_member_that_is_needed_and_does_not_vote_yet() {
    assert!(!Cluster::of(1).with_joining(2).removes_at_once(1));
    assert!(Cluster::of(1).with_joining(2).removes_at_once(2));
    assert!(Cluster::of(2).with_joining(3).removes_at_once(1));
    let three = || Cluster::of(3).with_joining(4);
    assert!(three().removes_at_once(1));
    assert!(three().out_of_touch(2).removes_at_once(2));
    assert!(!three().out_of_touch(2).removes_at_once(1));
    let two_joining = Cluster::of(2).with_joining(3).with_joining(4);
    assert!(!two_joining.out_of_touch(2).removes_at_once(1));
}
