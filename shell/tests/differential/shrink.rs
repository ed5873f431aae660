//! Makes a sequence that shows a difference shorter, by leaving out ever smaller pieces of it.

use std::{collections::BTreeSet, time::Instant};

/// The sequence without all elements of each kind that the difference does not need. A cheap beginning: long
/// sequences take long to replay, and most of their elements only read.
pub(crate) fn without_needless_kinds<T: Clone>(
    sequence: &[T],
    deadline: Instant,
    kind: impl Fn(&T) -> &'static str,
    mut first_difference: impl FnMut(&[T]) -> Option<usize>,
) -> Vec<T> {
    let mut best = sequence.to_vec();
    let kinds: BTreeSet<&str> = sequence.iter().map(&kind).collect();
    for needless in kinds {
        let Some((last, before)) = best.split_last() else {
            return best;
        };
        let kept = before.iter().filter(|element| kind(element) != needless);
        let mut shorter: Vec<T> = kept.chain([last]).cloned().collect();
        if Instant::now() < deadline
            && shorter.len() < best.len()
            && let Some(index) = first_difference(&shorter)
        {
            shorter.truncate(index + 1);
            best = shorter;
        }
    }
    best
}

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
