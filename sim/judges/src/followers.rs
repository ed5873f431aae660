//! Who asks one member alone: what it is shown never goes back within one life of that member, whatever it asks for.
//!
//! That covers a write followed by a serializable read on the same member: a member answers a write only when its own
//! state holds it. That each answer is a true state of the past is for the sweep to say.

use super::Failure;

/// What one client was shown by the member it asked last.
#[derive(Debug, Default)]
pub struct Follower {
    member: u64,
    life: u32,
    newest: i64,
}

impl Follower {
    /// Takes the revision of an answer of a member in one of its lives.
    ///
    /// # Errors
    /// When this member showed a later one before, in this life and to this client.
    pub fn hear(&mut self, member: u64, life: u32, revision: i64) -> Result<(), Failure> {
        if (member, life) != (self.member, self.life) {
            *self = Self {
                member,
                life,
                newest: revision,
            };
            return Ok(());
        }
        let before = self.newest;
        self.newest = before.max(revision);
        match revision < before {
            false => Ok(()),
            true => {
                let story = format!(
                    "m{member} answered from revision {revision}, and had shown {before} in this life"
                );
                Err(Failure::new("followers", story))
            }
        }
    }

    /// Takes a member's word, in one of its lives, that it does not have a revision yet.
    ///
    /// # Errors
    /// When this member showed that or a later one before, in this life and to this client.
    pub fn lacks(&self, member: u64, life: u32, revision: i64) -> Result<(), Failure> {
        let shown = match (member, life) == (self.member, self.life) {
            true => self.newest,
            false => 0,
        };
        match revision <= shown {
            false => Ok(()),
            true => {
                let story = format!(
                    "m{member} says that there is no revision {revision} yet, and had shown {shown} in this life"
                );
                Err(Failure::new("followers", story))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_has_shown_a_revision_has_it_from_then_on() {
        let mut follower = Follower::default();
        assert_eq!(follower.lacks(1, 1, 7), Ok(()));
        assert_eq!(follower.hear(1, 1, 7), Ok(()));
        assert_eq!(follower.lacks(1, 1, 8), Ok(()));
        assert_eq!(follower.lacks(1, 2, 7), Ok(()));
        let judged = follower.lacks(1, 1, 7).map_err(|failure| failure.judge);
        assert_eq!(judged, Err("followers"));
    }

    #[test]
    fn an_answer_from_before_another_is_noticed_within_one_life() {
        let mut follower = Follower::default();
        assert_eq!(follower.hear(1, 1, 7), Ok(()));
        assert_eq!(follower.hear(2, 1, 5), Ok(()));
        assert_eq!(follower.hear(2, 1, 6), Ok(()));
        assert_eq!(follower.hear(2, 2, 4), Ok(()));
        let judged = follower.hear(2, 2, 3).map_err(|failure| failure.judge);
        assert_eq!(judged, Err("followers"));
    }
}
