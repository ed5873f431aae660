//! Many seeds, each in a process of its own, and the verbs that need more than one process.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{self, NO_VERDICT, Ran, judge_of};
use crate::plant::{Plant, Sowing};
use crate::scenario::{self, Scenario};
use crate::sometimes::{SHOWN, Situation, Tally, without_counts};
use crate::world::Options;

/// How many seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Seeds(u64),
    Time(Duration),
}

impl Limit {
    /// As many as fit into a time; none if there is none left.
    pub(crate) fn lasting(time: Duration) -> Option<Self> {
        (!time.is_zero()).then_some(Limit::Time(time))
    }
}

/// Runs seeds from `first` on, over all cores, up to the first failure. Prints how far it is, and the rate.
/// Tells which situations came about; one that never did is a failure where seeds were many, or `meets_all` asks for it.
pub(crate) fn swarm(
    first: u64,
    limit: Limit,
    options: &Options,
    meets_all: bool,
) -> io::Result<bool> {
    println!("from seed {first}: {limit:?}");
    let words = |seed: u64| {
        let mut words = vec![seed.to_string(), "--counts".to_owned()];
        words.extend(options.words());
        words
    };
    let swarm = Swarm::run(first, limit, &words, &|text| judge_of(text).is_some(), true)?;
    println!("{}", swarm.rate());
    if let Some((_, report)) = swarm.found {
        print!("{report}");
        return Ok(false);
    }
    if options.counts || meets_all || swarm.ran >= MANY_SEEDS {
        print!("{}", swarm.tally.table());
    }
    // Worlds of a shape that was asked for cannot meet everything.
    let drawn = Options {
        counts: false,
        ..options.clone()
    } == Options::default();
    let decided = |(situation, words): &&(Situation, &str)| {
        *situation == Situation::OrderFound && swarm.tally.times(words) > 0
    };
    if drawn && swarm.ran >= SOME_SEEDS && !Situation::ALL.iter().any(|it| decided(&it)) {
        println!("NOT ONE register was decided in {} seeds", swarm.ran);
        return Ok(false);
    }
    let never = swarm.tally.never();
    if never.is_empty() || !(meets_all || drawn && swarm.ran >= MANY_SEEDS) {
        return Ok(true);
    }
    for words in never {
        println!("NEVER in {} seeds: {words}", swarm.ran);
    }
    Ok(false)
}

/// As much as a change should pass before it is merged: seeds, what they met, and the planted faults.
pub(crate) fn pull_request() -> io::Result<bool> {
    let options = Options {
        counts: true,
        ..Options::default()
    };
    let kept = swarm(1, Limit::Seeds(PULL_REQUEST_SEEDS), &options, false)?;
    Ok(plants()? && kept)
}

/// Runs a seed twice, in two processes, and compares the complete traces. Answers whether they are equal and the run kept
/// every promise: what is only equally broken is told with its verdict.
pub(crate) fn meta(seed: u64, options: &Options) -> io::Result<bool> {
    let run = || {
        let mut words = vec![seed.to_string(), "--log".to_owned(), "full".to_owned()];
        words.extend(options.words());
        child::run(&words).map(|ran| ran.text)
    };
    let (one, other) = (run()?, run()?);
    let mut lines = one.lines().zip(other.lines()).enumerate();
    if let Some((number, (one, other))) = lines.find(|(_, (one, other))| one != other) {
        println!("NOT DETERMINISTIC seed={seed}: line {} differs", number + 1);
        println!("  {one}\n  {other}");
        return Ok(false);
    }
    if one.len() != other.len() {
        println!(
            "NOT DETERMINISTIC seed={seed}: {} and {} bytes",
            one.len(),
            other.len()
        );
        return Ok(false);
    }
    let lines = one.lines().count();
    println!(
        "equal seed={seed}: {lines} lines, {} bytes, twice the same",
        one.len()
    );
    if let Some(judge) = judge_of(&one) {
        println!("BROKEN seed={seed}, in both runs: {judge} objects");
        return Ok(false);
    }
    Ok(true)
}

