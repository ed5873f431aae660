//! The lessor against a table, with a log that the test commits when it likes.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(60);
const NONE: Option<&Refusal> = None;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A lessor, the table it watches, and its proposals that are not committed yet.
struct Scene {
    now: Duration,
    term: u64,
    index: u64,
    leases: Leases,
    lessor: Lessor,
    log: Vec<(Act, Request)>,
    ended: Vec<i64>,
    answers: BTreeMap<LeaseAsker, Result<LeaseAnswer, Refusal>>,
}

impl Scene {
    fn leading() -> Self {
        let mut scene = Self {
            now: secs(100),
            term: 0,
            index: 0,
            leases: Leases::default(),
            lessor: Lessor::new(GRACE, Some(INTERVAL), Sizes::default()),
            log: Vec::new(),
            ended: Vec::new(),
            answers: BTreeMap::new(),
        };
        scene.change_leader();
        scene
    }

    /// The next leader begins; what was not committed is lost.
    fn change_leader(&mut self) {
        self.term += 1;
        self.log.clear();
        self.lessor.lead(None, &self.leases, self.now);
        self.lessor.lead(Some(self.term), &self.leases, self.now);
        self.collect();
    }

    fn grant(&mut self, id: i64, ttl_seconds: i64) {
        self.index += 1;
        if self.leases.grant(self.index, id, ttl_seconds).is_ok() {
            self.lessor.touch(id, &self.leases, self.now);
        }
    }

    fn revoke(&mut self, id: i64) {
        if self.leases.remove(id).is_ok() {
            self.lessor.touch(id, &self.leases, self.now);
        }
        self.collect();
    }

    fn renew(&mut self, id: i64, token: u64) {
        let deadline = self.now + secs(7);
        let asker = LeaseAsker::Client(token);
        self.lessor.renew(id, Waiting { asker, deadline }, self.now);
        self.collect();
    }

    /// The quorum confirms that this lessor leads, and what waited for that is asked.
    fn ask_again(&mut self) {
        for (id, asked) in self.lessor.asked_again().collect::<Vec<_>>() {
            self.lessor.renew(id, asked, self.now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        self.log.extend(self.lessor.proposals(self.now));
        self.answers.extend(self.lessor.answers(self.now));
    }

    /// Applies the oldest proposal.
    fn commit(&mut self) -> bool {
        if self.log.is_empty() {
            return false;
        }
        let (act, request) = self.log.remove(0);
        match &request {
            Request::LeaseExpire(expiry) => {
                if self.leases.is_current(expiry) {
                    self.leases.remove(expiry.id).expect("it is current");
                    self.ended.push(expiry.id);
                }
                self.lessor.touch(expiry.id, &self.leases, self.now);
            }
            Request::LeaseRemaining(times) => self.leases.record_remaining(&times.leases),
            other => panic!("the lessor proposes nothing like {other:?}"),
        }
        self.lessor.ended(act, NONE, self.now);
        self.collect();
        true
    }

    fn commit_all(&mut self) {
        while self.commit() {
            self.ask_again();
        }
    }

    /// Lets time pass alarm by alarm, with a log that commits at once.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            self.commit_all();
            match self.lessor.next_alarm().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = end;
    }

    fn renewed(&self, token: u64) -> Option<i64> {
        match self.answers.get(&LeaseAsker::Client(token))? {
            Ok(LeaseAnswer::Renewed { ttl_seconds }) => Some(*ttl_seconds),
            other => panic!("a renewal answered {other:?}"),
        }
    }
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_a_renewal_restarts_the_countdown() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.pass(secs(9));
    assert_eq!(scene.lessor.remaining_seconds(1, scene.now), Some(1));
    scene.renew(1, 5);
    assert_eq!(scene.renewed(5), Some(10));
    scene.pass(Duration::from_millis(9_999));
    assert_eq!(scene.lessor.remaining_seconds(1, scene.now), Some(0));
    assert!(scene.ended.is_empty());
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.ended, [1]);
    assert_eq!(scene.lessor.remaining_seconds(1, scene.now), None);
}

#[test]
fn a_renewal_of_a_lease_that_is_over_waits_and_hears_of_its_end() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(10);
    scene.renew(1, 5);
    assert_eq!(scene.renewed(5), None, "nobody knows yet whether it ended");
    assert!(scene.commit());
    assert_eq!(scene.renewed(5), Some(0));
    scene.renew(1, 6);
    assert_eq!(scene.renewed(6), Some(0), "there is no such lease");
}

#[test]
fn a_renewal_that_waits_has_a_deadline() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(10);
    scene.renew(1, 5);
    scene.now += secs(7);
    scene.collect();
    assert_eq!(
        scene.answers.get(&LeaseAsker::Client(5)),
        Some(&Err(Refusal::TimedOut))
    );
}

