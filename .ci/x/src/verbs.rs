//! What each verb does, as the children it runs one after the other.

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
    for manifest in OTHERS {
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
    no_foreign_flags(&|name| std::env::var_os(name).is_some())?;
    match arguments {
        [test, filter @ ..] if test == "test" => in_sim("test").arguments(filter).run(),
        arguments => in_sim("run").argument("--").arguments(arguments).run(),
    }
}

pub(crate) fn fmt(arguments: &[String]) -> Outcome {
    none(arguments)?;
    Child::cargo("fmt --all --check").run()?;
    for manifest in OTHERS {
        Child::cargo("fmt --check --manifest-path")
            .argument(manifest)
            .run()?;
    }
    Ok(())
}

pub(crate) fn lint(arguments: &[String]) -> Outcome {
    none(arguments)?;
    lint_workspace()?;
    no_foreign_flags(&|name| std::env::var_os(name).is_some())?;
    in_sim("clippy")
        .arguments(&["--all-targets", "--", "-D", "warnings"].map(str::to_owned))
        .run()?;
    Child::cargo("clippy --target-dir target/fuzz --manifest-path")
        .argument(FUZZ)
        .arguments(&["--", "-D", "warnings"].map(str::to_owned))
        .run()
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
    for (manifest, options) in main.chain(OTHERS.map(|it| (it, unmissed))) {
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
    println!("{}", tools::CARGO_FUZZ.path()?.display());
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

fn none(arguments: &[String]) -> Outcome {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(misuse(format!("takes no argument, got {first:?}"))),
    }
}

pub(crate) fn misuse(reason: impl Into<String>) -> Failure {
    Failure {
        code: 2,
        reason: reason.into(),
    }
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const SIM: &str = "sim/Cargo.toml";
const FUZZ: &str = "fuzz/Cargo.toml";
/// The workspaces beside the main one.
const OTHERS: [&str; 2] = [SIM, FUZZ];
/// Every variable by which cargo takes compiler flags.
const FOREIGN_FLAGS: [&str; 3] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
];

#[cfg(test)]
mod tests {
    use super::{FOREIGN_FLAGS, no_foreign_flags, none, words};

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
    fn an_argument_where_none_belongs_is_refused() {
        assert_eq!(none(&[]), Ok(()));
        assert!(none(&words("now")).is_err_and(|it| it.code == 2));
    }
}
