//! A cluster on this machine: three members as children, until they end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::command::{Child, Failure, Outcome, at_root};

/// One member's place on the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    client: String,
    peer: String,
}

/// How many members there are, and what the ports of neighbours differ by.
const MEMBERS: u16 = 3;
const PORTS_APART: u16 = 10_000;

/// Builds the server and runs three members until Ctrl-C. Their data stay for the next time.
pub(crate) fn cluster(arguments: &[String]) -> Outcome {
    let (profile, flags) = match arguments.split_first() {
        Some((first, flags)) if first == "--dev" => ("dev", flags),
        _ => ("release", arguments),
    };
    Child::cargo("build --target-dir target --package metastore --bin metastore --profile")
        .argument(profile)
        .run()?;
    let folder = match profile {
        "dev" => "target/debug/metastore",
        _ => "target/release/metastore",
    };
    run(&at_root(folder), &at_root("target/cluster"), flags)
}

fn run(program: &Path, folder: &Path, flags: &[String]) -> Outcome {
    let places: Vec<Place> = (0..MEMBERS).map(place).collect();
    fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("cannot make {}: {error}", folder.display())))?;
    let mut running: Vec<(&Place, Process)> = Vec::new();
    for place in &places {
        match start(program, folder, &places, place, flags) {
            Ok(process) => running.push((place, process)),
            Err(failure) => {
                end(running);
                return Err(failure);
            }
        }
    }
    let endpoints: Vec<&str> = places.iter().map(|place| place.client.as_str()).collect();
    println!("data and logs in {}; Ctrl-C stops all", folder.display());
    println!(
        "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={}",
        endpoints.join(",")
    );
    wait(running, folder)
}

/// The first member is where a lone one would be.
fn place(number: u16) -> Place {
    let url = |port: u16| format!("http://127.0.0.1:{}", port + number * PORTS_APART);
    Place {
        name: format!("m{}", number + 1),
        client: url(2379),
        peer: url(2380),
    }
}

fn start(
    program: &Path,
    folder: &Path,
    places: &[Place],
    place: &Place,
    flags: &[String],
) -> Result<Process, Failure> {
    let members: Vec<String> = places
        .iter()
        .map(|place| format!("{}={}", place.name, place.peer))
        .collect();
    let log = log_of(folder, place);
    let output = File::create(&log)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", log.display())))?;
    Command::new(program)
        .arg(format!("--name={}", place.name))
        .arg(format!("--data-dir={}", folder.join(&place.name).display()))
        .arg(format!("--listen-client-urls={}", place.client))
        .arg(format!("--advertise-client-urls={}", place.client))
        .arg(format!("--listen-peer-urls={}", place.peer))
        .arg(format!("--initial-advertise-peer-urls={}", place.peer))
        .arg(format!("--initial-cluster={}", members.join(",")))
        .args(flags)
        .stdin(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start {}: {error}", program.display())))
}

/// Ends the members that run where another cannot be started.
fn end(running: Vec<(&Place, Process)>) {
    for (place, mut process) in running {
        if let Err(error) = process.kill().and_then(|()| process.wait()) {
            eprintln!("cannot end {}: {error}", place.name);
        }
    }
}

fn log_of(folder: &Path, place: &Place) -> PathBuf {
    folder.join(format!("{}.log", place.name))
}

/// Returns when all have ended. One that ends badly is named with the end of its log; the others go on, as a cluster
/// does.
fn wait(mut running: Vec<(&Place, Process)>, folder: &Path) -> Outcome {
    let mut failed = Vec::new();
    while !running.is_empty() {
        thread::sleep(Duration::from_millis(100));
        let mut left = Vec::new();
        for (place, mut process) in running {
            match process.try_wait() {
                Ok(None) => left.push((place, process)),
                Ok(Some(status)) => {
                    println!("{} ended with {status}", place.name);
                    failed.extend(complaint(&place.name, status, &log_of(folder, place)));
                }
                Err(error) => failed.push(format!("{}: {error}", place.name)),
            }
        }
        running = left;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(failed.join("; "))),
    }
}

/// What is wrong with how a member ended, be it by a code or by a signal; none if it was in good order.
fn complaint(name: &str, status: ExitStatus, log: &Path) -> Option<String> {
    let last = (!status.success()).then(|| last_line(log))?;
    Some(format!("{name} ended with {status}: {last}"))
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_member_that_ends_by_a_code_or_a_signal_is_named() {
        let complaint = |raw| {
            let status = ExitStatus::from_raw(raw);
            complaint("m2", status, Path::new("there-is-no-log"))
        };
        assert_eq!(complaint(0), None);
        for (raw, word) in [(6, "SIGABRT"), (9, "SIGKILL"), (1 << 8, "status: 1")] {
            let said = complaint(raw).unwrap_or_default();
            assert!(said.starts_with("m2 ended with "), "{said}");
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn members_have_ports_of_their_own_and_the_first_the_usual_ones() {
        let places: Vec<Place> = (0..MEMBERS).map(place).collect();
        assert_eq!(places[0].client, "http://127.0.0.1:2379");
        assert_eq!(places[0].peer, "http://127.0.0.1:2380");
        let mut urls: Vec<&String> = places
            .iter()
            .flat_map(|it| [&it.client, &it.peer])
            .collect();
        urls.sort_unstable();
        urls.dedup();
        assert_eq!(urls.len(), 6);
    }
}
