//! Makes a sequence that shows a difference shorter, by leaving out ever smaller pieces of it.

use std::time::Instant;

/// The shortest sequence found until `deadline` in which `first_difference` still finds one.
/// `first_difference` names the place where it met the difference; what comes after is cut off.
pub(crate) fn shrink<T: Clone>(
    sequence: &[T],
    deadline: Instant,
    mut first_difference: impl FnMut(&[T]) -> Option<usize>,
) -> Vec<T> {
    let mut best = sequence.to_vec();
    let mut piece = best.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from + 1 < best.len() {
            if Instant::now() >= deadline {
                return best;
            }
            // The last one met the difference, so it stays.
            let until = (from + piece).min(best.len() - 1);
            let mut shorter: Vec<T> = [&best[..from], &best[until..]].concat();
            if let Some(index) = first_difference(&shorter) {
                shorter.truncate(index + 1);
                best = shorter;
            } else {
                from = until;
            }
        }
        piece /= 2;
    }
    best
}
