//! The tests that come with the crate `etcd-client`, one process and one fresh server each.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Place;
use super::joiner::Joiner;
use super::server::Server;
use super::verdict::Ended;
use crate::command::{Child, Failure, Outcome};
use crate::python::Python;
use crate::tools;

pub(super) fn run(place: &Place) -> Result<Vec<Ended>, Failure> {
    let (_, etcdctl) = tools::etcd()?;
    let sources = sources(place)?;
    let protoc = protoc(place)?;
    let mut ended = Vec::new();
    for target in TARGETS {
        let tests = build(place, &sources, &protoc, target)?;
        let listed = Child::new(tests.clone(), "--list --include-ignored").output()?;
        for name in listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
        {
            let server = Server::start(&place.program, &place.built.join("server"), FLAGS)?;
            let endpoint = server.address().to_string();
            add_root(&etcdctl, &endpoint);
            let mut test = Child::new("timeout", TEST_SECONDS)
                .argument(tests.clone())
                .arguments(&["--include-ignored".to_owned(), "--exact".to_owned()])
                .argument(name)
                .variable(ENDPOINT, endpoint);
            let mut joiner = None;
            if name == JOINED {
                let joins = Joiner::start(&place.program, &place.built.join("joiner"), &server)?;
                test = test.variable(NODE4, joins.peer_url());
                joiner = Some(joins);
            }
            let outcome = test.run();
            drop(joiner);
            ended.push(Ended {
                name: format!("{target}::{name}"),
                passed: outcome.is_ok(),
            });
        }
    }
    Ok(ended)
}

/// The crate as it was published, in a folder of ours, with the one change it needs.
fn sources(place: &Place) -> Result<PathBuf, Failure> {
    let folder = place.built.join(format!("{CRATE}-{VERSION}"));
    let complete = folder.join("ready-to-build");
    let edits = format!("{EDITS:?}");
    if fs::read_to_string(&complete).is_ok_and(|made| made == edits) {
        return Ok(folder);
    }
    let published = fetch(place)?;
    let _ = fs::remove_dir_all(&folder);
    Child::new("cp", "-R")
        .argument(published.display().to_string())
        .argument(folder.display().to_string())
        .run()?;
    for (file, edits) in EDITS {
        edit(&folder.join(file), edits)?;
    }
    write(&complete, &edits)?;
    Ok(folder)
}

/// Where cargo keeps the sources of the crate, fetched now if they are not there.
fn fetch(place: &Place) -> Result<PathBuf, Failure> {
    let folder = place.built.join("fetch");
    fs::create_dir_all(folder.join("src"))
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let manifest = folder.join("Cargo.toml");
    write(
        &manifest,
        &format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [workspace]\n\n[dependencies]\n{CRATE} = \"={VERSION}\"\n"
        ),
    )?;
    write(&folder.join("src/lib.rs"), "")?;
    let metadata = Child::cargo("metadata --quiet --format-version 1 --manifest-path")
        .argument(manifest.display().to_string())
        .output()?;
    let wanted = format!("{CRATE}-{VERSION}/Cargo.toml");
    metadata
        .split('"')
        .find(|text| text.ends_with(&wanted))
        .and_then(|manifest| Path::new(manifest).parent())
        .map(Path::to_owned)
        .ok_or_else(|| Failure::new(format!("cargo does not say where {wanted} is")))
}

/// Replaces every `from` by its `to`. One that is not there means that the crate is another one.
fn edit(path: &Path, edits: &[(&str, &str)]) -> Outcome {
    let mut text = fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    for (from, to) in edits {
        if !text.contains(from) {
            return Err(Failure::new(format!("{}: no {from:?}", path.display())));
        }
        text = text.replace(from, to);
    }
    write(path, &text)
}

