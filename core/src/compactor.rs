//! The compactor: what a member compacts by itself while it leads, and when.
//!
//! It decides on a local clock and therefore proposes: only the log moves the boundary.

use std::collections::VecDeque;
use std::time::Duration;

/// What a member compacts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Nothing.
    #[default]
    Off,
    /// All that was overwritten longer ago than this; not zero.
    Periodic(Duration),
    /// All but this many revisions; not 0.
    Revisions(u64),
}

/// See the module. Followers note revisions too, so that a new leader knows the past; only leaders propose.
pub(crate) struct Compactor {
    policy: AutoCompaction,
    /// When to look next; none if there is nothing to do, ever.
    look_at: Option<Duration>,
    /// No compaction before here.
    not_before: Duration,
    /// The revision at each look within the retention, and the last one before it.
    samples: VecDeque<(Duration, i64)>,
    under_way: bool,
}

/// What the compactor sees when it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) leads: bool,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

/// Between two compactions by time, if the retention is longer.
const PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Looks in one period.
const LOOKS: u32 = 10;

/// Between two compactions by number.
const REVISIONS_PERIOD: Duration = Duration::from_secs(300);

impl Compactor {
    pub(crate) fn new(policy: AutoCompaction, now: Duration) -> Self {
        let (look_at, not_before) = match policy {
            AutoCompaction::Off => (None, now),
            AutoCompaction::Periodic(retention) => (Some(now), now.saturating_add(retention)),
            AutoCompaction::Revisions(_) => (Some(now + REVISIONS_PERIOD), now),
        };
        Self {
            policy,
            look_at,
            not_before,
            samples: VecDeque::new(),
            under_way: false,
        }
    }

    /// When to look next.
    pub(crate) fn next_alarm(&self) -> Option<Duration> {
        self.look_at
    }

    /// Looks, if it is time, and tells the revision to compact to, if one is due.
    pub(crate) fn look(&mut self, now: Duration, sight: impl FnOnce() -> Sight) -> Option<i64> {
        if self.look_at.is_none_or(|at| at > now) {
            return None;
        }
        let sight = sight();
        let boundary = match self.policy {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(retention) => {
                self.look_at = Some(now + period(retention) / LOOKS);
                self.sample(now, retention, sight.revision);
                let (at, revision) = *self.samples.front()?;
                (now.saturating_sub(at) >= retention).then_some(revision)
            }
            AutoCompaction::Revisions(kept) => {
                self.look_at = Some(now + REVISIONS_PERIOD);
                i64::try_from(kept)
                    .ok()
                    .map(|kept| sight.revision.saturating_sub(kept))
            }
        };
        let new = |revision: &i64| *revision > sight.compact_revision.max(0);
        let due = boundary.filter(new)?;
        if !sight.leads || self.under_way || now < self.not_before {
            return None;
        }
        self.under_way = true;
        Some(due)
    }

    /// What came of a proposal; one that did not succeed is tried again at the next look.
    pub(crate) fn ended(&mut self, success: bool, now: Duration) {
        self.under_way = false;
        if let (true, AutoCompaction::Periodic(retention)) = (success, self.policy) {
            // Looks are a tenth of a period apart and not exact: the one in a period's time must not miss it.
            self.not_before = now + period(retention) - period(retention) / LOOKS / 2;
        }
    }

    /// Notes the revision, and forgets all that is older than the newest one of the retention ago.
    fn sample(&mut self, now: Duration, retention: Duration, revision: i64) {
        self.samples.push_back((now, revision));
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= retention)
        {
            self.samples.pop_front();
        }
    }
}

