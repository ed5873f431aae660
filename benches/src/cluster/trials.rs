//! What many trials of the same thing took.

use std::time::Duration;

use crate::measurement::Figure;

/// The names under which the times of some trials are shown.
pub(crate) struct Names {
    pub(crate) fastest: &'static str,
    pub(crate) median: &'static str,
    pub(crate) p95: &'static str,
    pub(crate) slowest: &'static str,
}

/// The least, the middle, the one that 95 of 100 do not exceed, and the most of `times`; nothing without any.
pub(crate) fn figures(mut times: Vec<Duration>, names: &Names) -> Vec<Figure> {
    times.sort_unstable();
    let (Some(fastest), Some(slowest)) = (times.first(), times.last()) else {
        return Vec::new();
    };
    vec![
        Figure::milliseconds(names.fastest, *fastest),
        Figure::milliseconds(names.median, rank(&times, 50)),
        Figure::milliseconds(names.p95, rank(&times, 95)),
        Figure::milliseconds(names.slowest, *slowest),
    ]
}

/// How many of `times` are at most `limit`.
pub(crate) fn within(times: &[Duration], limit: Duration) -> u64 {
    times.iter().filter(|time| **time <= limit).count() as u64
}

/// The smallest of the sorted times that at least `percent` of a hundred do not exceed.
fn rank(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Names, figures, within};

    const NAMES: Names = Names {
        fastest: "fastest",
        median: "median",
        p95: "p95",
        slowest: "slowest",
    };

    #[test]
    fn one_slow_trial_of_many_is_seen_in_the_slowest_alone() {
        let mut times: Vec<Duration> = (1..=99).map(Duration::from_millis).rev().collect();
        times.push(Duration::from_secs(30));
        assert_eq!(within(&times, Duration::from_millis(50)), 50);
        assert_eq!(within(&times, Duration::from_secs(2)), 99);
        let values: Vec<f64> = figures(times, &NAMES).iter().map(|it| it.value).collect();
        assert_eq!(values, [1.0, 50.0, 95.0, 30_000.0]);
    }

    #[test]
    fn one_trial_is_all_of_them_and_none_has_no_figures() {
        let one = figures(vec![Duration::from_millis(7)], &NAMES);
        assert!(one.iter().all(|figure| (figure.value - 7.0).abs() < 1e-9));
        assert!(figures(Vec::new(), &NAMES).is_empty());
    }
}
