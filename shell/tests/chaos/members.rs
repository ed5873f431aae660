//! The members of a cluster as processes behind their links: started, killed, paused, replaced.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::links::Links;
use crate::cluster::etcd_programs::clean_command;
use crate::cluster::ports;
use crate::cluster::server_process::{die_with_the_test, program_under_test};

/// All places of a cluster, each with a process or without.
pub(crate) struct Members {
    program: PathBuf,
    folder: TempDir,
    kept: Cell<bool>,
    places: Vec<RefCell<Place>>,
    pub(crate) links: Links,
}

struct Place {
    client: SocketAddr,
    peer: SocketAddr,
    /// Grows with each replacement; the name and the data directory have it.
    generation: u32,
    /// The clusters' members as the current generation was told them, and whether the cluster existed.
    initial_cluster: String,
    existing: bool,
    /// Whether it has still to find the cluster.
    joins: bool,
    starts: u32,
    child: Option<Child>,
    paused: bool,
}

impl Members {
    /// A cluster of so many members that has not started yet.
    pub(crate) fn new(count: usize) -> Self {
        let addresses = free_addresses(2 * count);
        let peers = &addresses[count..];
        let links = Links::open(peers);
        let initial_cluster: Vec<String> = (0..count)
            .map(|place| format!("{}=http://{}", name(place, 0), links.address(place)))
            .collect();
        let place = |place: usize| {
            RefCell::new(Place {
                client: addresses[place],
                peer: peers[place],
                generation: 0,
                initial_cluster: initial_cluster.join(","),
                existing: false,
                joins: false,
                starts: 0,
                child: None,
                paused: false,
            })
        };
        Self {
            program: program_under_test(),
            folder: TempDir::new().expect("a temporary folder"),
            kept: Cell::new(false),
            places: (0..count).map(place).collect(),
            links,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Where clients reach the member in a place.
    pub(crate) fn client_address(&self, place: usize) -> SocketAddr {
        self.places[place].borrow().client
    }

    /// Its name as of now.
    pub(crate) fn name(&self, place: usize) -> String {
        name(place, self.places[place].borrow().generation)
    }

    /// Where the others reach it.
    pub(crate) fn peer_url(&self, place: usize) -> String {
        format!("http://{}", self.links.address(place))
    }

    /// Starts the member in a place, unless it runs.
    pub(crate) fn start(&self, number: usize) {
        let mut place = self.places[number].borrow_mut();
        if place.child.is_some() {
            return;
        }
        place.starts += 1;
        let data = self.data(number, place.generation);
        let stderr = self
            .folder
            .path()
            .join(format!("stderr.{number}.{}", place.starts));
        let state = if place.existing { "existing" } else { "new" };
        let (client, peer) = (place.client, place.peer);
        let mut command = clean_command(&self.program);
        command
            .arg(format!("--name={}", name(number, place.generation)))
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!(
                "--initial-advertise-peer-urls={}",
                self.peer_url(number)
            ))
            .arg(format!("--initial-cluster={}", place.initial_cluster))
            .arg(format!("--initial-cluster-state={state}"))
            .arg("--initial-cluster-token=chaos")
            .arg("--snapshot-count=500")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(stderr).expect("a file for stderr"));
        die_with_the_test(&mut command);
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.links.runs(number, child.id());
        place.child = Some(child);
        place.paused = false;
    }

    /// SIGKILL, unless nothing runs there.
    pub(crate) fn kill(&self, place: usize) {
        let mut place = self.places[place].borrow_mut();
        if let Some(mut child) = place.child.take() {
            child.kill().expect("the child can be killed");
            child.wait().expect("the child can be awaited");
        }
    }

    /// SIGTERM, and the end awaited; one that takes too long is a failure, in words.
    pub(crate) async fn stop(&self, place: usize) -> Result<(), String> {
        let child = self.places[place].borrow_mut().child.take();
        let Some(mut child) = child else {
            return Ok(());
        };
        signal(&child, libc::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while child.try_wait().expect("the child can be asked").is_none() {
            if Instant::now() > deadline {
                child.kill().expect("the child can be killed");
                child.wait().expect("the child can be awaited");
                return Err(format!("{place} did not stop within {STOP_LIMIT:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// SIGSTOP, unless nothing runs there.
    pub(crate) fn pause(&self, place: usize) {
        let mut place = self.places[place].borrow_mut();
        if let Some(child) = &place.child {
            signal(child, libc::SIGSTOP);
            place.paused = true;
        }
    }

    /// SIGCONT, if it was paused.
    pub(crate) fn go_on(&self, place: usize) {
        let mut place = self.places[place].borrow_mut();
        if let (Some(child), true) = (&place.child, place.paused) {
            signal(child, libc::SIGCONT);
            place.paused = false;
        }
    }

    /// Another member, which has not started yet, takes the place, with nothing on its disk. `others` are the names
    /// and addresses of those that it is to join.
    pub(crate) fn replace(&self, number: usize, others: &[(String, String)]) {
        self.kill(number);
        let mut place = self.places[number].borrow_mut();
        let _ = fs::remove_dir_all(self.data(number, place.generation));
        place.generation += 1;
        place.existing = true;
        place.joins = true;
        let own = (name(number, place.generation), self.peer_url(number));
        let all = others.iter().chain([&own]);
        let all: Vec<String> = all.map(|(name, url)| format!("{name}={url}")).collect();
        place.initial_cluster = all.join(",");
    }

    /// The member in a place has found the cluster.
    pub(crate) fn joined(&self, place: usize) {
        self.places[place].borrow_mut().joins = false;
    }

    /// Those that have ended without having been told to, with the end of what they wrote. A new member that reaches
    /// nobody ends by itself, and has to be started again.
    pub(crate) fn fallen(&self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            let mut place = place.borrow_mut();
            let Some(child) = &mut place.child else {
                continue;
            };
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                place.child = None;
                let stderr = format!("stderr.{number}.{}", place.starts);
                let text = fs::read_to_string(self.folder.path().join(stderr));
                let text = text.unwrap_or_default();
                if place.joins && text.contains(REACHES_NOBODY) {
                    continue;
                }
                let lines: Vec<&str> = text.lines().rev().take(LINES_SHOWN).collect();
                let lines: Vec<&str> = lines.into_iter().rev().collect();
                fallen.push(format!(
                    "{number} ended with {status}:\n{}",
                    lines.join("\n")
                ));
            }
        }
        fallen
    }

    /// Keeps what the members wrote and have on their disks, and says where.
    pub(crate) fn keep(&self) -> PathBuf {
        self.kept.set(true);
        self.folder.path().to_owned()
    }

    fn data(&self, place: usize, generation: u32) -> PathBuf {
        self.folder.path().join(name(place, generation))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for place in 0..self.count() {
            self.kill(place);
        }
        self.folder.disable_cleanup(self.kept.get());
    }
}

fn name(place: usize, generation: u32) -> String {
    format!("m{place}g{generation}")
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a pid is small");
    // SAFETY: sends a signal to a child that has not been awaited, so the pid is still its own.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "the child can be signalled");
}

/// Loopback addresses that nobody listens on now. They differ, and no outgoing connection takes them meanwhile.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners = ports::reserve(count).expect("free ports");
    let address = |listener: &TcpListener| listener.local_addr().expect("a bound socket");
    listeners.iter().map(address).collect()
}

const STOP_LIMIT: Duration = Duration::from_secs(20);
const LINES_SHOWN: usize = 30;
/// What a new member says when it ends because it cannot find the cluster.
const REACHES_NOBODY: &str = "cannot fetch cluster info from peer urls";
