//! Seeded dice: one stream each for the world, the faults, the disks and every client.

/// A stream of numbers that depends on a seed and a name alone, in every version of every library.
///
/// Streams of one seed are independent: drawing more of one (a longer workload, say) leaves the others as they are.
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of this name under this seed.
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let name = stream.bytes().fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        });
        let mut dice = Self(seed.wrapping_mul(GOLDEN) ^ name);
        // The first numbers of neighbouring seeds still look alike.
        dice.roll();
        dice.roll();
        dice
    }

    /// Any number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an interval has a beginning and an end");
        low + self.roll() % (high - low + 1)
    }

    /// A place in a list of this length.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        assert!(length > 0, "nothing can be chosen from an empty list");
        usize::try_from(self.roll() % length as u64).expect("a length fits into a usize")
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, cases: u64) -> bool {
        self.roll() % 1000 < cases
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn equal_names_give_equal_streams_and_others_do_not() {
        let draw = |seed, name| {
            let mut dice = Dice::new(seed, name);
            [dice.roll(), dice.roll(), dice.roll()]
        };
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "faults"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut dice = Dice::new(7, "bounds");
        let drawn: Vec<u64> = (0..1000).map(|_| dice.between(3, 5)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&5));
        let hits = (0..10_000).filter(|_| dice.permille(100)).count();
        assert!((800..1200).contains(&hits), "{hits}");
    }
}