/// The compiler of the API's files, which the build of the crate starts: the one in a Python
/// package, so that no package of the system is needed.
fn protoc(place: &Place) -> Result<PathBuf, Failure> {
    let requirements = place.kept.join("requirements.txt");
    let python = Python::with(&place.built.join("python"), &requirements)?.child(None);
    let script = place.built.join("protoc");
    let call = format!("#!/bin/sh\nexec env {python} -m grpc_tools.protoc \"$@\"\n");
    write(&script, &call)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .map_err(|error| Failure::new(format!("{}: {error}", script.display())))?;
    Ok(script)
}

/// Builds one file of tests and answers the program.
fn build(place: &Place, sources: &Path, protoc: &Path, target: &str) -> Result<String, Failure> {
    let messages = Child::cargo("test --quiet --locked --no-run --message-format=json --test")
        .argument(target)
        .argument("--manifest-path")
        .argument(sources.join("Cargo.toml").display().to_string())
        .argument("--target-dir")
        .argument(place.built.join("build").display().to_string())
        .variable("PROTOC", protoc.display().to_string())
        .output()?;
    let mut programs = messages
        .split("\"executable\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    programs
        .next()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("cargo built no program of the tests {target}")))
}

/// The tests of authentication want a user `root` to be there. A server that has no
/// authentication refuses, and they fail.
fn add_root(etcdctl: &Path, endpoint: &str) {
    for words in ["user add root:rootpwd", "user grant-role root root"] {
        let added = Child::new(etcdctl.display().to_string(), words)
            .argument(format!("--endpoints={endpoint}"))
            .variable("ETCDCTL_API", "3")
            .succeeds();
        if !added {
            return;
        }
    }
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

const CRATE: &str = "etcd-client";
const VERSION: &str = "0.21.1";
/// The files of tests.
const TARGETS: &[&str] = &["client", "namespace"];
/// The settings the tests are written for.
const FLAGS: &[&str] = &["--auth-token-ttl=2", "--max-request-bytes=10240"];
/// Longer than the slowest, which waits for six tokens to expire.
const TEST_SECONDS: &str = "45";
/// The variable that tells a test where the server is.
const ENDPOINT: &str = "METASTORE_CLIENTS_ENDPOINT";
/// The test that adds a member, and the variable that tells it where that one is.
const JOINED: &str = "test_cluster";
const NODE4: &str = "METASTORE_CLIENTS_NODE4";
/// The crate is no member of our workspace, and its tests know one fixed port.
const EDITS: &[(&str, &[(&str, &str)])] = &[
    (
        "Cargo.toml",
        &[("[package]\n", "[workspace]\n\n[package]\n")],
    ),
    (
        "tests/testing.rs",
        &[
            (
                "pub const DEFAULT_TEST_ENDPOINT: &str = \"localhost:2379\";",
                "pub static DEFAULT_TEST_ENDPOINT: std::sync::LazyLock<&str> =\n    \
                 std::sync::LazyLock::new(|| std::env::var(\"METASTORE_CLIENTS_ENDPOINT\").unwrap().leak());",
            ),
            ("[DEFAULT_TEST_ENDPOINT]", "[*DEFAULT_TEST_ENDPOINT]"),
        ],
    ),
    (
        "tests/client.rs",
        &[
            ("(DEFAULT_TEST_ENDPOINT)", "(*DEFAULT_TEST_ENDPOINT)"),
            (
                "let node4 = \"http://node4:2380\";",
                "let node4 = std::env::var(\"METASTORE_CLIENTS_NODE4\").unwrap();",
            ),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::edit;

    #[test]
    fn an_edit_that_finds_nothing_is_refused() {
        let path = std::env::temp_dir().join(format!("x-edit-{}", std::process::id()));
        std::fs::write(&path, "let port = 2379;").expect("a file for the test");
        assert_eq!(edit(&path, &[("2379", "port()")]), Ok(()));
        let edited = std::fs::read_to_string(&path);
        assert!(edit(&path, &[("2379", "port()")]).is_err());
        std::fs::remove_file(&path).expect("the file is ours to remove");
        assert_eq!(edited.ok().as_deref(), Some("let port = port();"));
    }
}
