//! Makes a failing seed smaller: leaves planned faults out, takes clients, members, keys, odds and time away, as long as
//! the same judge objects to the same thing; and writes what is left as a scenario.

use std::io;
use std::time::Duration;

use crate::child::{self, judge_of};
use crate::knobs::{self, Knob};
use crate::run::PLANNED;
use crate::scenario::source;
use crate::world::{Options, World};

/// Prints the smallest run it finds, and the scenario that keeps it. Answers false, as any run of a seed that fails.
pub(crate) fn shrink(seed: u64, options: &Options) -> io::Result<bool> {
    let run = |options: &Options| {
        let mut words = vec![seed.to_string()];
        words.extend(options.words());
        child::run(&words).map(|ran| ran.text)
    };
    let Some(found) = Shrinking::begin(seed, options, &run)? else {
        println!("seed {seed} keeps every promise");
        return Ok(true);
    };
    let Shrinking {
        smallest,
        report,
        judgement,
        runs,
        ..
    } = found.finish()?;
    print!("{report}");
    let (before, after) = (World::draw(seed, options), World::draw(seed, &smallest));
    println!(
        "{runs} runs: weight {} of {}, {} faults of {}",
        weight(&after),
        weight(&before),
        after.plan.len(),
        before.plan.len()
    );
    let text = source::write(&after, &judgement.judge, &judgement.story);
    println!("\nAs a scenario, to be named after the fact:\n\n{text}");
    Ok(false)
}

/// How much there is in a world that could be taken away.
fn weight(world: &World) -> u64 {
    let faults = 100 * world.plan.len() as u64;
    let numbers = knobs::ALL.iter().filter(|knob| knob.least.is_some());
    let numbers = numbers.map(|knob| (knob.get)(world));
    faults + numbers.sum::<u64>()
}

/// What was objected to: a smaller run must break the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judgement {
    judge: String,
    /// The first line of the story. Of assertions it tells them apart, since all have one judge.
    story: String,
    at: Duration,
}

impl Judgement {
    /// Of a run that failed.
    fn of(report: &str) -> Option<Self> {
        let judge = judge_of(report)?.to_owned();
        let mut lines = report.lines();
        let verdict = lines.find(|line| line.starts_with("FAILED "));
        let seconds = verdict.and_then(|line| {
            let words = line.split_whitespace();
            let time = words.filter_map(|word| word.strip_prefix("t=")).next()?;
            time.strip_suffix('s')?.parse().ok()
        });
        Some(Self {
            judge,
            story: lines.next().unwrap_or_default().trim().to_owned(),
            at: Duration::from_secs_f64(seconds.unwrap_or(0.0)),
        })
    }

    fn is_same(&self, other: &Judgement) -> bool {
        let place = |story: &str| story.split(" at ").last().unwrap_or_default().to_owned();
        self.judge == other.judge
            && (self.judge != "invariant" || place(&self.story) == place(&other.story))
    }
}

/// How a run is made.
type Run<'a> = dyn Fn(&Options) -> io::Result<String> + 'a;

/// The smallest run so far.
struct Shrinking<'a> {
    seed: u64,
    smallest: Options,
    report: String,
    judgement: Judgement,
    runs: u64,
    run: &'a Run<'a>,
}

impl<'a> Shrinking<'a> {
    /// The run as it was asked for; none if it keeps every promise.
    fn begin(seed: u64, options: &Options, run: &'a Run<'a>) -> io::Result<Option<Self>> {
        let report = run(options)?;
        let found = Judgement::of(&report).map(|judgement| Self {
            seed,
            smallest: options.clone(),
            report,
            judgement,
            runs: 1,
            run,
        });
        Ok(found)
    }

    /// Takes away until nothing more can go, or so many runs were made.
    fn finish(mut self) -> io::Result<Self> {
        loop {
            let before = self.smallest.clone();
            self.end_early()?;
            self.leave_faults_out()?;
            for knob in &knobs::ALL {
                self.turn_down(knob)?;
            }
            if self.smallest == before || self.runs >= RUNS_MAX {
                return Ok(self);
            }
        }
    }

    /// The planned faults that are left: those of the first round, and those of the round that failed, by what the report
    /// says.
    fn faults(&self) -> Vec<(u64, String)> {
        let first = self.world().plan;
        let first = first.iter().map(|fault| (fault.number, fault.to_string()));
        let later = self.report.lines().filter_map(|line| {
            let fault = line.strip_prefix(PLANNED)?;
            let number = fault.split_whitespace().nth(1)?.parse().ok()?;
            Some((number, fault.to_owned()))
        });
        first.chain(later).collect()
    }

    fn world(&self) -> World {
        World::draw(self.seed, &self.smallest)
    }

    /// Whether this run still fails in the same way; then it is the smallest.
    fn try_out(&mut self, options: Options, what: &str) -> io::Result<bool> {
        if self.runs >= RUNS_MAX || options == self.smallest {
            return Ok(false);
        }
        self.runs += 1;
        let report = (self.run)(&options)?;
        let judgement = Judgement::of(&report);
        let Some(judgement) = judgement.filter(|it| it.is_same(&self.judgement)) else {
            return Ok(false);
        };
        println!("not needed: {what}");
        (self.smallest, self.report, self.judgement) = (options, report, judgement);
        Ok(true)
    }

