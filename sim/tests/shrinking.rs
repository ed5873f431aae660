//! A planted fault, shrunk by the program as it is used: what comes out is smaller, and still fails.

#![cfg(madsim)]

use std::process::{Command, Output};

fn sim(words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_metastore-sim");
    let ended = Command::new(program).args(words).output();
    ended.expect("the simulator can be started")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_left_of_a_planted_fault_is_smaller_and_still_fails() {
    let output = sim(&["shrink", "1", "--plant", "vote-not-durable"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let verdict = report.lines().find(|line| line.starts_with("FAILED "));
    let judge = verdict.and_then(|line| line.split_whitespace().nth(1));
    let judge = judge.unwrap_or_else(|| panic!("no verdict: {report}"));

    let sizes = report.lines().find_map(|line| line.split_once("weight "));
    let (_, sizes) = sizes.unwrap_or_else(|| panic!("no sizes: {report}"));
    let numbers: Vec<u64> = sizes
        .split(|it: char| !it.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(numbers[0] * 2 < numbers[1], "{sizes}");
    assert!(report.contains("pub(super) const SCENARIO: Scenario"));

    let replay = report
        .lines()
        .find_map(|line| line.split_once("replay: cargo x sim "));
    let (_, replay) = replay.unwrap_or_else(|| panic!("no replay: {report}"));
    let words: Vec<&str> = replay.split_whitespace().collect();
    assert!(words.contains(&"--set"), "{replay}");
    let again = text(&sim(&words));
    let verdict = format!("FAILED {judge} ");
    assert!(
        again.lines().any(|line| line.starts_with(&verdict)),
        "{again}"
    );
}

#[test]
fn a_seed_that_keeps_its_promises_is_not_shrunk() {
    let output = sim(&["shrink", "1", "--set", "safety_act=500,clients=1"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("seed 1 keeps every promise"));
}
