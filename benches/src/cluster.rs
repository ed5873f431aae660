//! Three members of one cluster on this machine: starting, killing and awaiting them, and what is measured on them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::measurement::Figure;
use crate::server::{Installation, Server};

pub(crate) mod catch_up;
pub(crate) mod failover;
mod line;
mod rovers;
mod standing;
pub(crate) mod transfer;
mod trials;

/// The members of one cluster, each with a place for its data and ports of its own, running or not.
pub(crate) struct Cluster {
    members: Vec<Member>,
}

struct Member {
    installation: Installation,
    server: Option<Server>,
}

/// What a measurement on a cluster found out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    pub(crate) figures: Vec<Figure>,
    /// What went wrong; such a measurement has failed.
    pub(crate) failures: Vec<String>,
}

impl Findings {
    /// Of a measurement that could not be finished.
    pub(crate) fn of(error: io::Error) -> Self {
        Self {
            figures: Vec::new(),
            failures: vec![error.to_string()],
        }
    }

    fn add(&mut self, more: Self) {
        self.figures.extend(more.figures);
        self.failures.extend(more.failures);
    }
}

impl Cluster {
    /// Prepares the program `binary` to run with `arguments` besides the usual ones; data and logs go below `directory`.
    pub(crate) fn new(binary: &Path, arguments: &[String], directory: &Path) -> io::Result<Self> {
        let installations = Installation::several(binary, arguments, directory, &NAMES)?;
        let members = installations.into_iter().map(|installation| Member {
            installation,
            server: None,
        });
        Ok(Self {
            members: members.collect(),
        })
    }

    /// Starts all members without data, as a new cluster, and returns once each of them is healthy and in sync.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        for member in &mut self.members {
            member.installation.clear()?;
            member.server = Some(member.installation.spawn()?);
        }
        for server in self.running() {
            server.await_health()?;
        }
        (0..self.members.len()).try_for_each(|member| self.await_in_sync(member).map(drop))
    }

    /// Asks all members to end and waits for them.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let mut servers = self.members.iter_mut().filter_map(|it| it.server.take());
        servers.try_for_each(Server::stop)
    }

    /// Ends the member `member` by force and waits until its process is gone.
    pub(crate) fn kill(&mut self, member: usize) -> io::Result<()> {
        let server = self.members[member].server.take();
        server.expect("only a running member is killed").kill()
    }

    /// Starts the member `member`, which was killed, with the data it has, and does not wait for it.
    pub(crate) fn revive(&mut self, member: usize) -> io::Result<()> {
        let member = &mut self.members[member];
        assert!(member.server.is_none(), "a member runs once");
        member.server = Some(member.installation.spawn()?);
        Ok(())
    }

    /// Where clients reach the members, whether they run or not.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        let members = self.members.iter();
        members.map(|it| it.installation.endpoint()).collect()
    }

    /// The processes of the members; all of them must run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let servers = self.members.iter().map(|it| it.server.as_ref());
        let pids = servers.map(|server| server.expect("every member runs").pid());
        pids.collect()
    }

    /// Length of all files of the data directory of the member `member`.
    pub(crate) fn data_bytes(&self, member: usize) -> io::Result<u64> {
        self.members[member].installation.data_bytes()
    }

    /// Waits until all running members agree on one of them as the leader, and answers which.
    pub(crate) fn leader(&mut self) -> io::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.members.iter().enumerate();
            let running = running.filter(|(_, it)| it.server.is_some());
            let (members, endpoints): (Vec<usize>, Vec<SocketAddr>) = running
                .map(|(index, it)| (index, it.installation.endpoint()))
                .unzip();
            match standing::agreed_leader(&endpoints) {
                Ok(leader) => return Ok(members[leader]),
                Err(reason) => self.wait(deadline, || format!("there is no leader: {reason}"))?,
            }
        }
    }

    /// Waits until the member `member` has all that the leader has, and answers when it had.
    pub(crate) fn await_in_sync(&mut self, member: usize) -> io::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        let endpoints = self.endpoints();
        loop {
            let leader = self.leader()?;
            match standing::behind(endpoints[member], endpoints[leader]) {
                Ok(None) => return Ok(Instant::now()),
                Ok(Some(lag)) => self.wait(deadline, || format!("a member is behind: {lag}"))?,
                Err(failure) => self.wait(deadline, || format!("a member is asked: {failure}"))?,
            }
        }
    }

    /// Sleeps a moment, unless the deadline has passed or a member has ended by itself.
    fn wait(&mut self, deadline: Instant, state: impl Fn() -> String) -> io::Result<()> {
        for server in self.running() {
            server.still_runs()?;
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, state()));
        }
        std::thread::sleep(POLL);
        Ok(())
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Server> {
        self.members.iter_mut().filter_map(|it| it.server.as_mut())
    }
}

/// The members in the order in which they are numbered.
const NAMES: [&str; 3] = ["m1", "m2", "m3"];
/// How long members may take until they agree, and one of them until it has what the others have.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Cluster, POLL};

    #[test]
    fn members_that_end_at_once_are_reported_with_their_log() {
        let directory = tempfile::tempdir().expect("a directory");
        // It complains about the flags it is given and ends.
        let cluster = Cluster::new(Path::new("/bin/cat"), &[], directory.path());
        let mut cluster = cluster.expect("a program");
        let error = cluster.start().expect_err("it is no server").to_string();
        assert!(
            error.contains("ended with exit status: 1") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn members_have_addresses_and_data_of_their_own_and_know_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        // It prints what it is given and ends.
        let cluster = Cluster::new(Path::new("/bin/echo"), &[], directory.path());
        let mut cluster = cluster.expect("a program");
        let endpoints = cluster.endpoints();
        (0..endpoints.len()).for_each(|member| cluster.revive(member).expect("it starts"));
        for server in cluster.running() {
            while server.still_runs().is_ok() {
                std::thread::sleep(POLL);
            }
        }
        let said = |name: &str| {
            let log = directory.path().join(name).join("log");
            std::fs::read_to_string(log).expect("each member has a log")
        };
        let founders = |log: &str| {
            let (_, after) = log.split_once("--initial-cluster ").expect("the flag");
            let (list, _) = after.split_once(' ').expect("another flag");
            list.to_owned()
        };
        let all = founders(&said("m1"));
        assert_eq!(all.matches("=http://127.0.0.1:").count(), endpoints.len());
        for (name, endpoint) in ["m1", "m2", "m3"].iter().zip(endpoints) {
            let log = said(name);
            assert!(log.contains(&format!("--name {name} ")), "{log}");
            assert!(
                log.contains(&format!("--listen-client-urls http://{endpoint} ")),
                "{log}"
            );
            assert_eq!(founders(&log), all);
        }
    }
}
