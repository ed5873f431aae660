//! What of the log in memory the peers still need, and when that is too much to ask.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Shared by the links to the peers and the trimmer, all on one thread.
pub(crate) type SharedRetention = Rc<RefCell<Retention>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// By peer: the index of the snapshot it is being sent. It will need the entries after that.
    snapshots: BTreeMap<u64, u64>,
    /// Entries up to here go, whoever may need them.
    given_up: Option<u64>,
}

/// Keeps the log after a snapshot that is being sent, until it is dropped.
pub(crate) struct Hold {
    retention: SharedRetention,
    target: u64,
}

/// Keeps the log after a snapshot.
pub(crate) fn hold(retention: &SharedRetention, target: u64, index: u64) -> Hold {
    retention.borrow_mut().snapshots.insert(target, index);
    Hold {
        retention: Rc::clone(retention),
        target,
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.retention.borrow_mut().snapshots.remove(&self.target);
    }
}

impl Retention {
    /// The oldest snapshot under way.
    pub(crate) fn oldest_snapshot(&self) -> Option<u64> {
        self.snapshots.values().min().copied()
    }

    /// From now on entries up to this index go.
    pub(crate) fn give_up(&mut self, index: u64) {
        self.given_up = self.given_up.max(Some(index));
    }

    /// Whether this entry goes although a peer may not have it yet.
    pub(crate) fn has_given_up(&self, index: u64) -> bool {
        Some(index) <= self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_up_at_first_not_even_the_first_entry() {
        let mut retention = Retention::default();
        assert!(!retention.has_given_up(0));
        retention.give_up(1);
        retention.give_up(0);
        assert!([0, 1].iter().all(|index| retention.has_given_up(*index)));
        assert!(!retention.has_given_up(2));
    }
}