/// Proves that the judges can fail: each planted fault must be found within its number of seeds, by each of the judges
/// that it is there for. Whoever else notices first, an assertion of consensus or another judge, proves nothing about them.
pub(crate) fn plants() -> io::Result<bool> {
    let (mut all, mut needed) = (true, Vec::new());
    for sowing in Plant::ALL {
        let mut last = 0;
        for judge in sowing.judges {
            match seeds_needed(sowing, judge)? {
                Some(seeds) => last = last.max(seeds),
                None => last = u64::MAX,
            }
        }
        all &= last < u64::MAX;
        needed.push(last);
    }
    let found = needed.iter().filter(|last| **last < u64::MAX).count();
    needed.sort_unstable();
    let median = needed.get(needed.len() / 2).copied().unwrap_or(u64::MAX);
    println!(
        "{} plants, {found} found; half of them within {median} seeds, at most {MEDIAN_MAX}",
        needed.len(),
    );
    Ok(all && median <= MEDIAN_MAX)
}

/// Sows one fault in seed after seed until this judge objects; none if it does not, or a run comes to no verdict.
fn seeds_needed(sowing: &Sowing, judge: &str) -> io::Result<Option<u64>> {
    let options = Options {
        plant: Some(sowing.plant),
        set: sowing.set.to_vec(),
        ..Options::default()
    };
    let words = |seed: u64| {
        let mut words = vec![seed.to_string()];
        words.extend(options.words());
        words
    };
    let (name, seeds) = (sowing.name, sowing.seeds);
    let ends = |text: &str| judge_of(text).is_some_and(|by| by == judge || by == NO_VERDICT);
    let swarm = Swarm::run(1, Limit::Seeds(seeds), &words, &ends, false)?;
    let others: Vec<String> = swarm
        .objections
        .iter()
        .filter(|(by, _)| *by != judge)
        .map(|(by, times)| format!("{by} {times}"))
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; others objected first in some: {}", others.join(", ")),
    };
    match &swarm.found {
        Some((seed, report)) if judge_of(report) == Some(judge) => {
            println!("{name}: {seed} seeds needed, at most {seeds}; judge: {judge}{others}");
            Ok(Some(*seed))
        }
        Some((seed, report)) => {
            println!("{name}: NO VERDICT in seed {seed}\n{report}");
            Ok(None)
        }
        None => {
            println!("{name}: NOT FOUND by {judge} within {seeds} seeds{others}");
            Ok(None)
        }
    }
}

/// Runs all worlds of a scenario.
pub(crate) fn scenario(scenario: &Scenario) -> io::Result<bool> {
    let words = |seed: u64| {
        let name = scenario.name.to_owned();
        vec!["scenario".to_owned(), name, seed.to_string()]
    };
    let (first, last) = (*scenario.seeds.start(), *scenario.seeds.end());
    let limit = Limit::Seeds(last + 1 - first);
    let swarm = Swarm::run(
        first,
        limit,
        &words,
        &|text| judge_of(text).is_some(),
        false,
    )?;
    if let Some((seed, report)) = swarm.found {
        println!("{}: BROKEN in world {seed}", scenario.name);
        print!("{report}");
        return Ok(false);
    }
    let (name, ran, times) = (scenario.name, swarm.ran, swarm.tally.times(SHOWN));
    if times == 0 {
        println!("{name}: NEVER came about in {ran} worlds");
        return Ok(false);
    }
    let issues = scenario::lesson(name).map(|lesson| format!("; etcd {:?}", lesson.issues));
    let issues = issues.unwrap_or_default();
    println!("{name}: holds in {ran} worlds, which had it {times} times{issues}");
    Ok(true)
}

/// Runs all scenarios.
pub(crate) fn scenarios() -> io::Result<bool> {
    let mut all = true;
    for one in scenario::all() {
        all &= scenario(one)?;
    }
    Ok(all)
}

