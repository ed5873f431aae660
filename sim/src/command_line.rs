//! The verbs of the command line.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::world::{Options, Plant, World};
use crate::{run, swarm};

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
        } => Ok(run::run(World::draw(seed, options), full_trace)),
        Task::Meta { seed } => swarm::meta(seed),
        Task::Swarm {
            first,
            count,
            options,
        } => swarm::swarm(first, count, options),
        Task::Plants => swarm::plants(),
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
    },
    Swarm {
        first: u64,
        count: u64,
        options: Options,
    },
    Plants,
}

impl Task {
    fn parse(words: &[&str]) -> Option<Self> {
        match words {
            ["plant"] => return Some(Task::Plants),
            ["meta", seed] => {
                let seed = seed.parse().ok()?;
                return Some(Task::Meta { seed });
            }
            _ => {}
        }
        let (mut seed, mut count, mut first) = (None, None, None);
        let (mut full_trace, mut options) = (false, Options::default());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--log" if *words.next()? == "full" => full_trace = true,
                "--plant" => options.plant = Some(Plant::named(words.next()?)?),
                "--silent-loss" => options.silent_loss = true,
                "--seeds" => count = Some(words.next()?.parse().ok()?),
                "--from" => first = Some(words.next()?.parse().ok()?),
                number if seed.is_none() => seed = Some(number.parse().ok()?),
                _ => return None,
            }
        }
        match (count, seed, first) {
            (Some(count), None, first) => Some(Task::Swarm {
                first: first.unwrap_or_else(fresh_seed),
                count,
                options,
            }),
            (None, seed, None) => Some(Task::One {
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

const USAGE: &str = "\
usage: cargo x sim                       a fresh seed, printed first
       cargo x sim SEED [--log full]     this seed, with its whole trace
       cargo x sim meta SEED             the same seed twice in two processes, compared byte for byte
       cargo x sim --seeds N [--from S]  N seeds, each in a process of its own, up to the first failure
       cargo x sim plant                 each planted fault must be found within its number of seeds
       any run of seeds with --silent-loss: lost letters vanish, and nobody is told
       any run of seeds with --plant ack-before-sync | read-without-barrier | loses-synced-batch
";

#[cfg(test)]
mod tests {
    use super::{Options, Plant, Task};

    #[test]
    fn the_command_line_says_what_to_do() {
        let one = |seed, full_trace, plant| {
            Some(Task::One {
                seed,
                full_trace,
                options: Options {
                    plant,
                    silent_loss: false,
                },
            })
        };
        assert_eq!(Task::parse(&["7"]), one(7, false, None));
        assert_eq!(Task::parse(&["7", "--log", "full"]), one(7, true, None));
        let planted = ["--plant", "ack-before-sync", "7"];
        assert_eq!(
            Task::parse(&planted),
            one(7, false, Some(Plant::AckBeforeSync))
        );
        assert_eq!(Task::parse(&["meta", "1"]), Some(Task::Meta { seed: 1 }));
        assert_eq!(Task::parse(&["plant"]), Some(Task::Plants));
        let swarm = Task::Swarm {
            first: 3,
            count: 9,
            options: Options::default(),
        };
        assert_eq!(Task::parse(&["--seeds", "9", "--from", "3"]), Some(swarm));
        for wrong in [
            &["--log", "short"][..],
            &["x"],
            &["1", "2"],
            &["1", "--seeds", "2"],
        ] {
            assert_eq!(Task::parse(wrong), None, "{wrong:?}");
        }
    }
}
