//! The same complaint again and again is said once in a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Which complaints were made lately.
#[derive(Default)]
pub(crate) struct Seldom(BTreeMap<String, Instant>);

/// How long a complaint is not repeated.
const PAUSE: Duration = Duration::from_secs(30);

/// Complaints remembered; beyond, the memory is cleared.
const COMPLAINTS_MAX: usize = 64;

impl Seldom {
    /// Whether to make this complaint now.
    pub(crate) fn may_say(&mut self, complaint: &str, now: Instant) -> bool {
        if self
            .0
            .get(complaint)
            .is_some_and(|said| now - *said < PAUSE)
        {
            return false;
        }
        if self.0.len() >= COMPLAINTS_MAX {
            self.0.clear();
        }
        self.0.insert(complaint.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_made_once_in_a_while_and_others_are_not_held_back() {
        let mut seldom = Seldom::default();
        let now = Instant::now();
        assert!(seldom.may_say("a", now));
        assert!(!seldom.may_say("a", now));
        assert!(seldom.may_say("b", now));
        assert!(seldom.may_say("a", now + PAUSE));
    }
}
