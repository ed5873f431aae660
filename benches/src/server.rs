//! Starting, asking and stopping a server that is to be measured.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::conversation::Site;
use crate::drive::{self, Plan};
use crate::message::{Message, RangeOptions};
use crate::ports;
use crate::process::{self, Usage};
use crate::workload::Workload;

/// A server program with a place for its data and ports of its own; both servers take etcd's flags.
pub(crate) struct Installation {
    binary: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    /// Names and peer URLs of all members that found the cluster together.
    initial_cluster: String,
}

/// A running server. Ended by force when dropped, gracefully with [`stop`](Self::stop).
pub(crate) struct Server {
    child: Child,
    endpoint: SocketAddr,
    log: PathBuf,
    /// From the start of the process to its first successful linearizable answer.
    pub(crate) first_answer: Duration,
}

impl Installation {
    /// Prepares `binary` to keep its data and log below `directory`, with `arguments` besides the usual ones.
    pub(crate) fn new(binary: &Path, arguments: &[String], directory: PathBuf) -> io::Result<Self> {
        let mut alone = Self::several(binary, arguments, &directory, &["default"])?;
        Ok(alone.remove(0))
    }

    /// Like [`new`](Self::new) for members of one cluster, called `names`, each with a directory of its own.
    pub(crate) fn several(
        binary: &Path,
        arguments: &[String],
        directory: &Path,
        names: &[&str],
    ) -> io::Result<Vec<Self>> {
        let mut magic = [0; 4];
        File::open(binary)?.read_exact(&mut magic)?;
        if magic != *b"\x7fELF" {
            // A script would be measured in the place of the server it starts.
            let what = format!(
                "{} is a script; give the server program itself",
                binary.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut members = Vec::new();
        for (name, ports) in names
            .iter()
            .zip(ports::reserve(2 * names.len())?.chunks_exact(2))
        {
            let directory = directory.join(name);
            std::fs::create_dir_all(&directory)?;
            members.push(Self {
                binary: binary.to_owned(),
                arguments: arguments.to_vec(),
                directory,
                name: (*name).to_owned(),
                client: ports[0].local_addr()?,
                peer: ports[1].local_addr()?,
                initial_cluster: String::new(),
            });
        }
        let peers = members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.peer));
        let initial_cluster = peers.collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.initial_cluster.clone_from(&initial_cluster);
        }
        Ok(members)
    }

    /// Removes all data, so that the next start is that of a new server.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Starts the server and returns once it is healthy.
    pub(crate) fn start(&self) -> io::Result<Server> {
        let start = Instant::now();
        let mut server = self.spawn()?;
        server.wait_until("answer", answers)?;
        server.first_answer = start.elapsed();
        server.wait_until("be healthy", healthy)?;
        Ok(server)
    }

    /// Starts the server and does not wait for it.
    pub(crate) fn spawn(&self) -> io::Result<Server> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let (client, peer) = (
            format!("http://{}", self.client),
            format!("http://{}", self.peer),
        );
        let child = Command::new(&self.binary)
            .arg("--data-dir")
            .arg(self.data())
            .args(["--name", &self.name])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &self.initial_cluster])
            .args(["--initial-cluster-token", CLUSTER_TOKEN])
            .args(["--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", QUOTA_BYTES])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Server {
            child,
            endpoint: self.client,
            log: self.log(),
            first_answer: Duration::ZERO,
        })
    }

    /// Where clients reach the server.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.client
    }

    /// Length of all files of the data directory.
    pub(crate) fn data_bytes(&self) -> io::Result<u64> {
        directory_bytes(&self.data())
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Server {
    /// Where clients reach it.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        process::usage(self.pid())
    }

    /// Asks it to end and waits; after a while ends it by force and says so.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        process::end(self.pid(), false)?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                eprintln!(
                    "process {} did not end within {STOP_PATIENCE:?} and is killed",
                    self.pid()
                );
                process::end(self.pid(), true)?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends it by force and waits until it is gone.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Waits until it is part of a cluster that answers and says that it is healthy.
    pub(crate) fn await_health(&mut self) -> io::Result<()> {
        self.wait_until("answer", answers)?;
        self.wait_until("be healthy", healthy)
    }

    /// Fails if it has ended by itself, with what it said last.
    pub(crate) fn still_runs(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.trouble(&format!("the server ended with {status}"))),
        }
    }

    fn wait_until(
        &mut self,
        what: &str,
        reached: impl Fn(SocketAddr) -> io::Result<()>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while let Err(error) = reached(self.endpoint) {
            let ended = self.child.try_wait()?;
            if ended.is_none() && Instant::now() < deadline {
                std::thread::sleep(POLL);
                continue;
            }
            let how = ended.map_or_else(
                || "is still running".to_owned(),
                |status| format!("ended with {status}"),
            );
            return Err(self.trouble(&format!("the server did not {what} ({error}) and {how}")));
        }
        Ok(())
    }

    /// An error with the end of the log.
    fn trouble(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        let tail = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
        io::Error::other(format!("{what}:\n{tail}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended after `stop`: then there is nothing to kill, and no other process can have its number
        // before it has been waited for.
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// Whether the server answers a linearizable range over one key.
fn answers(endpoint: SocketAddr) -> io::Result<()> {
    let plan = Plan::at(Site {
        endpoint,
        server_pid: None,
        patience: ANSWER_PATIENCE,
    });
    let message = Message::fixed_range(&endpoint.to_string(), b"0", b"", RangeOptions::default());
    let measurement = drive::run(&plan, &mut Workload::fixed(message))?;
    match measurement.failures.into_keys().next() {
        Some(failure) => Err(io::Error::other(failure.to_string())),
        None => Ok(()),
    }
}

/// Whether the server says of itself that it is healthy.
fn healthy(endpoint: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect(endpoint)?;
    socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
    // In one piece: a server may answer, and end the connection, before it has read what follows the first line.
    let request = format!("GET /health HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""health":"true""#) {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "/health answers {:?}",
            answer.lines().next().unwrap_or_default()
        )))
    }
}

