//! The suites of real clients, run against a server of ours, and what may fail in them.

mod crate_suite;
mod joiner;
mod node_suite;
mod python_suite;
mod server;
mod verdict;

use std::path::PathBuf;
use std::time::Instant;

use crate::command::{Failure, Outcome, at_root};
use verdict::{Ended, Expectations};

/// `cargo x clients`, with the name of one suite or without.
pub(crate) fn clients(arguments: &[String]) -> Outcome {
    let chosen: Vec<&Suite> = match arguments {
        [] => SUITES.iter().collect(),
        [name] => SUITES.iter().filter(|suite| suite.name == name).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        return Err(Failure {
            code: 2,
            reason: format!("expected one of: {}, or nothing", names.join(", ")),
        });
    }
    let program = server::program()?;
    let mut broken = Vec::new();
    for suite in chosen {
        if let Err(failure) = suite.check(program.clone()) {
            eprintln!("{}: {failure}", suite.name);
            broken.push(suite.name);
        }
    }
    match broken.as_slice() {
        [] => Ok(()),
        names => Err(Failure::new(format!(
            "not as expected: {}",
            names.join(", ")
        ))),
    }
}

/// The tests of one client.
struct Suite {
    /// Also the folder under `.ci/clients/` and under `target/clients/`.
    name: &'static str,
    run: fn(&Place) -> Result<Vec<Ended>, Failure>,
}

/// What a suite is run with.
struct Place {
    /// The server to start.
    program: PathBuf,
    /// What the repository keeps for this suite.
    kept: PathBuf,
    /// Where the suite is unpacked, built and run.
    built: PathBuf,
}

impl Suite {
    fn check(&self, program: PathBuf) -> Outcome {
        let place = Place {
            program,
            kept: at_root(KEPT).join(self.name),
            built: at_root(BUILT).join(self.name),
        };
        std::fs::create_dir_all(&place.built)
            .map_err(|error| Failure::new(format!("{}: {error}", place.built.display())))?;
        let list = place.kept.join("expected_failures.txt");
        let expectations = Expectations::read(&list)?;
        let started = Instant::now();
        let ended = (self.run)(&place)?;
        let tally = expectations.judge(&ended);
        for finding in &tally.findings {
            println!("{}: {finding}", self.name);
        }
        let seconds = started.elapsed().as_secs();
        println!("{}: {tally} ({seconds} s)", self.name);
        if tally.findings.is_empty() {
            return Ok(());
        }
        let count = tally.findings.len();
        Err(Failure::new(format!(
            "{count} tests were not as {} says",
            list.display()
        )))
    }
}

const SUITES: &[Suite] = &[
    Suite {
        name: "etcd-client",
        run: crate_suite::run,
    },
    Suite {
        name: "python-etcd3",
        run: python_suite::etcd3,
    },
    Suite {
        name: "aetcd",
        run: python_suite::aetcd,
    },
    Suite {
        name: "node-etcd3",
        run: node_suite::run,
    },
];

/// What the repository keeps, from the root.
const KEPT: &str = ".ci/clients";
/// Where suites are unpacked, built and run, from the root.
const BUILT: &str = "target/clients";

#[cfg(test)]
mod tests {
    use super::{Expectations, KEPT, SUITES, at_root, clients};

    #[test]
    fn every_suite_has_a_list_of_what_may_fail() {
        for suite in SUITES {
            let list = at_root(KEPT).join(suite.name).join("expected_failures.txt");
            assert!(Expectations::read(&list).is_ok(), "{}", list.display());
        }
    }

    #[test]
    fn an_unknown_suite_is_refused_before_anything_is_built() {
        let refused = clients(&["etcd4".to_owned()]).expect_err("there is no such suite");
        assert_eq!(refused.code, 2);
        for suite in SUITES {
            assert!(refused.reason.contains(suite.name), "{refused}");
        }
    }
}
