//! What each verb does, as the children it runs one after the other.

use std::time::Duration;

use crate::command::{Child, Failure, Outcome, at_root};
use crate::tools;

pub(crate) fn check(arguments: &[String]) -> Outcome {
    none(arguments)?;
    fmt(&[])?;
    lint_workspace()?;
    Child::cargo("test --package metastore-core --lib").run()
}

/// The tests of the product. Those of this package are the rules of the house: `tidy` runs them.
pub(crate) fn test(arguments: &[String]) -> Outcome {
    Child::cargo("test --workspace --exclude x --no-fail-fast")
        .arguments(arguments)
        .run()
}

pub(crate) fn fix(arguments: &[String]) -> Outcome {
    none(arguments)?;
    Child::cargo("clippy --workspace --all-targets --fix --allow-dirty --allow-staged").run()?;
    Child::cargo("fmt --all").run()?;
    for manifest in others() {
        Child::cargo("fmt --manifest-path")
            .argument(manifest)
            .run()?;
    }
    Ok(())
}

pub(crate) fn verify(arguments: &[String]) -> Outcome {
    none(arguments)?;
    for part in [check, test, docs, deny, tidy] {
        part(&[])?;
    }
    Ok(())
}

pub(crate) fn bench(arguments: &[String]) -> Outcome {
    let manifest = std::fs::read_to_string(at_root("benches/Cargo.toml")).unwrap_or_default();
    if !manifest.contains("[[bench]]") && !at_root("benches/benches").is_dir() {
        return Err(Failure::new(
            "not there: the package metastore-bench declares no bench",
        ));
    }
    let benches = Child::cargo("bench --package metastore-bench");
    match arguments.split_first() {
        None => benches.argument("--benches").run(),
        Some((name, rest)) => benches
            .arguments(&["--bench".to_owned(), name.clone()])
            .arguments(rest)
            .run(),
    }
}

pub(crate) fn compare(arguments: &[String]) -> Outcome {
    let (etcd, _) = tools::etcd()?;
    Child::cargo(
        "build --release --target-dir target --package metastore --package metastore-bench --bins",
    )
    .run()?;
    let built = |name: &str| at_root("target/release").join(name).display().to_string();
    Child::new(built("metastore-bench"), "compare")
        .arguments(&["--etcd".to_owned(), etcd.display().to_string()])
        .arguments(&["--metastore".to_owned(), built("metastore")])
        .arguments(arguments)
        .run()
}

pub(crate) fn sim(arguments: &[String]) -> Outcome {
    there(SIM)?;
    no_foreign_flags(&|name| std::env::var_os(name).is_some())?;
    match arguments {
        [test, filter @ ..] if test == "test" => in_sim("test").arguments(filter).run(),
        arguments => in_sim("run").argument("--").arguments(arguments).run(),
    }
}

pub(crate) fn fuzz(arguments: &[String]) -> Outcome {
    there(FUZZ)?;
    let (name, each) = fuzz_task(arguments)?;
    let bin = tools::CARGO_FUZZ.path()?;
    let known = cargo_fuzz(&bin, "list").output()?;
    let targets: Vec<&str> = known.lines().map(str::trim).collect();
    let chosen: Vec<&str> = match name {
        "all" if !targets.is_empty() => targets,
        name if targets.contains(&name) => vec![name],
        _ => {
            let message = format!("no fuzz target {name:?}; there is: {}", targets.join(" "));
            return Err(misuse(message));
        }
    };
    for target in chosen {
        cargo_fuzz(&bin, "run --target-dir target/fuzz")
            .argument(target)
            .argument("--")
            .argument(format!("-max_total_time={}", each.as_secs()))
            .run()?;
    }
    Ok(())
}

/// Which targets, one after the other, and for how long each.
fn fuzz_task(arguments: &[String]) -> Result<(&str, Duration), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--minutes", minutes] => Ok(("all", 60 * parse_seconds(minutes)?)),
        [name, "--minutes", minutes] => Ok((name, 60 * parse_seconds(minutes)?)),
        [name] => Ok((name, FUZZ_SECONDS)),
        [name, seconds] => Ok((name, parse_seconds(seconds)?)),
        _ => Err(misuse("expected the name of a target, or all")),
    }
}

pub(crate) fn fmt(arguments: &[String]) -> Outcome {
    none(arguments)?;
    Child::cargo("fmt --all --check").run()?;
    for manifest in others() {
        Child::cargo("fmt --check --manifest-path")
            .argument(manifest)
            .run()?;
    }
    Ok(())
}

pub(crate) fn lint(arguments: &[String]) -> Outcome {
    none(arguments)?;
    lint_workspace()?;
    if at_root(SIM).is_file() {
        no_foreign_flags(&|name| std::env::var_os(name).is_some())?;
        in_sim("clippy")
            .arguments(&["--all-targets", "--", "-D", "warnings"].map(str::to_owned))
            .run()?;
    }
    Ok(())
}

pub(crate) fn docs(arguments: &[String]) -> Outcome {
    none(arguments)?;
    Child::cargo("doc --workspace --no-deps --document-private-items")
        .variable("RUSTDOCFLAGS", "-D warnings")
        .run()
}

