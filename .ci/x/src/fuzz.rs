//! Fuzz targets: one with its output shown, or all of them, as many at a time as there are processors.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::command::{Child, Failure, Outcome, at_root};
use crate::tools;
use crate::verbs::{misuse, words};

pub(crate) fn fuzz(arguments: &[String]) -> Outcome {
    let (name, each) = task(arguments)?;
    let bin = tools::CARGO_FUZZ.path()?;
    let known = cargo_fuzz(&bin, "list").output()?;
    let targets: Vec<&str> = known.lines().map(str::trim).collect();
    match name {
        "all" if !targets.is_empty() => all(&bin, &targets, each),
        name if targets.contains(&name) => run(&bin, name, each).run(),
        _ => {
            let message = format!("no fuzz target {name:?}; there is: {}", targets.join(" "));
            Err(misuse(message))
        }
    }
}

/// Which targets, and for how long each.
fn task(arguments: &[String]) -> Result<(&str, Duration), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--minutes", minutes] => Ok(("all", 60 * parse_seconds(minutes)?)),
        [name, "--minutes", minutes] => Ok((name, 60 * parse_seconds(minutes)?)),
        [name] => Ok((name, SECONDS)),
        [name, seconds] => Ok((name, parse_seconds(seconds)?)),
        _ => Err(misuse("expected the name of a target, or all")),
    }
}

/// Each target has a processor of its own while it runs, and a log; the failure of one leaves the others alone.
fn all(bin: &Path, targets: &[&str], each: Duration) -> Outcome {
    cargo_fuzz(bin, "build --target-dir target/fuzz").run()?;
    std::fs::create_dir_all(at_root(LOGS))
        .map_err(|error| Failure::new(format!("cannot make {LOGS}: {error}")))?;
    let waiting = Mutex::new(targets.iter());
    let failed = Mutex::new(Vec::new());
    let next = || {
        waiting
            .lock()
            .expect("nobody panics with it")
            .next()
            .copied()
    };
    let work = || {
        while let Some(target) = next() {
            if !in_background(bin, target, each) {
                failed.lock().expect("nobody panics with it").push(target);
            }
        }
    };
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::new(format!("failed: {}", failed.join(" ")))),
    }
}

/// Runs a target into its log and prints the log's last word, or what there is to know of its failure.
fn in_background(bin: &Path, target: &str, each: Duration) -> bool {
    let log = at_root(LOGS).join(target).with_extension("log");
    let outcome = run(bin, target, each).run_into(&log);
    let text = std::fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match outcome {
        Ok(()) => println!("{target}: {}", last_word(&text)),
        Err(ref failure) => {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LINES_SHOWN);
            println!("{target}: {failure}\n{}", lines[from..].join("\n"));
            println!("{target}: all of it is in {}", log.display());
        }
    }
    outcome.is_ok()
}

/// How many inputs were run, as libFuzzer says it at the end.
fn last_word(log: &str) -> &str {
    let done = log.lines().rev().find(|line| line.starts_with("Done "));
    done.unwrap_or("ended without a word")
}

fn run(bin: &Path, target: &str, each: Duration) -> Child {
    cargo_fuzz(bin, "run --target-dir target/fuzz")
        .argument(target)
        .argument("--")
        .argument(format!("-max_total_time={}", each.as_secs()))
}

/// Cargo-fuzz on the nightly toolchain; without one, on the pinned toolchain told to accept
/// nightly's flags.
fn cargo_fuzz(bin: &Path, verb: &str) -> Child {
    let (word, rest) = verb.split_once(' ').unwrap_or((verb, ""));
    let bin = bin.display().to_string();
    let nightly = Child::new("rustup", "run nightly rustc --version").succeeds();
    let child = if nightly {
        Child::new("rustup", "run nightly").argument(bin)
    } else {
        Child::new(bin, "").variable("RUSTC_BOOTSTRAP", "1")
    };
    child
        .arguments(&["fuzz".to_owned(), word.to_owned()])
        .arguments(&words("--fuzz-dir fuzz"))
        .arguments(&words(rest))
}

fn parse_seconds(text: &str) -> Result<Duration, Failure> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(misuse(format!("expected a length of time, got {text:?}"))),
    }
}

/// How long a target runs unless told.
const SECONDS: Duration = Duration::from_secs(60);
/// Where the output of targets goes that run beside each other.
const LOGS: &str = "target/fuzz/logs";
/// Lines of a failed target that are printed.
const LINES_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_positive_number_of_seconds() {
        assert_eq!(parse_seconds("7"), Ok(Duration::from_secs(7)));
        for wrong in ["0", "-1", "1m", ""] {
            assert!(
                parse_seconds(wrong).is_err_and(|it| it.code == 2),
                "{wrong}"
            );
        }
    }

    #[test]
    fn fuzzing_takes_seconds_or_minutes_for_each_target() {
        let task = |text: &str| {
            let words = words(text);
            task(&words).map(|(name, each)| (name.to_owned(), each.as_secs()))
        };
        assert_eq!(task("txn_checks"), Ok(("txn_checks".to_owned(), 60)));
        assert_eq!(task("all 20"), Ok(("all".to_owned(), 20)));
        assert_eq!(task("--minutes 3"), Ok(("all".to_owned(), 180)));
        assert_eq!(task("all --minutes 2"), Ok(("all".to_owned(), 120)));
        assert!(task("").is_err_and(|it| it.code == 2));
        assert!(task("all --minutes 0").is_err_and(|it| it.code == 2));
    }

    #[test]
    fn the_last_word_of_a_log_is_how_much_was_run() {
        let log = "#1 INITED\nDone 7 runs in 2 second(s)\nstat::peak 3\n";
        assert_eq!(last_word(log), "Done 7 runs in 2 second(s)");
        assert_eq!(last_word("==1== ERROR"), "ended without a word");
    }
}
