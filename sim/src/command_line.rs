//! The verbs of the command line.

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::plant::Plant;
use crate::swarm::Limit;
use crate::world::{Options, World};
use crate::{knobs, perf, run, scenario, shrink, swarm};

/// Does what the command line asks for: 0 when every promise was kept, 1 when one was broken, 2 for a command line that
/// makes no sense, 3 when a process could not be started.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(task) = Task::parse(&words) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let kept = match task {
        Task::One {
            seed,
            full_trace,
            options,
        } => {
            let mut replay = vec![seed.to_string()];
            replay.extend(options.words());
            let world = World::draw(seed, &options);
            Ok(run::run(world, full_trace, &replay.join(" ")))
        }
        Task::Meta { seed, options } => swarm::meta(seed, &options),
        Task::Swarm {
            first,
            limit,
            options,
            meets_all,
        } => swarm::swarm(first, limit, &options, meets_all),
        Task::PullRequest => swarm::pull_request(),
        Task::Plants => swarm::plants(),
        Task::Perf { seed } => Ok(perf::perf(seed)),
        Task::Shrink { seed, options } => shrink::shrink(seed, &options),
        Task::Scenarios => swarm::scenarios(),
        Task::Scenario {
            name,
            seed,
            full_trace,
        } => {
            let scenario = scenario::named(&name).expect("its name was looked up");
            match seed {
                Some(seed) => Ok(scenario.run(seed, full_trace)),
                None => swarm::scenario(scenario),
            }
        }
    };
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run a seed in a process of its own: {error}");
            ExitCode::from(3)
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    One {
        seed: u64,
        full_trace: bool,
        options: Options,
    },
    Meta {
        seed: u64,
        options: Options,
    },
    Swarm {
        first: u64,
        limit: Limit,
        options: Options,
        meets_all: bool,
    },
    PullRequest,
    Shrink {
        seed: u64,
        options: Options,
    },
    Plants,
    Perf {
        seed: u64,
    },
    Scenarios,
    Scenario {
        name: String,
        seed: Option<u64>,
        full_trace: bool,
    },
}

/// The words after the verb, before it is clear what they mean together.
#[derive(Default)]
struct Words {
    seed: Option<u64>,
    limit: Option<Limit>,
    first: Option<u64>,
    full_trace: bool,
    meets_all: bool,
    options: Options,
}

impl Words {
    fn parse(words: &[&str]) -> Option<Self> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let options = &mut parsed.options;
            match *word {
                "--log" if *words.next()? == "full" => parsed.full_trace = true,
                "--plant" => options.plant = Some(Plant::named(words.next()?)?),
                "--fixed" => options.fixed = true,
                "--silent-loss" => options.silent_loss = true,
                "--members" => options.members = Some(members(words.next()?)?),
                "--without" => {
                    let numbers = words.next()?.split(',').map(|number| number.parse().ok());
                    options.without = numbers.collect::<Option<_>>()?;
                }
                "--set" => options.set = knobs::parse(words.next()?)?,
                // A sweep of nothing would keep every promise.
                "--seeds" => {
                    let seeds: u64 = words.next()?.parse().ok()?;
                    parsed.limit = (seeds > 0).then_some(Limit::Seeds(seeds));
                    parsed.limit?;
                }
                "--minutes" => {
                    let minutes: u64 = words.next()?.parse().ok()?;
                    parsed.limit = Limit::lasting(Duration::from_secs(60 * minutes));
                    parsed.limit?;
                }
                "--until" => {
                    let left = until(words.next()?, &local_time()?)?;
                    parsed.limit = Limit::lasting(left);
                    parsed.limit?;
                }
                "--hours" => {
                    let hours = words.next()?.parse().ok();
                    options.hours = hours.filter(|hours| (1..=HOURS_MAX).contains(hours))?;
                }
                "--counts" => options.counts = true,
                "--meet-all" => parsed.meets_all = true,
                "--from" => parsed.first = Some(words.next()?.parse().ok()?),
                number if parsed.seed.is_none() => parsed.seed = Some(number.parse().ok()?),
                _ => return None,
            }
        }
        Some(parsed)
    }

    /// A seed and what is asked of its world; none if there is more, which would be lost without a word.
    fn one_seed(self) -> Option<(u64, Options)> {
        let alone = self.limit.is_none() && self.first.is_none();
        let plain = alone && !self.full_trace && !self.meets_all;
        let seed = self.seed.filter(|_| plain)?;
        Some((seed, self.options))
    }
}

