//! One server as a child process with its own data directory and ports: start, kill, stop, restart.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::etcd_programs::clean_command;
use super::ports;

/// One member, of a cluster of one unless it is told of others. Dropping it kills the child; if the test is failing, the end of
/// what the server wrote to stderr is shown.
pub(crate) struct ServerProcess {
    program: PathBuf,
    extra_flags: Vec<String>,
    /// Holds `data/` and one stderr file per start.
    folder: TempDir,
    name: String,
    client_port: u16,
    peer_port: u16,
    /// Where the others are told to reach it, if that is not where it listens.
    advertised_peer_url: Option<String>,
    /// `name=url,…` and whether that cluster is new or existing; this member alone if not set.
    cluster: Option<(String, &'static str)>,
    /// No file that it writes may be longer, in bytes.
    file_size_max: Option<u64>,
    /// No more files and sockets may be open.
    open_files_max: Option<u64>,
    starts: u32,
    child: Option<Child>,
}

/// How a process that was expected to refuse ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl ServerProcess {
    /// A not yet started `metastore`.
    pub(crate) fn metastore(extra_flags: &[&str]) -> Self {
        Self::of(&program_under_test(), extra_flags)
    }

    /// A not yet started server of another program with etcd's flags.
    pub(crate) fn of(program: &Path, extra_flags: &[&str]) -> Self {
        let [client_port, peer_port] = free_ports();
        Self {
            program: program.to_owned(),
            extra_flags: extra_flags.iter().map(|flag| (*flag).to_owned()).collect(),
            folder: TempDir::new().expect("a temporary folder"),
            name: NAME.to_owned(),
            client_port,
            peer_port,
            advertised_peer_url: None,
            cluster: None,
            file_size_max: None,
            open_files_max: None,
            starts: 0,
            child: None,
        }
    }

    /// Another name than the usual one, for a member among several.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The others are told to reach it here: something in between passes on what comes, to
    /// [`Self::peer_address`].
    pub(crate) fn advertise_peer_url(&mut self, url: &str) {
        self.advertised_peer_url = Some(url.to_owned());
    }

    /// From its next start on it is told that these are the members: `name=url,…`. `state` is `new` or
    /// `existing`.
    pub(crate) fn set_cluster(&mut self, members: &str, state: &'static str) {
        self.cluster = Some((members.to_owned(), state));
    }

    /// From its next start on it has these flags, and no others, beside the usual ones.
    pub(crate) fn set_extra_flags(&mut self, extra_flags: &[&str]) {
        self.extra_flags = extra_flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// From its next start on its disk takes no file longer than this, or of any length again.
    pub(crate) fn limit_file_size(&mut self, bytes: Option<u64>) {
        self.file_size_max = bytes;
    }

    /// From its next start on no more files and sockets may be open in it.
    pub(crate) fn limit_open_files(&mut self, files: u64) {
        self.open_files_max = Some(files);
    }

    /// Removes everything this member knew.
    pub(crate) fn wipe(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        fs::remove_dir_all(self.data_dir()).expect("the data can be removed");
    }

    /// Starts the server and waits until it says that it is healthy.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.wait_until_healthy();
    }

