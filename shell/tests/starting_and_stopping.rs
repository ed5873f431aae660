//! What a server says while it starts and stops, whom it tells, and how its process ends.

mod cluster;

use std::{
    fs::{self, File},
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use cluster::{
    connection::single_threaded_runtime,
    etcd_programs::clean_command,
    server_process::{ServerProcess, die_with_the_test, free_ports, start, wait_at_most},
    several::put,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server that was started in a way of its own. Dropping it kills it.
struct Started {
    child: Child,
    log: PathBuf,
}

impl Started {
    fn by(command: &mut Command, folder: &TempDir) -> Self {
        let log = folder.path().join("log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file for the log"));
        let child = start(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    fn wait_until_it_says(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(what) {
            let ended = self.child.try_wait().expect("the child can be asked");
            assert_eq!(ended, None, "{}", self.log());
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for_exit(&mut self) -> ExitStatus {
        wait_at_most(&mut self.child, PATIENCE)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail only if the child is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Those of these words that a log has, as often as it has them, in its order.
fn heard<'a>(log: &str, words: &[&'a str]) -> Vec<&'a str> {
    let messages = log.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        line["msg"].as_str().expect("a message").to_owned()
    });
    let heard = messages.filter_map(|message| {
        let mut found = words.iter().filter(|words| message.contains(**words));
        found.next().copied()
    });
    heard.collect()
}

#[test]
fn a_signal_ends_an_idle_server_and_its_log_tells_its_life() {
    let words = [
        "starting an etcd server",
        "became leader at term",
        "elected leader",
        "ready to serve client requests",
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ];
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = ServerProcess::metastore(&[]);
        let [second, _] = free_ports();
        let urls = format!(
            "--listen-client-urls={},http://127.0.0.1:{second}",
            server.client_url()
        );
        server.set_extra_flags(&[&urls]);
        server.start();
        server.signal(signal);
        let status = server.wait_for_exit();
        assert_eq!(status.signal(), Some(signal), "{status}");
        let ready = words[3];
        let expected = [&words[..4], &[ready], &words[4..]].concat();
        assert_eq!(heard(&server.stderr(), &words), expected);
    }
}

#[test]
fn whoever_started_the_server_is_told_when_it_serves() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let server = ServerProcess::metastore(&[]);
    let mut started = Started::by(server.command().env("NOTIFY_SOCKET", &path), &folder);
    let mut bytes = [0; 64];
    let length = socket.recv(&mut bytes).expect("a word in time");
    assert_eq!(String::from_utf8_lossy(&bytes[..length]).trim(), "READY=1");
    assert!(started.log().contains("ready to serve client requests"));
    // Whoever was told need not try twice.
    let served = single_threaded_runtime().block_on(put(&server, "k", "v"));
    assert_eq!(served, Ok(()));
    started.wait_until_it_says("successfully notified init daemon");
}

#[test]
fn a_server_that_can_tell_nobody_says_so_and_serves() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("nobody");
    let server = ServerProcess::metastore(&[]);
    let mut started = Started::by(server.command().env("NOTIFY_SOCKET", &path), &folder);
    started.wait_until_it_says("failed to notify init daemon");
    let served = single_threaded_runtime().block_on(put(&server, "k", "v"));
    assert_eq!(served, Ok(()));
}

/// How `unshare` has to be told to make a program the first process of a world of its own, where the system lets it.
fn as_first_process() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [
        &["--fork", "--pid", "--kill-child"],
        &[
            "--user",
            "--map-root-user",
            "--fork",
            "--pid",
            "--kill-child",
        ],
    ];
    let works = |way: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**way).arg("true").stderr(Stdio::null());
        let ended = start(&mut command).and_then(|mut child| child.wait());
        ended.is_ok_and(|status| status.success())
    };
    WAYS.iter().find(works).copied()
}

/// The only child of a process.
fn child_of(parent: &Child) -> Pid {
    let parent = parent.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.expect("the kernel lists children");
    let child = children.trim().parse().ok().and_then(Pid::from_raw);
    child.unwrap_or_else(|| panic!("one child was expected: {children:?}"))
}

/// To the first process of a container, a signal that nobody handles does nothing: it cannot end by one.
#[test]
fn the_first_process_of_a_container_ends_well_by_a_signal() {
    let Some(way) = as_first_process() else {
        eprintln!("SKIPPED: unshare makes no process namespace here");
        return;
    };
    let folder = TempDir::new().expect("a temporary folder");
    let server = ServerProcess::metastore(&[]);
    let inner = server.command();
    let mut command = clean_command(Path::new("unshare"));
    command
        .args(way)
        .arg(inner.get_program())
        .args(inner.get_args());
    die_with_the_test(&mut command);
    let mut started = Started::by(&mut command, &folder);
    started.wait_until_it_says("ready to serve client requests");
    kill_process(child_of(&started.child), Signal::TERM).expect("it runs");
    let status = started.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{status}: {}", started.log());
    assert!(started.log().contains("closed etcd server"));
}

const PATIENCE: Duration = Duration::from_secs(20);
