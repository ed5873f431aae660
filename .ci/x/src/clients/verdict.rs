//! How tests ended, the list of those that may fail, and whether the two agree.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::command::{Failure, Outcome};

/// One test that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    /// False for a test that failed, hung, or skipped itself.
    pub(super) passed: bool,
}

impl Ended {
    /// Reads lines of `passed NAME` and `failed NAME`, and last one of `ended NUMBER`: what a runner wrote that died
    /// midway, or left tests out, says nothing about the suite.
    pub(super) fn read_all(path: &Path) -> Result<Vec<Self>, Failure> {
        let text = read(path)?;
        Self::all(&text).map_err(|Failure { code, reason }| Failure {
            code,
            reason: format!("{}: {reason}", path.display()),
        })
    }

    fn all(text: &str) -> Result<Vec<Self>, Failure> {
        let mut lines: Vec<&str> = text.lines().collect();
        let last = lines.pop().and_then(|line| line.strip_prefix("ended "));
        let expected: Option<usize> = last.and_then(|number| number.parse().ok());
        let Some(expected) = expected else {
            return Err(Failure::new("the runner died before it was through"));
        };
        if lines.len() != expected {
            let ran = lines.len();
            return Err(Failure::new(format!(
                "{ran} tests ended, and there are {expected}"
            )));
        }
        lines.into_iter().map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self, Failure> {
        let (passed, name) = match line.split_once(' ') {
            Some(("passed", name)) => (true, name),
            Some(("failed", name)) => (false, name),
            _ => return Err(Failure::new(format!("not the end of a test: {line:?}"))),
        };
        Ok(Self {
            name: name.to_owned(),
            passed,
        })
    }
}

/// The tests that fail for a known reason.
#[derive(Debug)]
pub(super) struct Expectations(BTreeMap<String, String>);

impl Expectations {
    /// Reads a file of lines `NAME: reason`, with `#` before a remark.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(&read(path)?).map_err(|line| {
            Failure::new(format!(
                "{}: not `NAME: reason`, or twice: {line:?}",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut reasons = BTreeMap::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(": ") {
                Some((name, reason)) if !reason.trim().is_empty() => {
                    if reasons.insert(name.to_owned(), reason.to_owned()).is_some() {
                        return Err(line.to_owned());
                    }
                }
                _ => return Err(line.to_owned()),
            }
        }
        Ok(Self(reasons))
    }

    /// Compares the list with what happened. It has to be exact both ways, so that it stays true.
    pub(super) fn judge(&self, ended: &[Ended]) -> Tally {
        let mut tally = Tally::default();
        for Ended { name, passed } in ended {
            match (passed, self.0.get(name)) {
                (true, None) => tally.passed += 1,
                (false, Some(_)) => tally.expected += 1,
                (false, None) => {
                    tally.failed += 1;
                    tally.findings.push(format!("FAILED {name}"));
                }
                (true, Some(reason)) => {
                    tally.passed += 1;
                    let finding = format!("passes, take it off the list: {name}: {reason}");
                    tally.findings.push(finding);
                }
            }
        }
        for name in self.0.keys() {
            if !ended.iter().any(|it| it.name == *name) {
                tally.findings.push(format!("listed, but not run: {name}"));
            }
        }
        if ended.is_empty() {
            tally.findings.push("no test was run".to_owned());
        }
        tally
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    expected: usize,
    /// Every way in which the run was not as expected.
    pub(super) findings: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            expected,
            ..
        } = self;
        write!(
            out,
            "{passed} passed, {failed} failed, {expected} expected failures"
        )
    }
}

/// Tests that fail fail the run, with this code: which of them may is not for a runner to say. Any other code means that
/// the runner itself did not get through.
pub(super) fn got_through(outcome: Outcome) -> Outcome {
    match outcome {
        Err(failure) if failure.code != TESTS_FAILED => Err(failure),
        Err(failure) => {
            eprintln!("cargo x: {failure}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// As pytest and node say it.
const TESTS_FAILED: u8 = 1;

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::{Ended, Expectations, got_through};
    use crate::command::Failure;

    fn tally(list: &str, ends: &str) -> (String, usize) {
        let ended: Vec<Ended> = ends
            .lines()
            .map(|line| Ended::parse(line).expect("an end"))
            .collect();
        let tally = Expectations::parse(list).expect("a list").judge(&ended);
        (tally.to_string(), tally.findings.len())
    }

    #[test]
    fn a_run_as_the_list_says_has_no_findings() {
        let list = "# a remark\n\na::b: not built: yet\n";
        assert_eq!(
            tally(list, "passed c d\nfailed a::b"),
            ("1 passed, 0 failed, 1 expected failures".to_owned(), 0)
        );
    }

    #[test]
    fn whatever_the_list_does_not_say_is_a_finding() {
        assert_eq!(tally("", "passed c\nfailed a").1, 1, "fails, not listed");
        assert_eq!(tally("a: why", "passed a").1, 1, "listed, passes");
        assert_eq!(tally("a: why", "passed c").1, 1, "listed, not run");
        assert_eq!(tally("", "").1, 1, "nothing ran");
    }

    #[test]
    fn a_runner_that_died_midway_is_not_judged_on_what_had_ended() {
        let all = |text| Ended::all(text).map(|ended| ended.len());
        assert_eq!(all("passed a\nfailed b\nended 2\n"), Ok(2));
        for wrong in [
            "",
            "passed a\n",
            "passed a\nended 2\n",
            "passed a\nended\n",
            "ended 1\n",
            "ended 1\npassed a\n",
        ] {
            assert!(all(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(all("ended 0\n"), Ok(0), "which the list then refuses");
        let ended_with = |code| {
            let reason = "why".to_owned();
            got_through(Err(Failure { code, reason }))
        };
        assert_eq!(ended_with(1), Ok(()));
        for code in [2, 3, 127, 137] {
            assert!(ended_with(code).is_err_and(|it| it.code == code));
        }
    }

    #[test]
    fn a_line_without_a_reason_or_said_twice_is_refused() {
        for wrong in ["a", "a:", "a: ", "a: b\na: c"] {
            assert!(Expectations::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "passed", "skipped a"] {
            assert!(Ended::parse(wrong).is_err(), "{wrong}");
        }
    }
}
