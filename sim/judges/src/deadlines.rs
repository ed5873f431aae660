//! Every request ends: with an answer, or a refusal when its time is over, as long as its member lives.

use std::time::Duration;

use crate::Failure;

/// A request that has waited for its answer until now.
#[derive(Debug, Clone, Copy)]
pub struct Unanswered {
    /// Whether its member's process stood still meanwhile.
    pub stood_still: bool,
    /// Whether the life that was asked goes on.
    pub lives: bool,
}

/// Judges a request that was not answered within `patience`, which is longer than any request may take.
///
/// # Errors
/// When its member lives and did not stand still meanwhile.
pub fn judge(request: Unanswered, what: &str, patience: Duration) -> Result<(), Failure> {
    if !request.lives || request.stood_still {
        return Ok(());
    }
    let story = format!("{what} was asked {patience:?} ago and has no end");
    Err(Failure::new("deadline", story))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_member_that_lives_answers_unless_it_stood_still() {
        let request = Unanswered {
            stood_still: false,
            lives: true,
        };
        let failed = judge(request, "get a", PATIENCE).expect_err("nothing excuses it");
        assert_eq!(failed.judge, "deadline");
        for excused in [
            Unanswered {
                lives: false,
                ..request
            },
            Unanswered {
                stood_still: true,
                ..request
            },
        ] {
            assert_eq!(judge(excused, "get a", PATIENCE), Ok(()));
        }
    }
}
