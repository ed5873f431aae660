//! One server for a suite, on free ports of the loopback interface, with an empty data directory.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Child, Failure, at_root};

/// The server to run the suites against: ours, built now, or the program in
/// `METASTORE_TEST_PROGRAM`. A real etcd there shows whether a failing test is at fault itself.
pub(super) fn program() -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("METASTORE_TEST_PROGRAM") {
        return Ok(program.into());
    }
    Child::cargo("build --target-dir target --package metastore --bin metastore").run()?;
    Ok(at_root("target/debug/metastore"))
}

/// A running server. Dropping it ends it.
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
    peer: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `program` with its data in `folder`, which is emptied first, and waits until it
    /// says that it is healthy. What it writes goes to a file beside the data.
    pub(super) fn start(program: &Path, folder: &Path, flags: &[&str]) -> Result<Self, Failure> {
        let broken = |error| Failure::new(format!("{}: {error}", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(broken)?;
        }
        fs::create_dir_all(folder).map_err(broken)?;
        let log = folder.join("server.log");
        let output = File::create(&log).map_err(broken)?;
        let [client, peer] = free_addresses().map_err(broken)?;
        let process = command(program, folder, client, peer)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(broken)?)
            .stderr(output)
            .spawn()
            .map_err(|error| Failure::new(format!("{}: {error}", program.display())))?;
        let mut server = Self {
            process,
            address: client,
            peer,
            log,
        };
        server.wait_until_healthy()?;
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where other members reach it.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        while !is_healthy(self.address) {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(Failure::new(format!("the server is not healthy:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program without the settings of the caller, which are not those of the suite.
pub(super) fn blank(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("ETCD") || shown.starts_with("METASTORE") {
            command.env_remove(&name);
        }
    }
    command
}

fn command(program: &Path, folder: &Path, client: SocketAddr, peer: SocketAddr) -> Command {
    let mut command = blank(program);
    command
        .arg("--name=one")
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .arg(format!("--listen-client-urls=http://{client}"))
        .arg(format!("--advertise-client-urls=http://{client}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .arg(format!("--initial-cluster=one=http://{peer}"));
    command
}

/// Two addresses nobody listens on now. Both are held until both are known, so they differ.
pub(super) fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok([first.local_addr()?, second.local_addr()?])
}

/// One `GET /health` by hand: a line out and a status line back need no library.
fn is_healthy(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let exchanged = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.read_to_string(&mut answer));
    exchanged.is_ok() && answer.starts_with("HTTP/1.1 200") && answer.contains(r#""health":"true""#)
}

const START_LIMIT: Duration = Duration::from_secs(30);
