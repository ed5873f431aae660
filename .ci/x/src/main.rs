//! The developer's loop: `cargo x <verb>`. This file is the list of verbs and nothing else.

#![forbid(unsafe_code)]

mod clients;
mod cluster;
mod command;
mod fuzz;
mod python;
mod tools;
mod verbs;

use std::process::ExitCode;

use command::Outcome;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", list());
        return ExitCode::from(2);
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        eprint!("cargo x: there is no verb {name:?}\n{}", list());
        return ExitCode::from(2);
    };
    match (verb.act)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cargo x {name}: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// One thing `cargo x` can be asked to do.
struct Verb {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    act: fn(&[String]) -> Outcome,
}

/// The verbs, one a line, as they are shown to somebody who asked for none of them.
fn list() -> String {
    let mut text = String::from("usage: cargo x <verb>\n\n");
    for verb in VERBS {
        let call = format!("{} {}", verb.name, verb.arguments);
        text.push_str(&format!("  {call:<24} {}\n", verb.about));
    }
    text
}

const fn verb(
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    act: fn(&[String]) -> Outcome,
) -> Verb {
    Verb {
        name,
        arguments,
        about,
        act,
    }
}

#[rustfmt::skip]
const VERBS: &[Verb] = &[
    verb("check", "", "seconds: format, lints of the workspace, unit tests of the core", verbs::check),
    verb("test", "[filter…]", "minutes: every unit and real-socket test of the product", verbs::test),
    verb("fix", "", "the only verb that edits files: format, and lints that can mend themselves", verbs::fix),
    verb("verify", "", "read-only gate: check, test, docs, deny, tidy", verbs::verify),
    verb("bench", "[name]", "criterion benches, all or one", verbs::bench),
    verb("cluster", "[--dev] [flag…]", "three members on this machine until Ctrl-C, their data under target/cluster", cluster::cluster),
    verb("compare", "[option…]", "etcd and MetaStore side by side under the load generator, release builds", verbs::compare),
    verb("clients", "[name]", "minutes: the suites of real clients against this server, all or one", clients::clients),
    verb("sim", "[test|argument…]", "the simulator or its own tests, in its own workspace and target directory", verbs::sim),
    verb("fuzz", "NAME|all [time]", "one fuzz target, or all on all processors: so many seconds, or --minutes N each", fuzz::fuzz),
    verb("fmt", "", "is everything formatted?", verbs::fmt),
    verb("lint", "", "clippy over every workspace that is there, warnings are errors", verbs::lint),
    verb("docs", "", "do the docs build without a warning?", verbs::docs),
    verb("deny", "[--advisories]", "licences, bans and sources of dependencies; advisories need a network", verbs::deny),
    verb("tidy", "", "the rules of the house, and the tests of those rules", verbs::tidy),
    verb("etcd", "", "install etcd under target/ for tests that compare; print its two paths", verbs::etcd),
    verb("tools", "", "install the pinned cargo tools under target/", verbs::tools),
];

#[cfg(test)]
mod tests {
    use super::{VERBS, list};

    #[test]
    fn the_list_shows_every_verb_once() {
        let shown = list();
        for verb in VERBS {
            let lines = shown
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(verb.name));
            assert_eq!(lines.count(), 1, "{}", verb.name);
        }
    }
}
