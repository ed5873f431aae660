//! What goes wrong and when, drawn from a seed before anything starts: a schedule as data.

use std::fmt;
use std::time::Duration;

use crate::cluster::random::Random;

/// Whom a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The member in this place.
    Place(usize),
    /// Whoever leads when the fault begins.
    Leader,
}

/// One fault, and how long it lasts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL, and a start after a while.
    Kill(Target),
    /// SIGKILL for all at once: a power cut.
    KillAll,
    /// SIGSTOP, and SIGCONT after a while: the process notices nothing but the time.
    Pause(Target),
    /// SIGTERM, and a start as soon as it has ended.
    Restart(Target),
    /// Its disk is lost: it is removed from the cluster, and a new member with an empty disk takes its place.
    Replace(Target),
    /// Leadership is asked to go elsewhere.
    Transfer,
    /// Nothing goes in or out.
    Isolate(Target),
    /// Nothing goes out, or nothing comes in.
    HalfIsolate {
        /// The member.
        target: Target,
        /// Whether it is what it says that is lost.
        outgoing: bool,
    },
    /// Nothing goes from one to the other.
    Cut {
        /// Who speaks.
        from: usize,
        /// Who does not hear.
        to: usize,
    },
    /// All that this member says and hears comes late.
    Delay {
        /// The member.
        target: Target,
        /// How late.
        by: Duration,
    },
    /// All that this member says and hears goes through a narrow pipe.
    Throttle {
        /// The member.
        target: Target,
        /// How narrow, in each direction and to each other member.
        bytes_per_second: u64,
    },
}

/// A fault in its place of the schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// Rest before it.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    /// Whether connections that stood still are closed when it is over.
    pub(crate) resets: bool,
}

/// Two schedules that run side by side, each one fault after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Of the processes.
    pub(crate) processes: Vec<Planned>,
    /// Of the links between them.
    pub(crate) links: Vec<Planned>,
}

impl Plan {
    /// A plan for so many members that goes on for at least so long.
    pub(crate) fn draw(seed: u64, members: usize, length: Duration) -> Self {
        let mut dice = Random::seeded(seed);
        Self {
            processes: schedule(&mut dice, length, |dice| of_processes(dice, members)),
            links: schedule(&mut dice, length, |dice| of_links(dice, members)),
        }
    }
}

fn schedule(
    dice: &mut Random,
    length: Duration,
    mut draw: impl FnMut(&mut Random) -> Fault,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut time = Duration::ZERO;
    while time < length {
        let after = Duration::from_millis(300 + dice.below(3000));
        let lasts = match dice.below(3) {
            0 => 20 + dice.below(300),
            1 => 300 + dice.below(2000),
            _ => 2000 + dice.below(5000),
        };
        let lasts = Duration::from_millis(lasts);
        time += after + lasts;
        planned.push(Planned {
            after,
            fault: draw(dice),
            lasts,
            resets: dice.percent(50),
        });
    }
    planned
}

fn of_processes(dice: &mut Random, members: usize) -> Fault {
    match dice.below(100) {
        0..=29 => Fault::Kill(target(dice, members)),
        30..=34 => Fault::KillAll,
        35..=59 => Fault::Pause(target(dice, members)),
        60..=74 => Fault::Restart(target(dice, members)),
        75..=84 => Fault::Replace(target(dice, members)),
        _ => Fault::Transfer,
    }
}

fn of_links(dice: &mut Random, members: usize) -> Fault {
    match dice.below(100) {
        0..=29 => Fault::Isolate(target(dice, members)),
        30..=49 => Fault::HalfIsolate {
            target: target(dice, members),
            outgoing: dice.percent(50),
        },
        50..=74 => {
            let from = dice.index(members);
            let to = (from + 1 + dice.index(members - 1)) % members;
            Fault::Cut { from, to }
        }
        75..=89 => Fault::Delay {
            target: target(dice, members),
            by: Duration::from_millis(5 + dice.below(200)),
        },
        _ => Fault::Throttle {
            target: target(dice, members),
            bytes_per_second: 2_000 << dice.below(6),
        },
    }
}

fn target(dice: &mut Random, members: usize) -> Target {
    match dice.percent(50) {
        true => Target::Leader,
        false => Target::Place(dice.index(members)),
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:?}", self.fault, self.lasts)
    }
}

#[test]
fn one_seed_is_one_plan() {
    let draw = |seed| Plan::draw(seed, 3, Duration::from_secs(60));
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let plan = draw(7);
    assert!(plan.processes.len() > 5 && plan.links.len() > 5, "{plan:?}");
}