    /// What comes after the objection is not needed.
    fn end_early(&mut self) -> io::Result<()> {
        let world = self.world();
        let end = self.judgement.at + Duration::from_millis(1);
        if end < world.safety_act {
            let millis = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
            let options = self.with("safety_act", millis);
            self.try_out(options, "what came later")?;
        }
        Ok(())
    }

    /// Many faults at once first, then fewer.
    fn leave_faults_out(&mut self) -> io::Result<()> {
        let mut many = self.faults().len();
        while many > 0 {
            let mut place = 0;
            loop {
                let plan = self.faults();
                let Some(some) = plan.get(place..(place + many).min(plan.len())) else {
                    break;
                };
                if some.is_empty() {
                    break;
                }
                let mut options = self.smallest.clone();
                options
                    .without
                    .extend(some.iter().map(|(number, _)| number));
                options.without.sort_unstable();
                let what = match some {
                    [(_, fault)] => fault.clone(),
                    some => format!("{} faults", some.len()),
                };
                if !self.try_out(options, &what)? {
                    place += many;
                }
            }
            many /= 2;
        }
        Ok(())
    }

    /// As far down as it goes, by halves of what is between.
    fn turn_down(&mut self, knob: &Knob) -> io::Result<()> {
        let Some(least) = knob.least else {
            return Ok(());
        };
        let (mut low, mut high) = (least, (knob.get)(&self.world()));
        while low < high {
            let options = self.with(knob.name, low);
            let what = format!("{} above {low}", knob.name);
            if self.try_out(options, &what)? {
                return Ok(());
            }
            // What is left between is not worth another run.
            if high - low <= 1.max(high / 8) {
                return Ok(());
            }
            low += (high - low).div_ceil(2);
            high = (knob.get)(&self.world());
        }
        Ok(())
    }

    fn with(&self, name: &'static str, value: u64) -> Options {
        let mut options = self.smallest.clone();
        options.set.retain(|(set, _)| *set != name);
        options.set.push((name, value));
        options.set.sort_unstable();
        options
    }
}

/// Runs of one shrinking, a second each at most times.
const RUNS_MAX: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as long as a fault and some numbers are there.
    fn report_of(seed: u64, options: &Options) -> String {
        let world = World::draw(seed, options);
        let needed = world.plan.iter().any(|fault| fault.number == 3);
        let fails = needed && world.crash_permille >= 2 && world.clients >= 1;
        let long = world.safety_act >= Duration::from_secs(9);
        match fails && long && world.members >= 3 {
            true => "FAILED durable seed=1 t=9.000000s\n  it is gone\n".to_owned(),
            false => "ok seed=1\n".to_owned(),
        }
    }

    #[test]
    fn what_is_not_needed_goes_and_the_rest_still_fails() {
        let options = Options {
            set: vec![("clients", 6), ("crash_permille", 15), ("members", 5)],
            ..Options::default()
        };
        let plan = |seed: &u64| World::draw(*seed, &options).plan.len();
        let seed = (1..100).find(|seed| plan(seed) == 16).expect("a full plan");
        let run = |options: &Options| Ok(report_of(seed, options));
        let found = Shrinking::begin(seed, &options, &run).expect("runs are made");
        let found = found.expect("it fails").finish().expect("runs are made");
        let world = found.world();
        assert!(report_of(seed, &found.smallest).starts_with("FAILED durable"));
        assert_eq!(world.plan.len(), 1);
        assert_eq!(world.plan[0].number, 3);
        assert_eq!((world.clients, world.members), (1, 3));
        assert!((2..=3).contains(&world.crash_permille), "{world}");
        assert_eq!((world.watchers, world.changers, world.holders), (0, 0, 0));
        assert!(world.safety_act < Duration::from_secs(10), "{world}");
        assert!(found.runs <= RUNS_MAX);
        assert!(weight(&world) < weight(&World::draw(seed, &options)));
    }

    #[test]
    fn planned_faults_of_the_round_that_failed_are_left_out_too() {
        let options = Options {
            hours: 1,
            ..Options::default()
        };
        let run = |options: &Options| {
            let left = (2001..=2003).filter(|number| !options.without.contains(number));
            let left: Vec<u64> = left.collect();
            let verdict = match left.contains(&2002) {
                true => "FAILED durable seed=1 t=150.0s\n  it is gone\n",
                false => "ok seed=1\n",
            };
            let planned = left.iter().map(|number| {
                format!("{PLANNED}fault {number} at 7ms for 3ms: checkpoints of m1 fail\n")
            });
            Ok(verdict.to_owned() + &planned.collect::<String>())
        };
        let found = Shrinking::begin(1, &options, &run).expect("runs are made");
        let found = found.expect("it fails").finish().expect("runs are made");
        let without = &found.smallest.without;
        assert!(
            without.contains(&2001) && without.contains(&2003),
            "{without:?}"
        );
        assert!(!without.contains(&2002), "{without:?}");
        assert_eq!(found.faults().len(), 1);
    }

    #[test]
    fn only_the_same_judgement_counts() {
        let of = |report: &str| Judgement::of(report).expect("it failed");
        let durable = of("world\nFAILED durable seed=1 t=2.500000s\n  gone\n");
        assert_eq!(durable.at, Duration::from_millis(2500));
        assert!(!durable.is_same(&of("FAILED sum seed=1 t=2s\n  less\n")));
        let panic = |place: &str| of(&format!("FAILED invariant t=1s\n  panicked at {place}\n"));
        assert!(!panic("a.rs:1").is_same(&panic("b.rs:1")));
        assert!(panic("a.rs:1").is_same(&panic("a.rs:1")));
    }
}
