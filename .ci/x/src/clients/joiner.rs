//! A member that joins the cluster of a server, as soon as a test has asked that cluster to take it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::server::{Server, blank, free_addresses};
use crate::command::Failure;

/// A program that is started again and again, since it ends while the cluster does not know it. Dropping it ends it.
pub(super) struct Joiner {
    peer: SocketAddr,
    done: Arc<AtomicBool>,
    starter: Option<JoinHandle<()>>,
}

struct Starter {
    program: PathBuf,
    folder: PathBuf,
    first: SocketAddr,
    addresses: [SocketAddr; 2],
    done: Arc<AtomicBool>,
}

impl Joiner {
    /// Begins to start `program` with its data in `folder`, which is emptied first.
    pub(super) fn start(program: &Path, folder: &Path, server: &Server) -> Result<Self, Failure> {
        let broken = |error| Failure::new(format!("{}: {error}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(broken)?;
        }
        fs::create_dir_all(folder).map_err(broken)?;
        let addresses = free_addresses().map_err(broken)?;
        let done = Arc::<AtomicBool>::default();
        let starter = Starter {
            program: program.to_owned(),
            folder: folder.to_owned(),
            first: server.peer(),
            addresses,
            done: Arc::clone(&done),
        };
        Ok(Self {
            peer: addresses[1],
            done,
            starter: Some(thread::spawn(move || starter.keep())),
        })
    }

    /// Where the member is reached by the others, as a URL.
    pub(super) fn peer_url(&self) -> String {
        format!("http://{}", self.peer)
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(starter) = self.starter.take() {
            starter.join().expect("starting a member panics never");
        }
    }
}

impl Starter {
    fn keep(self) {
        let mut running: Option<Process> = None;
        while !self.done.load(Ordering::Relaxed) {
            let ended = running
                .as_mut()
                .is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended {
                running = self.spawn();
            }
            thread::sleep(PAUSE);
        }
        if let Some(mut process) = running {
            // Both fail only if the process is gone already, which is what is wanted.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// None when it cannot be started now; the test then fails for want of the member.
    fn spawn(&self) -> Option<Process> {
        let [client, peer] = self.addresses;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("server.log"))
            .ok()?;
        blank(&self.program)
            .arg("--name=four")
            .arg(format!("--data-dir={}", self.folder.join("data").display()))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!(
                "--initial-cluster=one=http://{},four=http://{peer}",
                self.first
            ))
            .arg("--initial-cluster-state=existing")
            .stdin(Stdio::null())
            .stdout(log.try_clone().ok()?)
            .stderr(log)
            .spawn()
            .ok()
    }
}

/// Between two looks whether it still runs.
const PAUSE: Duration = Duration::from_millis(100);
