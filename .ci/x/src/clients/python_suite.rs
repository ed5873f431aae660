//! The tests that come with the Python packages `etcd3` and `aetcd`, run by pytest.

use std::path::PathBuf;

use super::Place;
use super::server::Server;
use super::verdict::{Ended, got_through};
use crate::command::{Child, Failure, at_root};
use crate::python::Python;
use crate::tools;

/// The tests of `etcd3` are written against the server of this release; older ones skip some.
pub(super) fn etcd3(place: &Place) -> Result<Vec<Ended>, Failure> {
    run(place, "etcd3-0.12.0", |child, url| {
        child
            .variable("PYTHON_ETCD_HTTP_URL", url)
            .variable("TEST_ETCD_VERSION", "v3.5")
    })
}

/// The tests of `aetcd` skip those that need a cluster unless told; here they fail, and are listed.
pub(super) fn aetcd(place: &Place) -> Result<Vec<Ended>, Failure> {
    run(place, "aetcd-1.0.0", |child, url| {
        child
            .variable("TEST_ETCD_HTTP_URL", url)
            .arguments(&["--override-ini=addopts=", "--with-cluster"].map(str::to_owned))
    })
}

fn run(
    place: &Place,
    release: &str,
    with: fn(Child, String) -> Child,
) -> Result<Vec<Ended>, Failure> {
    let (_, etcdctl) = tools::etcd()?;
    let requirements = place.kept.join("requirements.txt");
    let python = Python::with(&place.built.join("python"), &requirements)?;
    let sources = sources(place, release)?;
    let ends = place.built.join("ends.txt");
    let _ = std::fs::remove_file(&ends);
    let server = Server::start(&place.program, &place.built.join("server"), &[])?;
    let programs = etcdctl
        .parent()
        .map(|it| it.display().to_string())
        .unwrap_or_default();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let child = python
        .child(Some(&at_root(".ci/clients/pytest")))
        .arguments(&PYTEST.map(str::to_owned))
        .inside(sources)
        .variable("PATH", path)
        .variable(
            "METASTORE_CLIENTS_PORT",
            server.address().port().to_string(),
        )
        .variable("METASTORE_CLIENTS_ENDS", ends.display().to_string());
    got_through(with(child, format!("http://{}", server.address())).run())?;
    Ended::read_all(&ends)
}

/// The sources as they were published, with the tests, which the installed package has not.
fn sources(place: &Place, release: &str) -> Result<PathBuf, Failure> {
    let folder = place.built.join(release);
    if folder.join("PKG-INFO").is_file() {
        return Ok(folder);
    }
    let built = place.built.display().to_string();
    Child::new(
        "python3",
        "-m pip download --quiet --disable-pip-version-check --no-deps --dest",
    )
    .argument(built.clone())
    .argument("--requirement")
    .argument(place.kept.join("source.txt").display().to_string())
    .run()?;
    Child::new("python3", "-m tarfile --extract")
        .argument(format!("{}.tar.gz", folder.display()))
        .argument(built)
        .run()?;
    Ok(folder)
}

/// Pytest with our plugin, and with a minute for one test.
const PYTEST: [&str; 8] = [
    "-m",
    "pytest",
    "-p",
    "server_under_test",
    "--quiet",
    "--tb=short",
    "--durations=5",
    "--timeout=60",
];
