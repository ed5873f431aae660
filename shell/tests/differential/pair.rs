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
    _subject_process: ServerProcess,
    _reference_process: ServerProcess,
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
            _subject_process: subject_process,
            _reference_process: reference_process,
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
