//! An unmodified etcdctl against one server: commands that end, and commands that go on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    etcd_programs::clean_command,
    server_process::{ServerProcess, die_with_the_test, wait_at_most},
};

/// A started server and the program that talks to it.
pub(crate) struct Tour {
    pub(crate) server: ServerProcess,
    pub(crate) etcdctl: PathBuf,
}

/// How one command ended: exit code, stdout, and the line on stderr that begins with `Error:`.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) error: String,
}

impl Tour {
    /// A tour of a fresh server.
    pub(crate) fn start(etcdctl: PathBuf) -> Self {
        let mut server = ServerProcess::metastore(&[]);
        server.start();
        Self { server, etcdctl }
    }

    /// Runs one command. Words are separated by blanks; `''` is the empty word.
    pub(crate) fn run(&self, words: &str, stdin: &str) -> Said {
        let mut child = self.spawn(words);
        let mut input = child.stdin.take().expect("stdin is a pipe");
        input.write_all(stdin.as_bytes()).expect("etcdctl reads");
        drop(input);
        let output = child.wait_with_output().expect("etcdctl ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let error = stderr.lines().find(|line| line.starts_with("Error:"));
        Said {
            code: output.status.code().expect("etcdctl exits"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: error.unwrap_or_default().to_owned(),
        }
    }

    /// The command must succeed and print exactly `stdout`.
    pub(crate) fn prints(&self, words: &str, stdout: &str) {
        self.answers(words, "", stdout);
    }

    /// The same, with something to read on stdin.
    pub(crate) fn answers(&self, words: &str, stdin: &str, stdout: &str) {
        let expected = Said {
            code: 0,
            stdout: stdout.to_owned(),
            error: String::new(),
        };
        assert_eq!(self.run(words, stdin), expected, "etcdctl {words}");
    }

    /// The command must fail with exactly this error.
    pub(crate) fn fails(&self, words: &str, error: &str) {
        let expected = Said {
            code: 1,
            stdout: String::new(),
            error: format!("Error: {error}"),
        };
        assert_eq!(self.run(words, ""), expected, "etcdctl {words}");
    }

    /// What a command that must succeed prints.
    pub(crate) fn output(&self, words: &str) -> String {
        let said = self.run(words, "");
        assert_eq!(
            (said.code, said.error.as_str()),
            (0, ""),
            "etcdctl {words}: {said:?}"
        );
        said.stdout
    }

    /// Starts a command that goes on until it is interrupted.
    pub(crate) fn follow(&self, words: &str) -> Talk {
        let mut child = self.spawn(words);
        let input = child.stdin.take().expect("stdin is a pipe");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                // A failure means that the test has ended before etcdctl.
                let _ = sender.send(line.expect("etcdctl prints text"));
            }
        });
        Talk {
            words: words.to_owned(),
            child,
            input: Some(input),
            lines,
        }
    }

    /// Waits until the command prints exactly `stdout`.
    pub(crate) fn comes_to_print(&self, words: &str, stdout: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.output(words) != stdout {
            let late = Instant::now() > deadline;
            assert!(
                !late,
                "etcdctl {words}: still {:?}, not {stdout:?}",
                self.output(words)
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(&self, words: &str) -> Child {
        let endpoint = self.server.client_address().to_string();
        let words = words
            .split(' ')
            .map(|word| if word == "''" { "" } else { word });
        let mut command = clean_command(&self.etcdctl);
        command
            .args(["--endpoints", &endpoint])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_the_test(&mut command);
        command.spawn().expect("etcdctl starts")
    }

    /// Puts of one word under one key each; each prints `OK`.
    pub(crate) fn put_all(&self, records: &[(&str, &str)]) {
        for (key, value) in records {
            self.prints(&format!("put {key} {value}"), "OK\n");
        }
    }
}

/// An etcdctl that goes on: what it prints as it prints it, what it is told, and how it ends.
/// Dropping it kills it.
pub(crate) struct Talk {
    words: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    /// The next line, which has to come soon.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let _ = self.child.kill();
                let stderr = self.stderr();
                panic!("etcdctl {}: no line, {error}; stderr: {stderr}", self.words)
            }
        }
    }

    /// The next lines have to be these.
    pub(crate) fn says(&mut self, expected: &[&str]) {
        let lines: Vec<_> = expected.iter().map(|_| self.line()).collect();
        assert_eq!(lines, expected, "etcdctl {}", self.words);
    }

    /// For a while nothing is printed.
    pub(crate) fn stays_silent(&mut self) {
        let line = self.lines.recv_timeout(SILENCE);
        assert!(
            line.is_err(),
            "etcdctl {} said {line:?} too early",
            self.words
        );
    }

    /// Writes one line to it.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its stdin is open");
        writeln!(input, "{line}").expect("etcdctl reads");
    }

    /// SIGINT, as from a terminal: it ends, and has nothing more to say. How it ends is its own
    /// matter: a lock lets go first, a watch just stops.
    pub(crate) fn interrupt(mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid is small");
        // SAFETY: sends a signal to a child that has not been awaited, so the pid is still its own.
        let sent = unsafe { libc::kill(pid, libc::SIGINT) };
        assert_eq!(sent, 0, "the child can be signalled");
        wait_at_most(&mut self.child, PATIENCE);
        let more: Vec<_> = self.lines.try_iter().collect();
        assert!(
            more.is_empty(),
            "etcdctl {} had more to say: {more:?}",
            self.words
        );
    }

    /// Its exit code and stderr, once it ends by itself.
    pub(crate) fn ends(&mut self) -> (i32, String) {
        let status = wait_at_most(&mut self.child, PATIENCE);
        (status.code().expect("etcdctl exits"), self.stderr())
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr
                .read_to_string(&mut text)
                .expect("etcdctl prints text");
        }
        text
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Both fail only if the child is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value behind `"name":` in JSON whose values hold no commas.
pub(crate) fn json_number(json: &str, name: &str) -> u64 {
    let start = json
        .find(&format!("\"{name}\":"))
        .unwrap_or_else(|| panic!("no {name} in {json}"))
        + name.len()
        + 3;
    let digits: String = json[start..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|error| panic!("{name} in {json}: {error}"))
}

/// How long something may take that has to come.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long silence is listened to. Too short for what is wrong, it would only find less.
const SILENCE: Duration = Duration::from_millis(300);
