//! Every request ends: with an answer, or a refusal when its time is over, as long as its member lives.

use std::time::Duration;

use crate::Failure;

/// A request that has waited for its answer until now.
#[derive(Debug, Clone, Copy)]
pub struct Unanswered {
    /// When it was asked.
    pub asked: Duration,
    /// When its member's process stood still last, if it ever did.
    pub stood_still: Option<Duration>,
    /// Whether the life that was asked goes on.
    pub lives: bool,
}

/// Judges a request that was not answered within `patience`, which is longer than any request may take.
///
/// # Errors
/// When its member lives and did not stand still meanwhile.
pub fn judge(request: Unanswered, what: &str, patience: Duration) -> Result<(), Failure> {
    let excused = request.stood_still.is_some_and(|at| at >= request.asked);
    if !request.lives || excused {
        return Ok(());
    }
    let story = format!("{what} was asked {patience:?} ago and has no end");
    Err(Failure::new("deadline", story))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_member_that_lives_answers_unless_it_stood_still() {
        let request = Unanswered {
            asked: seconds(5),
            stood_still: Some(seconds(4)),
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
                stood_still: Some(seconds(6)),
                ..request
            },
        ] {
            assert_eq!(judge(excused, "get a", PATIENCE), Ok(()));
        }
    }
}
