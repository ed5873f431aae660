//! Where members stand, and what lies between them.

use std::time::Duration;

use crate::dice::Dice;

/// How members are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All in one zone of a data centre.
    OneZone,
    /// One after the other over three zones of a region.
    ThreeZones,
    /// One after the other over three regions.
    ThreeRegions,
    /// One after the other over three continents: nobody is within a heartbeat's interval of anybody, there and back.
    ThreeContinents,
}

impl Shape {
    pub(crate) const ALL: [Shape; 4] = [
        Shape::OneZone,
        Shape::ThreeZones,
        Shape::ThreeRegions,
        Shape::ThreeContinents,
    ];

    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::OneZone => "one zone",
            Shape::ThreeZones => "three zones",
            Shape::ThreeRegions => "three regions",
            Shape::ThreeContinents => "three continents",
        }
    }

    /// How long a letter is on its way from one member to another, at least.
    pub(crate) fn one_way(self, from: u64, to: u64) -> Duration {
        let (from, to) = (from % PLACES, to % PLACES);
        let (low, high) = (from.min(to), from.max(to));
        match self {
            Shape::OneZone => WITHIN_ZONE,
            Shape::ThreeZones if from == to => WITHIN_ZONE,
            Shape::ThreeZones => BETWEEN_ZONES,
            _ if from == to => BETWEEN_ZONES,
            Shape::ThreeRegions => match (low, high) {
                (0, 1) => Duration::from_millis(40),
                (0, _) => Duration::from_millis(65),
                _ => Duration::from_millis(30),
            },
            Shape::ThreeContinents => match (low, high) {
                (0, 1) => Duration::from_millis(90),
                (0, _) => Duration::from_millis(120),
                _ => Duration::from_millis(60),
            },
        }
    }

    /// Bytes that go from one member to another in a second.
    pub(crate) fn bytes_per_second(self) -> u64 {
        match self {
            Shape::OneZone | Shape::ThreeZones => 10_000_000_000 / 8,
            Shape::ThreeRegions | Shape::ThreeContinents => 1_000_000_000 / 8,
        }
    }
}

/// Up to a fifth longer; one in a hundred takes twice as long.
pub(crate) fn with_jitter(least: Duration, dice: &mut Dice) -> Duration {
    let longer = least * u32::try_from(dice.between(0, 200)).unwrap_or(0) / 1000;
    match dice.permille(10) {
        true => least * 2,
        false => least + longer,
    }
}

/// The sync of a batch of this many bytes: 150 to 250 µs, one in a hundred 2 ms, and 1 GB/s.
pub(crate) fn sync(bytes: u64, dice: &mut Dice) -> Duration {
    let sync = Duration::from_micros(dice.between(150, 250));
    let sync = match dice.permille(10) {
        true => Duration::from_millis(2),
        false => sync,
    };
    sync + Duration::from_nanos(bytes)
}

/// One after the other, members take these places.
const PLACES: u64 = 3;
/// Between machines of one zone, and from a client to the member it talks to.
pub(crate) const WITHIN_ZONE: Duration = Duration::from_micros(50);
const BETWEEN_ZONES: Duration = Duration::from_micros(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_equally_long_in_both_directions_and_longer_from_shape_to_shape() {
        for shape in Shape::ALL {
            for (from, to) in [(1, 2), (1, 3), (2, 3), (4, 6), (1, 4)] {
                assert_eq!(shape.one_way(from, to), shape.one_way(to, from));
            }
        }
        let way = |shape: Shape| shape.one_way(1, 2);
        assert!(way(Shape::OneZone) < way(Shape::ThreeZones));
        assert!(way(Shape::ThreeZones) < way(Shape::ThreeRegions));
        assert!(way(Shape::ThreeRegions) < way(Shape::ThreeContinents));
        assert_eq!(Shape::ThreeZones.one_way(1, 4), WITHIN_ZONE);
    }

    #[test]
    fn jitter_never_shortens() {
        let mut dice = Dice::new(1, "jitter");
        for _ in 0..1000 {
            let takes = with_jitter(WITHIN_ZONE, &mut dice);
            assert!((WITHIN_ZONE..=WITHIN_ZONE * 2).contains(&takes));
            assert!(sync(1000, &mut dice) >= Duration::from_micros(151));
        }
    }
}
