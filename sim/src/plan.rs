//! The planned faults: a list with times, drawn before anything happens, so that a failing run can be made smaller by
//! leaving faults out.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;
use crate::ingredients::Ingredient;

/// One fault, from a time on, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its place in the plan, by which it can be left out.
    pub(crate) number: u64,
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) what: What,
}

/// What breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// These members hear nobody else, and nobody else hears them; among themselves all is well.
    Split(Vec<u64>),
    /// Nothing arrives on the way from one member to another; the way back is open.
    OneWay(u64, u64),
    /// What goes from one member to another is held back, and arrives in another order when this ends.
    Clog(u64, u64),
    /// The power goes, and comes back when this ends.
    PowerLoss(u64),
    /// The next log write fails, the member stops, and is started again when this ends.
    LogWriteFails(u64, DiskError),
    /// Checkpoints fail; the log goes on.
    CheckpointsFail(u64),
    /// Every sync takes so many times as long.
    SlowDisk(u64, u64),
    /// The process stands still, as its machine would under a debugger, and then goes on.
    Pause(u64),
    /// As above, and its clock stands still with it, as on a virtual machine that is suspended.
    Suspend(u64),
    /// Whoever leads is asked to hand leadership to this member.
    Transfer(u64),
    /// All members are stopped and started, one after the other.
    RollingRestart,
    /// A bit flips in what a member wrote long ago.
    Rot(u64),
}

/// How a log write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskError {
    /// It cannot be written; nothing or a part of it is there.
    Io,
    /// There is no room for it.
    Full,
    /// It was written, and cannot be synced: any part of it may be there.
    Sync,
}

impl DiskError {
    const ALL: [DiskError; 3] = [DiskError::Io, DiskError::Full, DiskError::Sync];
}

/// Draws the faults of an act that is this long.
pub(crate) fn draw(seed: u64, members: u64, act: Duration, count: u64) -> Vec<Fault> {
    let mut dice = Dice::new(seed, "plan");
    let act_ms = u64::try_from(act.as_millis()).unwrap_or(u64::MAX);
    let faults = (0..count).map(|_| {
        let at = Duration::from_millis(dice.between(500, act_ms));
        let lasts = Duration::from_millis(match dice.place(3) {
            0 => dice.between(20, 500),
            1 => dice.between(500, 3000),
            _ => dice.between(3000, 8000),
        });
        (at, lasts, what(&mut dice, members))
    });
    let mut faults: Vec<_> = faults.collect();
    faults.sort_by_key(|(at, ..)| *at);
    let numbered = faults.into_iter().zip(1..);
    numbered
        .map(|((at, lasts, what), number)| Fault {
            number,
            at,
            lasts,
            what,
        })
        .collect()
}

/// Draws what operators do, and the rarer faults, which go behind those that are planned already.
pub(crate) fn draw_more(seed: u64, members: u64, act: Duration, planned: u64) -> Vec<Fault> {
    let mut dice = Dice::new(seed, "more faults");
    let act_ms = u64::try_from(act.as_millis()).unwrap_or(u64::MAX);
    let count = [0, 1, 3, 6][dice.place(4)];
    let mut faults = Vec::new();
    for number in 1..=count {
        let one = dice.between(1, members);
        let what = match dice.place(8) {
            0 | 1 => What::Suspend(one),
            2 | 3 => What::Transfer(one),
            4 | 5 => What::RollingRestart,
            _ => What::Rot(one),
        };
        faults.push(Fault {
            number: planned + number,
            at: Duration::from_millis(dice.between(500, act_ms)),
            lasts: Duration::from_millis(dice.between(20, 8000)),
            what,
        });
    }
    faults
}

