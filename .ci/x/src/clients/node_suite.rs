//! Scenarios of our own, driven through the Node package `etcd3`.

use super::Place;
use super::server::Server;
use super::verdict::{Ended, got_through};
use crate::command::{Child, Failure};

pub(super) fn run(place: &Place) -> Result<Vec<Ended>, Failure> {
    for program in ["node", "npm"] {
        if !Child::new(program, "--version").succeeds() {
            return Err(Failure::new(format!(
                "there is no `{program}` on this machine: these scenarios need Node.js 20 or later"
            )));
        }
    }
    install(place)?;
    let ends = place.built.join("ends.txt");
    let _ = std::fs::remove_file(&ends);
    let server = Server::start(&place.program, &place.built.join("server"), &[])?;
    let outcome = Child::new(
        "node",
        "--test --test-reporter=spec --test-reporter-destination=stdout",
    )
    .argument("--test-reporter=./ends.mjs")
    .argument(format!("--test-reporter-destination={}", ends.display()))
    .arguments(&FILES.map(|name| format!("{name}.test.mjs")))
    .inside(place.built.clone())
    .variable(
        "METASTORE_CLIENTS_ENDPOINT",
        format!("http://{}", server.address()),
    )
    .run();
    got_through(outcome)?;
    Ended::read_all(&ends)
}

/// Node looks for packages beside the file that wants them, so the scenarios go to the packages.
fn install(place: &Place) -> Result<(), Failure> {
    let built = place.built.display().to_string();
    Child::new("cp", "-R")
        .argument(format!("{}/.", place.kept.display()))
        .argument(built.clone())
        .run()?;
    let lock = std::fs::read_to_string(place.kept.join("package-lock.json")).unwrap_or_default();
    let receipt = place.built.join("installed.json");
    if std::fs::read_to_string(&receipt).unwrap_or_default() == lock {
        return Ok(());
    }
    Child::new("npm", "ci --ignore-scripts --no-audit --no-fund --prefix")
        .argument(built)
        .run()?;
    std::fs::write(&receipt, lock)
        .map_err(|error| Failure::new(format!("{}: {error}", receipt.display())))
}

/// The files of scenarios.
const FILES: [&str; 5] = ["kv", "watch", "lease", "coordination", "stm"];
