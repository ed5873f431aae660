//! A member's own clock: another origin for each start, and a little faster or slower than the world's.

use std::cell::Cell;
use std::time::Duration;

use crate::dice::Dice;

/// The clock of one life. The member is told its time and asks for alarms in it.
#[derive(Debug)]
pub(crate) struct Clock {
    offset_nanos: i128,
    /// Millionths by which it runs fast; slow below zero.
    rate_ppm: i128,
    /// Since when it stands still, and for how long it has before.
    stands_since: Cell<Option<Duration>>,
    stood: Cell<Duration>,
}

impl Clock {
    /// The clock of a life that starts, in a world whose clocks are off by so many millionths at most.
    pub(crate) fn draw(dice: &mut Dice, rate_ppm_max: u64) -> Self {
        let most = [0, rate_ppm_max / 20, rate_ppm_max][dice.place(3)];
        Self {
            offset_nanos: i128::from(dice.between(0, 3_600_000_000_000)),
            rate_ppm: i128::from(dice.between(0, 2 * most)) - i128::from(most),
            stands_since: Cell::new(None),
            stood: Cell::new(Duration::ZERO),
        }
    }

    /// It stands still from a time of the world on.
    pub(crate) fn suspend(&self, world: Duration) {
        let since = self.stands_since.get().unwrap_or(world);
        self.stands_since.set(Some(since));
    }

    /// It goes on from where it stood.
    pub(crate) fn resume(&self, world: Duration) {
        if let Some(since) = self.stands_since.take() {
            self.stood
                .set(self.stood.get() + world.saturating_sub(since));
        }
    }

    /// What it shows at a time of the world.
    pub(crate) fn at(&self, world: Duration) -> Duration {
        let world = self.stands_since.get().unwrap_or(world).min(world);
        self.shown(world.saturating_sub(self.stood.get()))
    }

    fn shown(&self, run: Duration) -> Duration {
        let run = i128::try_from(run.as_nanos()).unwrap_or(0);
        from_nanos(self.offset_nanos + run + run * self.rate_ppm / MILLION)
    }

    /// The time of the world at which it shows at least this, if it does not stand still until then.
    pub(crate) fn when(&self, shown: Duration) -> Duration {
        let shown_nanos = i128::try_from(shown.as_nanos()).unwrap_or(0);
        let left = (shown_nanos - self.offset_nanos).max(0);
        let mut run = from_nanos(left * MILLION / (MILLION + self.rate_ppm));
        while self.shown(run) < shown {
            run += Duration::from_nanos(1);
        }
        run + self.stood.get()
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
            let clock = Clock::draw(&mut dice, 100_000);
            let world = Duration::from_nanos(dice.between(0, 1 << 40));
            let alarm = clock.at(world) + Duration::from_nanos(dice.between(0, 1 << 33));
            let rings = clock.when(alarm);
            assert!(clock.at(rings) >= alarm && rings >= world, "{clock:?}");
            let early = rings.saturating_sub(Duration::from_nanos(2));
            assert!(clock.at(early) < alarm || early < world, "{clock:?}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_goes_on_from_where_it_stood() {
        let mut dice = Dice::new(2, "clocks");
        let clock = Clock::draw(&mut dice, 2000);
        let second = Duration::from_secs;
        let before = clock.at(second(10));
        clock.suspend(second(10));
        assert_eq!(clock.at(second(14)), before);
        clock.resume(second(15));
        assert_eq!(clock.at(second(15)), before);
        let alarm = before + Duration::from_millis(500);
        let rings = clock.when(alarm);
        assert!(clock.at(rings) >= alarm && rings > second(15), "{clock:?}");
        assert!(rings < second(16), "{clock:?}");
    }
}