/// How long it is until a time of the day, given as `06:00`; the time now is given with seconds.
fn until(then: &str, now: &str) -> Option<Duration> {
    let seconds = |time: &str| {
        let mut total = 0;
        let mut parts = time.split(':');
        for most in [24, 60, 60] {
            let part: u64 = parts.next().unwrap_or("0").parse().ok()?;
            total = total * 60 + Some(part).filter(|part| *part < most)?;
        }
        parts.next().is_none().then_some(total)
    };
    let day = 24 * 3600;
    let left = (seconds(then)? + day - seconds(now)?) % day;
    Some(Duration::from_secs(left))
}

/// The time of the day where this runs, which the standard library does not know.
fn local_time() -> Option<String> {
    let output = Command::new("date").arg("+%H:%M:%S").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

fn members(word: &str) -> Option<u64> {
    word.parse()
        .ok()
        .filter(|members| (1..=9).contains(members))
}

impl Task {
    fn parse(words: &[&str]) -> Option<Self> {
        match words {
            ["pr"] => return Some(Task::PullRequest),
            ["plant"] => return Some(Task::Plants),
            ["perf"] => return Some(Task::Perf { seed: 1 }),
            ["perf", seed] => {
                let seed = seed.parse().ok()?;
                return Some(Task::Perf { seed });
            }
            ["scenario", "all"] => return Some(Task::Scenarios),
            ["scenario", name, rest @ ..] => {
                let words = Words::parse(rest)?;
                let name = scenario::named(name)?.name.to_owned();
                let plain = words.options == Options::default() && words.limit.is_none();
                return plain.then_some(Task::Scenario {
                    name,
                    seed: words.seed,
                    full_trace: words.full_trace,
                });
            }
            ["meta", rest @ ..] => {
                let (seed, options) = Words::parse(rest)?.one_seed()?;
                return Some(Task::Meta { seed, options });
            }
            ["shrink", rest @ ..] => {
                let (seed, options) = Words::parse(rest)?.one_seed()?;
                return Some(Task::Shrink { seed, options });
            }
            _ => {}
        }
        let Words {
            seed,
            limit,
            first,
            full_trace,
            meets_all,
            options,
        } = Words::parse(words)?;
        match (limit, seed, first) {
            (Some(limit), None, first) => Some(Task::Swarm {
                first: first.unwrap_or_else(fresh_seed),
                limit,
                options,
                meets_all,
            }),
            (None, seed, None) if !meets_all => Some(Task::One {
                seed: seed.unwrap_or_else(fresh_seed),
                full_trace,
                options,
            }),
            _ => None,
        }
    }
}

/// A seed nobody has chosen; it is printed before anything else.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| {
        u64::from(since.subsec_nanos()) + since.as_secs() % 1000 * 1_000_000_000
    })
}

/// So long a run still fits into a night.
const HOURS_MAX: u64 = 1000;

