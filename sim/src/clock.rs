//! A member's own clock: another origin for each start, and a little faster or slower than the world's.

use std::time::Duration;

use metastore_judges::leases::CLOCK_RATE_PPM_MAX;

use crate::dice::Dice;

/// The clock of one life. The member is told its time and asks for alarms in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_nanos: i128,
    /// Millionths by which it runs fast; slow below zero.
    rate_ppm: i128,
}

impl Clock {
    /// The clock of a life that starts.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let most = [0, 100, CLOCK_RATE_PPM_MAX][dice.place(3)];
        Self {
            offset_nanos: i128::from(dice.between(0, 3_600_000_000_000)),
            rate_ppm: i128::from(dice.between(0, 2 * most)) - i128::from(most),
        }
    }

    /// What it shows at a time of the world.
    pub(crate) fn at(&self, world: Duration) -> Duration {
        let world = i128::try_from(world.as_nanos()).unwrap_or(0);
        from_nanos(self.offset_nanos + world + world * self.rate_ppm / MILLION)
    }

    /// The time of the world at which it shows at least this.
    pub(crate) fn when(&self, shown: Duration) -> Duration {
        let shown_nanos = i128::try_from(shown.as_nanos()).unwrap_or(0);
        let left = (shown_nanos - self.offset_nanos).max(0);
        let mut world = from_nanos(left * MILLION / (MILLION + self.rate_ppm));
        while self.at(world) < shown {
            world += Duration::from_nanos(1);
        }
        world
    }
}

fn from_nanos(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

const MILLION: i128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_never_rings_before_the_clock_shows_its_time() {
        let mut dice = Dice::new(1, "clocks");
        for _ in 0..1000 {
            let clock = Clock::draw(&mut dice);
            let world = Duration::from_nanos(dice.between(0, 1 << 40));
            let alarm = clock.at(world) + Duration::from_nanos(dice.between(0, 1 << 33));
            let rings = clock.when(alarm);
            assert!(clock.at(rings) >= alarm && rings >= world, "{clock:?}");
            let early = rings.saturating_sub(Duration::from_nanos(2));
            assert!(clock.at(early) < alarm || early < world, "{clock:?}");
        }
    }
}