/// The advisory database is fetched from a git server, which not every machine that builds can
/// reach: it is asked only on request.
pub(crate) fn deny(arguments: &[String]) -> Outcome {
    let checks = match arguments {
        [] => "bans licenses sources",
        [only] if only == "--advisories" => "advisories",
        _ => return Err(misuse("expected nothing, or --advisories")),
    };
    let bin = tools::CARGO_DENY.path()?.display().to_string();
    let main = std::iter::once(("Cargo.toml", ""));
    // Beside the product, what only the product needs is not missed.
    let unmissed = "--allow license-not-encountered --allow license-exception-not-encountered";
    for (manifest, options) in main.chain(others().map(|it| (it, unmissed))) {
        Child::new(bin.clone(), "--all-features --manifest-path")
            .argument(manifest)
            .arguments(&words("--config deny.toml check"))
            .arguments(&words(options))
            .arguments(&words(checks))
            .run()?;
    }
    Ok(())
}

pub(crate) fn tidy(arguments: &[String]) -> Outcome {
    Child::cargo("test --package x").arguments(arguments).run()
}

pub(crate) fn etcd(arguments: &[String]) -> Outcome {
    none(arguments)?;
    let (etcd, etcdctl) = tools::etcd()?;
    println!("{}\n{}", etcd.display(), etcdctl.display());
    Ok(())
}

pub(crate) fn tools(arguments: &[String]) -> Outcome {
    none(arguments)?;
    println!("{}", tools::CARGO_DENY.path()?.display());
    if at_root(FUZZ).is_file() {
        println!("{}", tools::CARGO_FUZZ.path()?.display());
    }
    Ok(())
}

fn lint_workspace() -> Outcome {
    Child::cargo("clippy --workspace --all-targets -- -D warnings").run()
}

/// Cargo on the simulator: its own workspace and target directory, and the flag that turns its
/// libraries into simulated ones, so that none of the three ever reaches a build of the product.
fn in_sim(verb: &str) -> Child {
    Child::cargo(verb)
        .arguments(&words("--target-dir target/sim --manifest-path"))
        .argument(SIM)
        .variable("RUSTFLAGS", "--cfg madsim")
}

/// The simulator is built with flags of its own. Flags of the caller would either replace them,
/// and a simulator that does not simulate would run, or be dropped without a word: so neither.
fn no_foreign_flags(is_set: &dyn Fn(&str) -> bool) -> Outcome {
    match FOREIGN_FLAGS.iter().find(|name| is_set(name)) {
        None => Ok(()),
        Some(name) => Err(misuse(format!(
            "{name} is set. The simulator is built with flags of its own, and yours would be \
             lost or would undo them: unset {name} and try again"
        ))),
    }
}

/// Cargo-fuzz on the nightly toolchain; without one, on the pinned toolchain told to accept
/// nightly's flags.
fn cargo_fuzz(bin: &std::path::Path, verb: &str) -> Child {
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

/// The manifests of the workspaces beside the main one that are there.
fn others() -> impl Iterator<Item = &'static str> {
    [SIM, FUZZ]
        .into_iter()
        .filter(|manifest| at_root(manifest).is_file())
}

fn there(manifest: &str) -> Outcome {
    if at_root(manifest).is_file() {
        return Ok(());
    }
    Err(Failure::new(format!("not there: {manifest}")))
}

fn none(arguments: &[String]) -> Outcome {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(misuse(format!("takes no argument, got {first:?}"))),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, Failure> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(misuse(format!("expected a length of time, got {text:?}"))),
    }
}

fn misuse(reason: impl Into<String>) -> Failure {
    Failure {
        code: 2,
        reason: reason.into(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const SIM: &str = "sim/Cargo.toml";
const FUZZ: &str = "fuzz/Cargo.toml";
/// How long one fuzz target runs unless told.
const FUZZ_SECONDS: Duration = Duration::from_secs(60);
/// Every variable by which cargo takes compiler flags.
const FOREIGN_FLAGS: [&str; 3] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FOREIGN_FLAGS, fuzz_task, no_foreign_flags, none, parse_seconds, words};

    #[test]
    fn the_simulator_refuses_flags_of_the_caller_by_name() {
        assert_eq!(no_foreign_flags(&|_| false), Ok(()));
        for name in FOREIGN_FLAGS {
            let refused = no_foreign_flags(&|asked| asked == name);
            let failure = refused.expect_err("flags would be lost");
            assert_eq!(failure.code, 2);
            assert!(failure.reason.starts_with(name), "{failure}");
        }
    }

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
            fuzz_task(&words).map(|(name, each)| (name.to_owned(), each.as_secs()))
        };
        assert_eq!(task("txn_checks"), Ok(("txn_checks".to_owned(), 60)));
        assert_eq!(task("all 20"), Ok(("all".to_owned(), 20)));
        assert_eq!(task("--minutes 3"), Ok(("all".to_owned(), 180)));
        assert_eq!(task("all --minutes 2"), Ok(("all".to_owned(), 120)));
        assert!(task("").is_err_and(|it| it.code == 2));
        assert!(task("all --minutes 0").is_err_and(|it| it.code == 2));
    }

    #[test]
    fn an_argument_where_none_belongs_is_refused() {
        assert_eq!(none(&[]), Ok(()));
        assert!(none(&words("now")).is_err_and(|it| it.code == 2));
    }
}
