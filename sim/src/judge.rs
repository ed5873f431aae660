//! The judges: each watches one promise, from outside.
//!
//! Some look at every view that a member shows, in the moment it does; the others read, at the end, what the clients
//! wrote down.

use std::time::Duration;

use metastore_core::output::Published;

pub(crate) mod bounds;
pub(crate) mod changes;
pub(crate) mod chronicle;
pub(crate) mod leaders;
pub(crate) mod leases;
pub(crate) mod memberships;
pub(crate) mod monotonic;
pub(crate) mod registers;
pub(crate) mod states;
pub(crate) mod sum;
pub(crate) mod sweep;
pub(crate) mod watches;

use chronicle::Chronicle;
use leaders::Leaders;
use memberships::Memberships;
use monotonic::Shown;
use states::States;

/// A broken promise: which one, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) judge: &'static str,
    pub(crate) story: String,
}

impl Failure {
    pub(crate) fn new(judge: &'static str, story: impl Into<String>) -> Self {
        Self {
            judge,
            story: story.into(),
        }
    }
}

/// The judges that look at every view.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) chronicle: Chronicle,
    pub(crate) memberships: Memberships,
    states: States,
    leaders: Leaders,
}

impl Bench {
    /// Holds what member `id` shows at a time against what it and the others showed before. `acknowledged` is the
    /// newest revision that any client was told of.
    pub(crate) fn observe(
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