fn directory_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            directory_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

const POLL: Duration = Duration::from_millis(2);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Eight GiB, so that no store of a comparison comes to its end.
const QUOTA_BYTES: &str = "8589934592";
const CLUSTER_TOKEN: &str = "metastore-bench";

#[cfg(test)]
mod tests {
    use super::{Installation, directory_bytes, healthy};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::path::Path;

    #[test]
    fn a_script_is_not_taken_for_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("etcd");
        std::fs::write(&script, "#!/bin/sh\n").expect("a script");
        let refused = Installation::new(&script, &[], directory.path().join("x"))
            .err()
            .expect("it is refused");
        assert!(refused.to_string().contains("is a script"), "{refused}");
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_log() {
        let directory = tempfile::tempdir().expect("a directory");
        // It complains about the flags it is given and ends.
        let installation =
            Installation::new(Path::new("/bin/cat"), &[], directory.path().join("x"));
        let error = installation
            .expect("a program")
            .start()
            .err()
            .expect("it is no server")
            .to_string();
        assert!(
            error.contains("ended with exit status: 1") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn files_of_all_depths_count_for_a_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("a")).expect("a directory");
        std::fs::write(directory.path().join("a/b"), [0; 30]).expect("a file");
        std::fs::write(directory.path().join("c"), [0; 4]).expect("a file");
        assert_eq!(
            directory_bytes(directory.path()).expect("the directory is readable"),
            34
        );
    }

    #[test]
    fn health_is_what_the_answer_says() {
        for (answer, expect) in [
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}",
                true,
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"health\":\"false\"}",
                false,
            ),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let endpoint = listener.local_addr().expect("an address");
            let server = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut request = [0; 1024];
                let length = socket.read(&mut request).expect("a request");
                socket
                    .write_all(answer.as_bytes())
                    .expect("the client listens");
                request[..length].starts_with(b"GET /health HTTP/1.1\r\n")
            });
            assert_eq!(healthy(endpoint).is_ok(), expect);
            assert!(server.join().expect("the server ends"));
        }
    }
}
