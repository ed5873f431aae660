//! What a world may be made of, and what a seed leaves out.
//!
//! A world with everything in it keeps some situations away: where members crash all the time, no log grows long. So
//! half of all seeds leave out a set of faults and kinds of clients, each its own.

use std::collections::BTreeSet;
use std::fmt;

use crate::dice::Dice;
use crate::world::World;

/// One kind of fault or of client that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ingredient {
    Splits,
    OneWayCuts,
    Clogs,
    PowerLosses,
    FailingLogs,
    FailingCheckpoints,
    SlowDisks,
    Pauses,
    Suspensions,
    Transfers,
    RollingRestarts,
    Rot,
    Crashes,
    StartCrashes,
    Losses,
    SilentLosses,
    Duplicates,
    Standstills,
    BadMoments,
    Movers,
    Holders,
    Changers,
    Watchers,
}

use Ingredient::*;

/// Everything, by the names that a world is printed with.
const ALL: [(Ingredient, &str); 23] = [
    (Splits, "splits"),
    (OneWayCuts, "one-way-cuts"),
    (Clogs, "clogs"),
    (PowerLosses, "power-losses"),
    (FailingLogs, "failing-logs"),
    (FailingCheckpoints, "failing-checkpoints"),
    (SlowDisks, "slow-disks"),
    (Pauses, "pauses"),
    (Suspensions, "suspensions"),
    (Transfers, "transfers"),
    (RollingRestarts, "rolling-restarts"),
    (Rot, "rot"),
    (Crashes, "crashes"),
    (StartCrashes, "start-crashes"),
    (Losses, "losses"),
    (SilentLosses, "silent-losses"),
    (Duplicates, "duplicates"),
    (Standstills, "standstills"),
    (BadMoments, "bad-moments"),
    (Movers, "movers"),
    (Holders, "holders"),
    (Changers, "changers"),
    (Watchers, "watchers"),
];

/// What a seed leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut(BTreeSet<Ingredient>);

impl LeftOut {
    /// Nothing in half of the worlds; of the others, each its own share of everything.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "left out");
        let odds = [0, 0, 250, 600][dice.place(4)];
        let all = ALL.iter().map(|(ingredient, _)| *ingredient);
        Self(all.filter(|_| dice.permille(odds)).collect())
    }

    /// Whether this is left out.
    pub(crate) fn holds(&self, ingredient: Ingredient) -> bool {
        self.0.contains(&ingredient)
    }

    /// Takes out of a world what is left out.
    pub(crate) fn apply(&self, world: &mut World) {
        world
            .plan
            .retain(|fault| !self.holds(fault.what.ingredient()));
        let numbers = [
            (Crashes, &mut world.crash_permille),
            (StartCrashes, &mut world.start_crash_permille),
            (Losses, &mut world.loss_permille),
            (Duplicates, &mut world.duplicate_permille),
            (Standstills, &mut world.standstill_permille),
            (BadMoments, &mut world.moments_permille),
            (Movers, &mut world.movers),
            (Holders, &mut world.holders),
            (Changers, &mut world.changers),
            (Watchers, &mut world.watchers),
        ];
        for (ingredient, number) in numbers {
            if self.holds(ingredient) {
                *number = 0;
            }
        }
        world.silent_loss &= !self.holds(SilentLosses);
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        let names = ALL.iter().filter(|(ingredient, _)| self.holds(*ingredient));
        for (place, (_, name)) in names.enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Options;

    #[test]
    fn half_of_the_worlds_leave_out_nothing_and_together_the_others_leave_out_everything() {
        let drawn: Vec<LeftOut> = (1..=400).map(LeftOut::draw).collect();
        let whole = drawn.iter().filter(|out| out.0.is_empty()).count();
        assert!((160..240).contains(&whole), "{whole}");
        for (ingredient, name) in ALL {
            assert!(drawn.iter().any(|out| out.holds(ingredient)), "{name}");
        }
    }

    #[test]
    fn what_is_left_out_is_in_no_plan_and_has_no_odds() {
        for seed in 1..=200 {
            let world = World::draw(seed, &Options::default());
            let out = LeftOut::draw(seed);
            let mut plan = world.plan.iter();
            assert!(
                plan.all(|fault| !out.holds(fault.what.ingredient())),
                "{seed}"
            );
            assert!(!out.holds(Crashes) || world.crash_permille == 0, "{seed}");
            assert!(!out.holds(Watchers) || world.watchers == 0, "{seed}");
            assert!(!out.holds(SilentLosses) || !world.silent_loss, "{seed}");
        }
    }
}