fn period(retention: Duration) -> Duration {
    retention.min(PERIOD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// A store that gains one revision a second, and what was compacted when.
    struct Scene {
        compactor: Compactor,
        now: Duration,
        leads: bool,
        writes: bool,
        revision: i64,
        compact_revision: i64,
        compactions: Vec<(u64, i64)>,
    }

    impl Scene {
        fn new(policy: AutoCompaction) -> Self {
            Self {
                compactor: Compactor::new(policy, Duration::ZERO),
                now: Duration::ZERO,
                leads: true,
                writes: true,
                revision: 1,
                compact_revision: -1,
                compactions: Vec::new(),
            }
        }

        fn pass(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            loop {
                self.look();
                let Some(at) = self.compactor.next_alarm().filter(|at| *at <= end) else {
                    break;
                };
                self.go_to(at);
            }
            self.go_to(end);
        }

        fn go_to(&mut self, at: Duration) {
            let passed = i64::try_from((at - self.now).as_secs()).expect("a short time");
            self.revision += if self.writes { passed } else { 0 };
            self.now = at;
        }

        fn look(&mut self) {
            let sight = Sight {
                leads: self.leads,
                revision: self.revision,
                compact_revision: self.compact_revision,
            };
            if let Some(revision) = self.compactor.look(self.now, || sight) {
                self.compactions.push((self.now.as_secs(), revision));
                self.compact_revision = revision;
                self.compactor.ended(true, self.now);
            }
        }
    }

    #[test]
    fn a_long_retention_compacts_every_hour_to_what_was_its_length_ago() {
        let mut scene = Scene::new(AutoCompaction::Periodic(Duration::from_secs(3 * HOUR)));
        scene.pass(5 * HOUR);
        let hour = i64::try_from(HOUR).expect("small");
        assert_eq!(
            scene.compactions,
            [
                (3 * HOUR, 1),
                (4 * HOUR, 1 + hour),
                (5 * HOUR, 1 + 2 * hour)
            ]
        );
    }

    #[test]
    fn a_short_retention_compacts_once_in_its_length() {
        let mut scene = Scene::new(AutoCompaction::Periodic(Duration::from_secs(600)));
        scene.pass(1800);
        assert_eq!(scene.compactions, [(600, 1), (1200, 601), (1800, 1201)]);
    }

    #[test]
    fn by_number_all_but_the_newest_revisions_go_every_five_minutes() {
        let mut scene = Scene::new(AutoCompaction::Revisions(500));
        scene.pass(900);
        assert_eq!(scene.compactions, [(600, 101), (900, 401)]);
    }

    #[test]
    fn without_anything_new_nothing_is_compacted() {
        for policy in [
            AutoCompaction::Periodic(Duration::from_secs(600)),
            AutoCompaction::Revisions(10),
        ] {
            let mut scene = Scene::new(policy);
            scene.pass(1200);
            scene.writes = false;
            scene.pass(1200);
            let before = scene.compactions.len();
            scene.pass(HOUR);
            assert_eq!(scene.compactions.len(), before, "{policy:?}");
            scene.writes = true;
            scene.pass(1200);
            assert!(scene.compactions.len() > before, "{policy:?}");
        }
    }

    #[test]
    fn a_follower_proposes_nothing_and_knows_the_past_when_it_leads() {
        let mut scene = Scene::new(AutoCompaction::Periodic(Duration::from_secs(600)));
        scene.leads = false;
        scene.pass(1500);
        assert!(scene.compactions.is_empty());
        scene.leads = true;
        scene.pass(60);
        assert_eq!(scene.compactions, [(1560, 961)]);
    }

    #[test]
    fn a_failed_compaction_is_tried_at_the_next_look_and_not_before_it_ended() {
        let mut scene = Scene::new(AutoCompaction::Periodic(Duration::from_secs(600)));
        let sight = |revision| Sight {
            leads: true,
            revision,
            compact_revision: -1,
        };
        scene.pass(599);
        let look = |scene: &mut Scene, seconds| {
            let now = Duration::from_secs(seconds);
            scene.compactor.look(now, || sight(1000))
        };
        assert_eq!(look(&mut scene, 600), Some(1));
        assert_eq!(look(&mut scene, 660), None, "one is under way");
        scene.compactor.ended(false, Duration::from_secs(670));
        assert_eq!(look(&mut scene, 719), None);
        assert_eq!(look(&mut scene, 720), Some(121));
    }

    #[test]
    fn the_samples_are_bounded() {
        let mut scene = Scene::new(AutoCompaction::Periodic(Duration::from_secs(24 * HOUR)));
        scene.pass(100 * HOUR);
        assert!(scene.compactor.samples.len() <= 242);
    }

    #[test]
    fn off_is_off() {
        let scene = Scene::new(AutoCompaction::Off);
        assert_eq!(scene.compactor.next_alarm(), None);
    }
}