#[test]
fn a_new_leader_gives_every_lease_its_time_and_a_grace() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(9);
    scene.change_leader();
    scene.pass(secs(10));
    assert!(scene.ended.is_empty());
    scene.pass(GRACE);
    assert_eq!(scene.ended, [1]);
}

#[test]
fn a_follower_ends_nothing() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(10);
    scene.renew(1, 5);
    scene.log.clear();
    scene.lessor.lead(None, &scene.leases, scene.now);
    scene.now += secs(100);
    scene.collect();
    assert!(scene.log.is_empty() && scene.lessor.next_alarm().is_none());
    assert_eq!(scene.answers.get(&LeaseAsker::Client(5)), None);
    let back: Vec<i64> = scene.lessor.given_back().map(|(id, _)| id).collect();
    assert_eq!(back, [1], "whoever leads next answers the renewal");
}

#[test]
fn a_renewal_whose_record_cannot_be_taken_back_is_given_back_where_others_are_to_lead() {
    let nobody = Refusal::NotLeader { leader: None };
    for (refusal, goes_back) in [
        (nobody, true),
        (Refusal::LeaderChanged, true),
        (Refusal::TimedOut, false),
    ] {
        let mut scene = Scene::leading();
        scene.grant(1, 200);
        scene.pass(secs(61));
        scene.renew(1, 5);
        let (act, _) = scene.log.pop().expect("its record is to be taken back");
        scene.lessor.ended(act, Some(&refusal), scene.now);
        scene.collect();
        let back: Vec<i64> = scene.lessor.given_back().map(|(id, _)| id).collect();
        assert_eq!(back.len(), usize::from(goes_back), "{refusal:?}");
        let answer = scene.answers.get(&LeaseAsker::Client(5));
        assert_eq!(answer.is_none(), goes_back, "{refusal:?}");
    }
}

#[test]
fn what_long_leases_have_left_is_recorded_and_a_new_leader_counts_on_from_there() {
    let mut scene = Scene::leading();
    scene.grant(1, 200);
    scene.grant(2, 50);
    scene.pass(secs(125));
    let left = |scene: &Scene, id| scene.leases.get(id).map(|l| l.remaining_seconds);
    assert_eq!(left(&scene, 1), Some(80), "at 60 s, and at 120 s");
    assert_eq!(scene.ended, [2]);
    scene.change_leader();
    scene.pass(secs(80));
    assert_eq!(scene.ended, [2]);
    scene.pass(GRACE);
    assert_eq!(scene.ended, [2, 1]);
}

#[test]
fn neighbours_are_recorded_together_and_rounded_up() {
    let mut scene = Scene::leading();
    scene.grant(1, 200);
    scene.now += Duration::from_millis(500);
    scene.grant(2, 200);
    scene.now += Duration::from_millis(59_500);
    scene.collect();
    assert_eq!(scene.log.len(), 1);
    assert!(scene.commit());
    let left = |id| scene.leases.get(id).map(|lease| lease.remaining_seconds);
    assert_eq!((left(1), left(2)), (Some(140), Some(141)));
}

#[test]
fn a_renewal_takes_the_record_back_before_it_is_answered() {
    let mut scene = Scene::leading();
    scene.grant(1, 200);
    scene.pass(secs(61));
    scene.renew(1, 5);
    scene.renew(1, 6);
    assert_eq!((scene.renewed(5), scene.renewed(6)), (None, None));
    assert_eq!(scene.log.len(), 1, "both renewals share one entry");
    assert!(scene.commit());
    assert_eq!((scene.renewed(5), scene.renewed(6)), (None, None));
    scene.ask_again();
    assert_eq!((scene.renewed(5), scene.renewed(6)), (Some(200), Some(200)));
    assert_eq!(scene.leases.get(1).map(|l| l.remaining_seconds), Some(0));
    scene.renew(1, 7);
    assert_eq!(scene.renewed(7), Some(200), "there is nothing to take back");
}

#[test]
fn a_failed_end_is_proposed_again_after_a_pause() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(10);
    scene.collect();
    let (act, _) = scene.log.pop().expect("its end is proposed");
    scene.lessor.ended(act, Some(&Refusal::TimedOut), scene.now);
    scene.collect();
    assert!(scene.log.is_empty());
    assert_eq!(scene.lessor.next_alarm(), Some(scene.now + FAILURE_PAUSE));
    scene.pass(FAILURE_PAUSE);
    assert_eq!(scene.ended, [1]);
}

#[test]
fn the_end_of_a_lease_never_meets_a_later_one_with_its_id() {
    let mut scene = Scene::leading();
    scene.grant(1, 10);
    scene.now += secs(10);
    scene.collect();
    scene.revoke(1);
    scene.grant(1, 10);
    assert!(scene.commit());
    assert!(scene.ended.is_empty());
    scene.pass(secs(10));
    assert_eq!(scene.ended, [1]);
}

