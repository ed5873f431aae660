//! At most one leader per term, whoever one asks.

use std::collections::BTreeMap;

use metastore_core::output::Published;

use super::Failure;

/// Who leads which term, as members show it.
#[derive(Default)]
pub struct Leaders(BTreeMap<u64, u64>);

impl Leaders {
    /// Forgets all terms but the newest.
    pub fn forget(&mut self) {
        let newest = self.0.pop_last();
        self.0 = newest.into_iter().collect();
    }

    /// Holds the leader that member `id` names against what was named for the term before.
    pub fn hear(&mut self, id: u64, published: &Published) -> Result<(), Failure> {
        let Some(leader) = published.leader else {
            return Ok(());
        };
        let term = published.term;
        let known = *self.0.entry(term).or_insert(leader);
        if known == leader {
            return Ok(());
        }
        let story = format!("m{id} says that m{leader} leads term {term}, which m{known} led");
        Err(Failure::new("one-leader", story))
    }
}

#[cfg(test)]
mod tests {
    use super::super::chronicle::tests::shown;
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_one_too_many() {
        let led_by = |leader, term| Published {
            leader,
            ..shown(1, term)
        };
        let mut leaders = Leaders::default();
        assert_eq!(leaders.hear(1, &led_by(Some(1), 4)), Ok(()));
        assert_eq!(leaders.hear(2, &led_by(None, 4)), Ok(()));
        assert_eq!(leaders.hear(2, &led_by(Some(2), 5)), Ok(()));
        let told = leaders.hear(2, &led_by(Some(2), 4));
        assert_eq!(told.map_err(|it| it.judge), Err("one-leader"));
    }
}