/// What many seeds came to.
struct Swarm {
    ran: u64,
    virtual_seconds: f64,
    started: Instant,
    /// What children of this process had used before, such as a compiler that it was started by.
    cpu_seconds_before: f64,
    told: Instant,
    /// What the seeds met.
    tally: Tally,
    /// Which judges objected, and in how many seeds.
    objections: BTreeMap<String, u64>,
    /// The lowest seed that was looked for, and its output.
    found: Option<(u64, String)>,
}

impl Swarm {
    /// Runs `words` of one seed after the other until an output `is_found`.
    fn run(
        first: u64,
        limit: Limit,
        words: &(dyn Fn(u64) -> Vec<String> + Sync),
        is_found: &(dyn Fn(&str) -> bool + Sync),
        tells: bool,
    ) -> io::Result<Self> {
        let next = AtomicU64::new(first);
        let stop = AtomicBool::new(false);
        let started = Instant::now();
        let swarm = Swarm {
            ran: 0,
            virtual_seconds: 0.0,
            started,
            cpu_seconds_before: children_cpu_seconds(),
            told: started,
            tally: Tally::default(),
            objections: BTreeMap::new(),
            found: None,
        };
        let done = Mutex::new((swarm, None));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let over = match limit {
                    Limit::Seeds(count) => seed >= first.saturating_add(count),
                    Limit::Time(time) => started.elapsed() >= time,
                };
                if over {
                    return;
                }
                let ended = child::run(&words(seed));
                let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match ended {
                    Ok(ran) => done.0.take(seed, &ran, is_found, tells),
                    Err(error) => done.1 = Some(error),
                }
                if done.0.found.is_some() || done.1.is_some() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(work);
            }
        });
        let (swarm, error) = done
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        error.map_or(Ok(swarm), Err)
    }

    fn take(&mut self, seed: u64, ran: &Ran, is_found: &dyn Fn(&str) -> bool, tells: bool) {
        let Ran {
            text,
            errors,
            status,
        } = ran;
        self.ran += 1;
        self.virtual_seconds += virtual_seconds(text);
        self.tally.take(text);
        if let Some(judge) = judge_of(text) {
            *self.objections.entry(judge.to_owned()).or_default() += 1;
        }
        if tells && self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            println!("{}", self.rate());
        }
        let is_lowest = self.found.as_ref().is_none_or(|(other, _)| seed < *other);
        if is_lowest && is_found(text) {
            let text = without_counts(text);
            let report = format!("{text}{errors}seed {seed} ended with {status}\n");
            self.found = Some((seed, report));
        }
    }

    /// How many seeds so far, and how fast.
    fn rate(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu_minutes = (children_cpu_seconds() - self.cpu_seconds_before) / 60.0;
        format!(
            "{} seeds in {seconds:.1}s ({:.2} seeds/s), {:.2} hours of virtual time, {:.2} cluster-hours per CPU minute",
            self.ran,
            self.ran as f64 / seconds,
            self.virtual_seconds / 3600.0,
            self.virtual_seconds / 3600.0 / cpu_minutes.max(f64::MIN_POSITIVE),
        )
    }
}

fn virtual_seconds(verdict: &str) -> f64 {
    let field = verdict
        .split_whitespace()
        .find_map(|word| word.strip_prefix("virtual="));
    field
        .and_then(|field| field.strip_suffix('s')?.parse().ok())
        .unwrap_or(0.0)
}

/// The processor time of all children that ended, from the kernel's accounts.
fn children_cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let accounts = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = accounts.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

/// Half of the plants must be found within so many seeds.
const MEDIAN_MAX: u64 = 50;
/// So many seeds meet everything, unless the worlds have become too tame.
const MANY_SEEDS: u64 = 1000;
/// In so many seeds at least one register is small enough to be decided, or the judge of registers says nothing.
const SOME_SEEDS: u64 = 20;
/// Seeds for a change that is to be merged.
const PULL_REQUEST_SEEDS: u64 = 300;
/// The time between two words on how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::virtual_seconds;

    #[test]
    fn the_virtual_time_is_read_off_a_verdict() {
        assert_eq!(
            virtual_seconds("ok seed=1 members=3 virtual=12.500s events=9"),
            12.5
        );
        assert_eq!(virtual_seconds("FAILED durable"), 0.0);
    }
}