#[test]
fn many_leases_that_end_together_are_ended_a_few_at_a_time() {
    let mut scene = Scene::leading();
    for id in 1..=1000 {
        scene.grant(id, 10);
    }
    scene.now += secs(10);
    scene.collect();
    let at_once = Sizes::default().lease_ends;
    assert_eq!(scene.log.len(), at_once);
    assert!(scene.commit());
    assert_eq!(scene.log.len(), at_once, "one is done, one follows");
    scene.pass(Duration::ZERO);
    assert_eq!(scene.ended.len(), 1000);
}

#[test]
fn the_list_begins_with_the_lease_that_ends_soonest() {
    let mut scene = Scene::leading();
    scene.grant(1, 30);
    scene.grant(2, 10);
    scene.grant(3, 20);
    scene.now += secs(5);
    scene.renew(2, 1);
    assert_eq!(scene.lessor.ids_by_deadline(), [2, 3, 1]);
    scene.now += secs(4);
    scene.renew(2, 2);
    assert_eq!(scene.lessor.ids_by_deadline(), [2, 3, 1]);
    scene.now += secs(3);
    scene.renew(2, 3);
    assert_eq!(scene.lessor.ids_by_deadline(), [3, 2, 1]);
}

#[derive(Debug, Clone)]
enum Step {
    Grant(i64, i64),
    Renew(i64),
    Revoke(i64),
    ChangeLeader,
    Pass(u64),
    /// Time passes, and the log stands still.
    Stall(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..6_i64;
    prop_oneof![
        3 => (id.clone(), prop_oneof![1..30_i64, 60..400_i64]).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        5 => id.clone().prop_map(Step::Renew),
        1 => id.prop_map(Step::Revoke),
        1 => Just(Step::ChangeLeader),
        8 => prop_oneof![0..2_000_u64, 0..90_000_u64].prop_map(Step::Pass),
        1 => (0..3_000_u64).prop_map(Step::Stall),
    ]
}

/// What a client knows of its lease: never to end before, and to end soon after the last.
#[derive(Clone, Copy)]
struct Promise {
    granted_index: u64,
    not_before: Duration,
    not_after: Duration,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No lease ends before the time that its holder was promised, and every lease ends soon after it: a leader
    /// change adds the grace, and what was not recorded of the time already spent.
    #[test]
    fn leases_end_never_early_and_soon(steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::leading();
        let mut promises: BTreeMap<i64, Promise> = BTreeMap::new();
        let mut token = 0;
        for step in steps {
            let mut asked = None;
            match step {
                Step::Grant(id, ttl) => scene.grant(id, ttl),
                Step::Renew(id) => {
                    token += 1;
                    asked = Some((id, token));
                    scene.renew(id, token);
                    scene.commit_all();
                }
                Step::Revoke(id) => {
                    scene.revoke(id);
                    promises.remove(&id);
                }
                Step::ChangeLeader => {
                    scene.change_leader();
                    for promise in promises.values_mut() {
                        // What was spent since the last record, and its rounding.
                        promise.not_after += GRACE + INTERVAL + secs(1);
                    }
                }
                Step::Pass(ms) => {
                    let end = scene.now + Duration::from_millis(ms);
                    while scene.now < end {
                        let step = Duration::from_millis(100).min(end - scene.now);
                        scene.pass(step);
                        check_ended(&mut scene, &mut promises)?;
                        for (id, promise) in &promises {
                            prop_assert!(scene.now <= promise.not_after, "lease {id} is overdue");
                        }
                    }
                }
                Step::Stall(ms) => {
                    scene.now += Duration::from_millis(ms);
                    for promise in promises.values_mut() {
                        promise.not_after += Duration::from_millis(ms);
                    }
                }
            }
            check_ended(&mut scene, &mut promises)?;
            for (id, lease) in scene.leases.iter() {
                let ttl = seconds_of(lease.ttl_seconds);
                let renewed = asked.is_some_and(|(asked, token)| {
                    asked == id && scene.renewed(token).is_some_and(|ttl| ttl > 0)
                });
                let known = promises.get(&id).filter(|p| p.granted_index == lease.granted_index);
                if renewed || known.is_none() {
                    let soon = scene.now + ttl + Duration::from_millis(200);
                    promises.insert(id, Promise {
                        granted_index: lease.granted_index,
                        not_before: scene.now + ttl,
                        not_after: known.map_or(soon, |known| known.not_after.max(soon)),
                    });
                }
            }
        }
    }
}

fn check_ended(
    scene: &mut Scene,
    promises: &mut BTreeMap<i64, Promise>,
) -> Result<(), TestCaseError> {
    for id in scene.ended.drain(..) {
        let promise = promises.remove(&id);
        let early = promise.is_some_and(|promise| scene.now < promise.not_before);
        prop_assert!(!early, "lease {id} ended early");
    }
    Ok(())
}
