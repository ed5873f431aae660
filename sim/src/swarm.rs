//! Many seeds, each in a process of its own, and the verbs that need more than one process.

use std::env;
use std::io;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::world::{Options, Plant};

/// Runs `count` seeds from `first` on, over all cores, up to the first failure. Prints the rate.
pub(crate) fn swarm(first: u64, count: u64, options: Options) -> io::Result<bool> {
    println!("seeds {first}..{}", first.saturating_add(count));
    let started = Instant::now();
    let swarm = Swarm::run(first, count, options)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_minutes = children_cpu_seconds() / 60.0;
    println!(
        "{} seeds in {seconds:.1}s ({:.2} seeds/s), {:.2} hours of virtual time, {:.2} cluster-hours per CPU minute",
        swarm.ran,
        swarm.ran as f64 / seconds,
        swarm.virtual_seconds / 3600.0,
        swarm.virtual_seconds / 3600.0 / cpu_minutes.max(f64::MIN_POSITIVE),
    );
    match swarm.failure {
        None => Ok(true),
        Some((_, report)) => {
            print!("{report}");
            Ok(false)
        }
    }
}

/// Runs a seed twice, in two processes, and compares the complete traces.
pub(crate) fn meta(seed: u64) -> io::Result<bool> {
    let run = || {
        child(seed, Options::default(), true)
            .map(|it| String::from_utf8_lossy(&it.stdout).into_owned())
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
    Ok(lines > 1)
}

/// Proves that the judges can fail: each planted fault must be found within its number of seeds, and by a judge. An
/// assertion of consensus that notices first is a find too, but proves nothing about the judges.
pub(crate) fn plants() -> io::Result<bool> {
    let mut all = true;
    for (plant, name, seeds) in Plant::ALL {
        let options = Options {
            plant: Some(plant),
            ..Options::default()
        };
        let mut found = None;
        for seed in 1..=seeds {
            let output = child(seed, options, false)?;
            let report = String::from_utf8_lossy(&output.stdout).into_owned();
            found = judged(&report).map(str::to_owned);
            if found.is_some() {
                break;
            }
        }
        match &found {
            Some(verdict) => println!("{name}: {verdict} (at most {seeds} seeds)"),
            None => println!("{name}: NOT FOUND by any judge within {seeds} seeds"),
        }
        all &= found.is_some();
    }
    Ok(all)
}

/// The verdict of a judge; none if all was well or an assertion came first.
fn judged(report: &str) -> Option<&str> {
    let verdict = report.lines().find(|line| line.starts_with("FAILED "))?;
    (!verdict.starts_with("FAILED invariant ")).then_some(verdict)
}

/// What many seeds came to.
struct Swarm {
    ran: u64,
    virtual_seconds: f64,
    /// The lowest seed that failed, and its output.
    failure: Option<(u64, String)>,
}

impl Swarm {
    fn run(first: u64, count: u64, options: Options) -> io::Result<Self> {
        let next = AtomicU64::new(first);
        let stop = AtomicBool::new(false);
        let done = Mutex::new((
            Swarm {
                ran: 0,
                virtual_seconds: 0.0,
                failure: None,
            },
            None,
        ));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first.saturating_add(count) {
                    return;
                }
                let ended = child(seed, options, false);
                let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match ended {
                    Ok(output) => done.0.take(seed, &output),
                    Err(error) => done.1 = Some(error),
                }
                if done.0.failure.is_some() || done.1.is_some() {
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

    fn take(&mut self, seed: u64, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        self.ran += 1;
        if output.status.success() {
            self.virtual_seconds += virtual_seconds(&text);
            return;
        }
        if self.failure.as_ref().is_none_or(|(other, _)| seed < *other) {
            let errors = String::from_utf8_lossy(&output.stderr);
            let report = format!("{text}{errors}seed {seed} ended with {}\n", output.status);
            self.failure = Some((seed, report));
        }
    }
}

/// One seed in a process of its own.
fn child(seed: u64, options: Options, full_trace: bool) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(seed.to_string());
    command.args(options.words());
    if full_trace {
        command.args(["--log", "full"]);
    }
    command.output()
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

#[cfg(test)]
mod tests {
    use super::{judged, virtual_seconds};

    #[test]
    fn the_virtual_time_is_read_off_a_verdict() {
        assert_eq!(
            virtual_seconds("ok seed=1 members=3 virtual=12.500s events=9"),
            12.5
        );
        assert_eq!(virtual_seconds("FAILED durable"), 0.0);
    }

    #[test]
    fn an_assertion_is_not_a_verdict_of_a_judge() {
        let verdict = "FAILED durable seed=1 t=2s";
        assert_eq!(judged(&format!("world\n{verdict}\n")), Some(verdict));
        assert_eq!(judged("world\nFAILED invariant seed=1 t=2s"), None);
        assert_eq!(judged("world\nok seed=1"), None);
    }
}
