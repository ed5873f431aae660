//! Where judges look at members and clients while a cluster runs.

use std::rc::Rc;
use std::time::Duration;

use metastore_core::member::Member;
use metastore_core::output::Published;

use crate::cluster::{Cluster, Life};
use crate::trace::now;
use metastore_judges::Failure;
use metastore_judges::deadlines::{self, Unanswered};
use metastore_judges::model::Op;

impl Cluster {
    /// Holds what a member shows against the history.
    pub(crate) fn observe(&self, life: &Life, published: &Published) {
        if published.term > self.newest_term_shown.get() {
            self.newest_term_shown.set(published.term);
            self.terms.borrow_mut().push(now());
        }
        let observed = self.judges.borrow_mut().observe(
            life.id,
            &mut life.shown.borrow_mut(),
            published,
            self.acknowledged.get(),
            now(),
        );
        self.fail_if(life, observed);
    }

    /// Holds the whole state of a member against that of the others.
    pub(crate) fn examine(&self, life: &Life, member: &Member) {
        let mut examined = life.examined.get();
        let applied = member.published().applied;
        let states = &mut self.judges.borrow_mut().states;
        let judged = states.examine(&mut examined, applied, || member.state_hash());
        life.examined.set(examined);
        self.fail_if(life, judged);
    }

    /// Keeps what the whole state of a member was when its life ended.
    pub(crate) fn examine_last(&self, life: &Life, member: &Member) {
        let (applied, hash) = (member.published().applied, member.state_hash());
        let judged = self.judges.borrow_mut().states.ended(applied, hash);
        self.fail_if(life, judged);
    }

    fn fail_if(&self, life: &Life, judged: Result<(), Failure>) {
        if let Err(mut failure) = judged {
            failure.story = format!("m{}: {}", life.id, failure.story);
            self.fail(failure);
        }
    }

    /// An operation was asked of a life and has no end, though it should have had one long ago.
    pub(crate) fn never_answered(&self, life: &Life, asked: Duration, op: &Op) {
        let request = Unanswered {
            stood_still: self.stood_still_since(life, asked),
            lives: life.alive.get(),
        };
        let what = format!("m{}: {op}", life.id);
        if let Err(failure) = deadlines::judge(request, &what, now() - asked) {
            self.fail(failure);
        }
    }

    /// What is applied anywhere is durable with a quorum of a membership that may be in force.
    pub(crate) fn hold_to_quorum(&self, applied: u64) {
        let judges = &mut *self.judges.borrow_mut();
        if !judges.quorums.is_new(applied) {
            return;
        }
        let serving = self.serving().into_iter();
        let lives: Vec<Rc<Life>> = serving.filter_map(|id| self.life(id)).collect();
        let newest: Vec<_> = lives.iter().map(|life| life.newest.borrow()).collect();
        let known = newest.iter().filter_map(|it| it.as_ref());
        let memberships = judges.memberships.newest().into_iter().chain(known);
        let quorums = &mut judges.quorums;
        if let Err(failure) = quorums.show(applied, memberships, |id| self.synced_to(id)) {
            self.fail(failure);
        }
    }

    /// Those that serve and belong to the newest membership: others may have left and not know it, and serve nobody.
    pub(crate) fn belonging(&self) -> Vec<u64> {
        let mut serving = self.serving();
        let judges = self.judges.borrow();
        let newest = judges.memberships.newest();
        serving.retain(|id| newest.is_some_and(|newest| newest.members.contains_key(id)));
        serving
    }

    /// The last entry that a member's disk surely holds, also if its machine is gone.
    pub(crate) fn synced_to(&self, id: u64) -> u64 {
        let disk = self.machines.borrow().disk(id);
        disk.map_or(0, |disk| disk.borrow().last_index())
    }
}
