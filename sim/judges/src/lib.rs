//! The judges: each watches one promise, from outside.
//!
//! Some look at every view that a member shows, in the moment it does; the others read, at the end, what the clients
//! wrote down. Whether a cluster was simulated or real is nothing to them.

#![forbid(unsafe_code)]

use std::time::Duration;

use metastore_core::output::Published;

pub mod bounds;
pub mod changes;
pub mod chronicle;
pub mod claims;
pub mod deadlines;
pub mod fairness;
pub mod followers;
pub mod history;
pub mod leaders;
pub mod leases;
pub mod memberships;
pub mod model;
pub mod monotonic;
pub mod quorums;
pub mod registers;
pub mod room;
pub mod states;
pub mod sum;
pub mod sweep;
pub mod watches;

use chronicle::Chronicle;
use leaders::Leaders;
use memberships::Memberships;
use monotonic::Shown;
use quorums::Quorums;
use states::States;

/// A broken promise: which one, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of the promise.
    pub judge: &'static str,
    /// What was seen, in words; may have several lines.
    pub story: String,
}

impl Failure {
    /// A broken promise of this name.
    pub fn new(judge: &'static str, story: impl Into<String>) -> Self {
        Self {
            judge,
            story: story.into(),
        }
    }
}

/// The judges that look at every view.
#[derive(Default)]
pub struct Bench {
    /// The one history, as far as any view has shown it.
    pub chronicle: Chronicle,
    /// The one sequence of memberships, as far as any member has applied it.
    pub memberships: Memberships,
    /// How far the entries are that any member has shown as applied.
    pub quorums: Quorums,
    /// The states, by entry.
    pub states: States,
    leaders: Leaders,
}

impl Bench {
    /// Forgets what is settled: everybody agrees with the newest state, and nobody has anything under way.
    pub fn forget(&mut self) {
        self.chronicle.forget();
        self.memberships.forget();
        self.states.forget();
        self.leaders.forget();
    }

    /// Holds what member `id` shows at a time against what it and the others showed before. `acknowledged` is the
    /// newest revision that any client was told of.
    pub fn observe(
        &mut self,
        id: u64,
        shown: &mut Shown,
        published: &Published,
        acknowledged: i64,
        now: Duration,
    ) -> Result<(), Failure> {
        let before = *shown;
        shown.move_on(published)?;
        self.leaders.hear(id, published)?;
        let revision = published.view.revision();
        if published.reads_need_no_quorum && revision < acknowledged {
            let story = format!(
                "the only voter leads at revision {revision}, but {acknowledged} was acknowledged"
            );
            return Err(Failure::new("durable", story));
        }
        self.chronicle.learn(before.revision + 1, published, now)?;
        self.states.compare(&before, published)
    }
}
