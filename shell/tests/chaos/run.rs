//! One run: its members, its clients' history, and what is known of it so far.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use metastore_judges::Failure;
use metastore_judges::chronicle::Chronicle;
use metastore_judges::history::{Moment, Record};
use metastore_judges::watches::Stretch;
use tokio::time::Instant;

use super::members::Members;

/// What all that takes part in a run shares.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) members: Members,
    pub(crate) history: RefCell<Vec<Record>>,
    pub(crate) chronicle: RefCell<Chronicle>,
    pub(crate) stretches: RefCell<Vec<Stretch>>,
    /// The first broken promise that was seen while it ran.
    pub(crate) failure: RefCell<Option<Failure>>,
    /// Whether faults go on, and with them the clients' work.
    pub(crate) faulty: Cell<bool>,
    /// Whether nothing is written any more.
    pub(crate) at_rest: Cell<bool>,
    ordinal: Cell<u64>,
    begun: Instant,
}

impl Run {
    pub(crate) fn new(seed: u64, members: Members) -> Rc<Self> {
        Rc::new(Self {
            seed,
            members,
            history: RefCell::default(),
            chronicle: RefCell::default(),
            stretches: RefCell::default(),
            failure: RefCell::new(None),
            faulty: Cell::new(true),
            at_rest: Cell::new(false),
            ordinal: Cell::new(0),
            begun: Instant::now(),
        })
    }

    /// The next place in the order of all that is seen.
    pub(crate) fn moment(&self) -> Moment {
        let ordinal = self.ordinal.get() + 1;
        self.ordinal.set(ordinal);
        Moment {
            ordinal,
            time: self.time(),
        }
    }

    pub(crate) fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says what happens, with the time.
    pub(crate) fn say(&self, what: &str) {
        println!("{:9.3} {what}", self.time().as_secs_f64());
    }

    /// Keeps the first failure; the run ends soon after.
    pub(crate) fn fail(&self, failure: Failure) {
        self.say(&format!("FAILED {}: {}", failure.judge, failure.story));
        self.failure.borrow_mut().get_or_insert(failure);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }
}