impl What {
    /// What it is one of.
    pub(crate) fn ingredient(&self) -> Ingredient {
        match self {
            What::Split(_) => Ingredient::Splits,
            What::OneWay(..) => Ingredient::OneWayCuts,
            What::Clog(..) => Ingredient::Clogs,
            What::PowerLoss(_) => Ingredient::PowerLosses,
            What::LogWriteFails(..) => Ingredient::FailingLogs,
            What::CheckpointsFail(_) => Ingredient::FailingCheckpoints,
            What::SlowDisk(..) => Ingredient::SlowDisks,
            What::Pause(_) => Ingredient::Pauses,
            What::Suspend(_) => Ingredient::Suspensions,
            What::Transfer(_) => Ingredient::Transfers,
            What::RollingRestart => Ingredient::RollingRestarts,
            What::Rot(_) => Ingredient::Rot,
        }
    }
}

fn what(dice: &mut Dice, members: u64) -> What {
    let one = dice.between(1, members);
    let alone = match dice.place(5) {
        0 => What::PowerLoss(one),
        1 => What::LogWriteFails(one, DiskError::ALL[dice.place(3)]),
        2 => What::CheckpointsFail(one),
        3 => What::SlowDisk(one, dice.between(5, 60)),
        _ => What::Pause(one),
    };
    if members == 1 {
        return alone;
    }
    let other = 1 + (one - 1 + dice.between(1, members - 1)) % members;
    match dice.place(8) {
        0 => What::Split(vec![one]),
        1 => {
            let mut side: Vec<u64> = (1..=members).filter(|_| dice.permille(500)).collect();
            if side.len() as u64 == members {
                side.pop();
            }
            What::Split(if side.is_empty() { vec![other] } else { side })
        }
        2 => What::OneWay(one, other),
        3 => What::Clog(one, other),
        _ => alone,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, at, lasts) = (self.number, self.at.as_millis(), self.lasts.as_millis());
        write!(f, "fault {number} at {at}ms for {lasts}ms: {}", self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Split(side) => {
                f.write_str("cut off")?;
                side.iter().try_for_each(|id| write!(f, " m{id}"))
            }
            What::OneWay(from, to) => write!(f, "nothing arrives from m{from} at m{to}"),
            What::Clog(from, to) => write!(f, "letters from m{from} to m{to} are held back"),
            What::PowerLoss(id) => write!(f, "power loss of m{id}"),
            What::LogWriteFails(id, error) => write!(f, "a log write of m{id} fails ({error:?})"),
            What::CheckpointsFail(id) => write!(f, "checkpoints of m{id} fail"),
            What::SlowDisk(id, times) => write!(f, "the disk of m{id} is {times} times as slow"),
            What::Pause(id) => write!(f, "m{id} stands still"),
            What::Suspend(id) => write!(f, "m{id} stands still, and its clock with it"),
            What::Transfer(id) => write!(f, "leadership is to go to m{id}"),
            What::RollingRestart => f.write_str("all members are restarted in turn"),
            What::Rot(id) => write!(f, "a bit flips on the disk of m{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_in_order_and_its_own_for_each_seed() {
        let act = Duration::from_secs(20);
        let plan = draw(7, 3, act, 30);
        assert_eq!(plan, draw(7, 3, act, 30));
        assert_ne!(plan, draw(8, 3, act, 30));
        assert!(plan.is_sorted_by_key(|fault| (fault.at, fault.number)));
        assert!(plan.iter().all(|fault| fault.at <= act));
    }

    #[test]
    fn a_lone_member_is_never_cut_off_and_no_split_takes_all() {
        let plan = |members| draw(3, members, Duration::from_secs(20), 300);
        let between =
            |what: &What| matches!(what, What::Split(_) | What::OneWay(..) | What::Clog(..));
        assert!(!plan(1).iter().any(|fault| between(&fault.what)));
        for fault in plan(5) {
            match fault.what {
                What::Split(side) => assert!((1..5).contains(&side.len()), "{side:?}"),
                What::OneWay(from, to) | What::Clog(from, to) => assert_ne!(from, to),
                _ => {}
            }
        }
    }
}