const USAGE: &str = "\
usage: cargo x sim                       a fresh seed, printed first
       cargo x sim SEED [--log full]     this seed, with its whole trace
       cargo x sim meta SEED             the same seed twice in two processes, compared byte for byte, with any of
                                         the options of runs below
       cargo x sim --seeds N [--from S]  N seeds, each in a process of its own, up to the first failure
       cargo x sim --minutes N           the same for N minutes
       cargo x sim --until HH:MM         the same until that time of the day; with --meet-all (and beyond 999 seeds)
                                         a situation that never came about is a failure, too
       cargo x sim pr                    300 seeds, how often which situation came about, and the planted faults
       cargo x sim scenario NAME [SEED]  the worlds in which a bug was found once
       cargo x sim scenario all          all of them
       cargo x sim shrink SEED           takes away whatever the seed does not need to fail, and writes a scenario
       cargo x sim perf [SEED]           latencies and throughput in virtual time, with links and disks modelled
       cargo x sim plant                 each planted fault must be found within its number of seeds
       any run of seeds with --counts: how often which situation came about
       any run of seeds with --silent-loss: lost letters vanish, and nobody is told
       any run of seeds with --hours N: so many hours of virtual time, in rounds
       any run of seeds with --fixed: the membership never changes
       any run of seeds with --members N, or --without 1,4: without these planned faults
       any run of seeds with --set NAME=N,…: sizes and odds of the world, as a shrunk seed names them
       any run of seeds with --plant NAME, one of those that `cargo x sim plant` lists
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_to_do() {
        let one = |seed, full_trace, plant| {
            Some(Task::One {
                seed,
                full_trace,
                options: Options {
                    plant,
                    ..Options::default()
                },
            })
        };
        assert_eq!(Task::parse(&["7"]), one(7, false, None));
        assert_eq!(Task::parse(&["7", "--log", "full"]), one(7, true, None));
        let planted = ["--plant", "ack-before-sync", "7"];
        let expected = one(7, false, Some(Plant::AckBeforeSync));
        assert_eq!(Task::parse(&planted), expected);
        let meta = |options| Some(Task::Meta { seed: 1, options });
        assert_eq!(Task::parse(&["meta", "1"]), meta(Options::default()));
        let silent = ["meta", "1", "--hours", "2", "--silent-loss"];
        let options = Options {
            hours: 2,
            silent_loss: true,
            ..Options::default()
        };
        assert_eq!(Task::parse(&silent), meta(options));
        assert_eq!(Task::parse(&["plant"]), Some(Task::Plants));
        let swarm = |limit| {
            Some(Task::Swarm {
                first: 3,
                limit,
                options: Options::default(),
                meets_all: false,
            })
        };
        let nine = Task::parse(&["--seeds", "9", "--from", "3"]);
        assert_eq!(nine, swarm(Limit::Seeds(9)));
        let minutes = Task::parse(&["--minutes", "2", "--from", "3"]);
        assert_eq!(minutes, swarm(Limit::Time(Duration::from_secs(120))));
        for wrong in [
            &["--log", "short"][..],
            &["x"],
            &["1", "2"],
            &["1", "--seeds", "2"],
            &["--members", "0"],
            &["scenario", "nothing"],
            &["shrink"],
            &["shrink", "1", "--seeds", "2"],
            &["meta"],
            &["meta", "1", "--log", "full"],
            &["--seeds", "0"],
            &["--minutes", "0"],
        ] {
            assert_eq!(Task::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_time_of_the_day_is_at_most_a_day_away() {
        let seconds = |then, now| until(then, now).map(|left| left.as_secs());
        assert_eq!(seconds("06:00", "05:59:30"), Some(30));
        assert_eq!(seconds("06:00", "06:00:01"), Some(24 * 3600 - 1));
        let now = until("06:00", "06:00:00").expect("a time of the day");
        assert_eq!(Limit::lasting(now), None, "nothing would run");
        for wrong in ["6", "24:00", "06:60", "six", "06:00:00:00", ""] {
            let left = until(wrong, "00:00:00");
            assert_eq!(left.is_some(), wrong == "6", "{wrong}");
        }
    }

    #[test]
    fn the_words_of_options_ask_for_the_same_options() {
        let options = Options {
            plant: Plant::named("leader-restore"),
            silent_loss: true,
            fixed: true,
            members: Some(5),
            without: vec![1, 12],
            set: vec![("clients", 1), ("crash_permille", 0)],
            hours: 3,
            plain: false,
            counts: false,
        };
        let words = options.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(Words::parse(&words).map(|it| it.options), Some(options));
    }
}
