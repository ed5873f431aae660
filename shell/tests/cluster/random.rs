//! Seeded random numbers that never change between versions, so that a printed seed replays a run for ever.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// A SplitMix64 sequence: equal seeds give equal numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`. `bound` must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.next_u64() % bound
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "an empty interval {low}..={high}");
        let width = u64::try_from(high - low).expect("ordered bounds") + 1;
        low + i64::try_from(self.below(width)).expect("the width fits")
    }

    /// True in `percent` of a hundred draws.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index fits")
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}

/// `METASTORE_TEST_SEED`, or a fresh seed. The caller prints it before anything else.
pub(crate) fn seed_of_this_run() -> u64 {
    if let Some(seed) = number_from_environment("METASTORE_TEST_SEED") {
        return seed;
    }
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    Random::seeded(u64::from(since_epoch.subsec_nanos()) ^ since_epoch.as_secs()).next_u64() >> 16
}

/// The number in the environment variable `name`; `None` when it is unset.
pub(crate) fn number_from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{name}={text} is not a number: {error}"),
    }
}