    /// Starts the server without waiting for anything.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        self.starts += 1;
        let stderr = File::create(self.stderr_file()).expect("a file for stderr");
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let child = start(&mut command);
        self.child =
            Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display())));
    }

    /// Runs the server, which is expected to refuse and exit by itself.
    pub(crate) fn run_to_refusal(&mut self) -> Ending {
        let ending = run_to_exit(&mut self.command());
        assert!(
            !ending.status.success(),
            "the server ended well where it had to refuse: {ending:?}"
        );
        ending
    }

    pub(crate) fn wait_until_healthy(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while !is_healthy(self.client_address()) {
            let child = self.child.as_mut().expect("the server was started");
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!(
                    "the server ended during its start with {status}:\n{}",
                    self.stderr()
                );
            }
            assert!(
                Instant::now() < deadline,
                "not healthy after {START_LIMIT:?}:\n{}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it says that it serves, healthy or not: a learner never says that it is healthy.
    pub(crate) fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while !self.stderr().contains("ready to serve client requests") {
            assert!(
                self.is_running(),
                "it ended during its start:\n{}",
                self.stderr()
            );
            assert!(Instant::now() < deadline, "not ready:\n{}", self.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How the process ends by itself.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        wait_at_most(&mut child, STOP_LIMIT)
    }

    /// From its next start on it listens for the others on another port.
    pub(crate) fn move_peer_port(&mut self) {
        [_, self.peer_port] = free_ports();
    }

    /// SIGKILL, as a power cut of the process. Returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be awaited");
    }

    /// SIGTERM, and the status the process ends with.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait_for_exit()
    }

    /// Sends a signal without waiting for what comes of it.
    pub(crate) fn signal(&self, signal: i32) {
        let child = self.child.as_ref().expect("the server runs");
        let pid = i32::try_from(child.id()).expect("a pid is small");
        // SAFETY: sends a signal to a child that has not been awaited, so the pid is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the child can be signalled");
    }

    /// True while the child has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        let child = self.child.as_mut().expect("the server was started");
        child.try_wait().expect("the child can be asked").is_none()
    }

    pub(crate) fn client_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.client_port))
    }

    pub(crate) fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Where the others reach it.
    pub(crate) fn peer_url(&self) -> String {
        let own = || format!("http://{}", self.peer_address());
        self.advertised_peer_url.clone().unwrap_or_else(own)
    }

    /// Where it listens for the others.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.peer_port))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything the latest start wrote to stderr.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stderr_file()).unwrap_or_default()).into_owned()
    }

    /// The command line of this server, not yet run. The child dies with the thread that spawns it.
    pub(crate) fn command(&self) -> Command {
        let (client, peer) = (self.client_url(), self.peer_url());
        let alone = || (format!("{}={peer}", self.name), "new");
        let (members, state) = self.cluster.clone().unwrap_or_else(alone);
        let mut command = clean_command(&self.program);
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls=http://{}", self.peer_address()))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={members}"))
            .arg(format!("--initial-cluster-state={state}"))
            .args(&self.extra_flags);
        die_with_the_test(&mut command);
        // A write beyond this length of a file fails, as on a full disk, and brings a signal that ends a process which
        // does not expect it.
        if let Some(bytes) = self.file_size_max {
            limit(&mut command, libc::RLIMIT_FSIZE, bytes);
        }
        if let Some(files) = self.open_files_max {
            limit(&mut command, libc::RLIMIT_NOFILE, files);
        }
        command
    }

    fn stderr_file(&self) -> PathBuf {
        self.folder.path().join(format!("stderr.{}", self.starts))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if the child is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("--- the data is kept in {}", self.data_dir().display());
            let stderr = self.stderr();
            let shown: Vec<_> = stderr.lines().rev().take(STDERR_LINES_SHOWN).collect();
            eprintln!("--- the end of stderr of {}", self.program.display());
            for line in shown.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Runs a command that must end by itself, and collects what it says.
pub(crate) fn run_to_exit(command: &mut Command) -> Ending {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = start(command);
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read_beside(child.stdout.take().expect("stdout is a pipe"));
    let stderr = read_beside(child.stderr.take().expect("stderr is a pipe"));
    let status = wait_at_most(&mut child, STOP_LIMIT);
    Ending {
        status,
        stdout: stdout.join().expect("stdout was read"),
        stderr: stderr.join().expect("stderr was read"),
    }
}

/// The `metastore` that cargo built for this test run, or the program in `METASTORE_TEST_PROGRAM`: a
/// real etcd there shows whether a failing test is at fault itself.
pub(crate) fn program_under_test() -> PathBuf {
    env::var_os("METASTORE_TEST_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_metastore").into())
        .into()
}

fn read_beside(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// How the child ends by itself. One that does not within `limit` is killed and fails the test.
pub(crate) fn wait_at_most(child: &mut Child, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Asks the kernel to kill the child when the spawning thread ends, however it ends.
pub(crate) fn die_with_the_test(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// The program may take no more than this of what the system limits.
fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: setrlimit is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            if libc::setrlimit(resource, &raw const limit) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// A process that another thread starts has a copy of every open socket until it becomes its program, and a port that
/// was only tried out would seem taken as long.
static STARTS: Mutex<()> = Mutex::new(());

/// Starts a program while nobody looks for ports.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let _nobody_looks_for_ports = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Two loopback ports nobody listens on now. They differ, and no outgoing connection takes them meanwhile.
pub(crate) fn free_ports() -> [u16; 2] {
    let _nobody_starts = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let listeners = ports::reserve(2).expect("free ports");
    [0, 1].map(|place: usize| {
        let address = listeners[place].local_addr();
        address.expect("a bound socket").port()
    })
}

/// One `GET /health` by hand: no HTTP client is needed for a line out and a status line back.
fn is_healthy(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    exchanged.is_ok() && answer.starts_with("HTTP/1.1 200") && answer.contains(r#""health":"true""#)
}

const NAME: &str = "one";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const STDERR_LINES_SHOWN: usize = 40;
