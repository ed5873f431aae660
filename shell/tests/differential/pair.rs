//! Two servers side by side: each request goes to both at once.

use std::path::Path;

use crate::cluster::{
    connection::{Connection, single_threaded_runtime},
    operation::{Answer, Operation},
    server_process::{ServerProcess, program_under_test},
};

/// The server under test.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Metastore,
    /// A server that must equal the reference, to show that the test sees no differences where there are none.
    Reference(&'a Path),
}

/// A fresh subject and a fresh reference, both empty.
pub(crate) struct Pair {
    pub(crate) subject: Connection,
    pub(crate) reference: Connection,
    runtime: tokio::runtime::Runtime,
    // Dropped last: the connections above belong to them.
    subject_process: ServerProcess,
    reference_process: ServerProcess,
}

impl Pair {
    pub(crate) fn start(subject: Subject<'_>, etcd: &Path) -> Self {
        let program = match subject {
            Subject::Metastore => program_under_test(),
            Subject::Reference(program) => program.to_owned(),
        };
        let mut subject_process = ServerProcess::of(&program, &FLAGS);
        let mut reference_process = ServerProcess::of(etcd, &FLAGS);
        subject_process.spawn();
        reference_process.spawn();
        subject_process.wait_until_healthy();
        reference_process.wait_until_healthy();
        let runtime = single_threaded_runtime();
        let (subject, reference) = runtime.block_on(async {
            let subject = Connection::open(subject_process.client_address()).await;
            let reference = Connection::open(reference_process.client_address()).await;
            (
                subject.expect("the subject is ready"),
                reference.expect("etcd is ready"),
            )
        });
        Self {
            subject,
            reference,
            runtime,
            subject_process,
            reference_process,
        }
    }

    /// Prints the end of what a server said that has ended by itself, which explains a lost answer.
    pub(crate) fn print_last_words(&mut self) {
        for process in [&mut self.subject_process, &mut self.reference_process] {
            if !process.is_running() {
                println!("{} has ended by itself:", process.client_url());
                let stderr = process.stderr();
                let first = stderr.lines().position(|line| line.contains("panic"));
                for line in stderr
                    .lines()
                    .skip(first.unwrap_or(0))
                    .take(LAST_WORDS_LINES)
                {
                    println!("  {line}");
                }
            }
        }
    }

    /// The answers of subject and reference.
    pub(crate) fn send(&mut self, operation: &Operation) -> (Answer, Answer) {
        let (subject, reference) = (&mut self.subject, &mut self.reference);
        self.runtime
            .block_on(async { tokio::join!(operation.send(subject), operation.send(reference)) })
    }
}

/// Nothing here survives a crash, and short elections start a server sooner.
const FLAGS: [&str; 3] = [
    "--unsafe-no-fsync",
    "--heartbeat-interval=20",
    "--election-timeout=200",
];
const LAST_WORDS_LINES: usize = 20;
