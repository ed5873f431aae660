//! Two servers side by side: each request goes to both at once.

use std::{path::Path, time::Instant};

use metastore_proto::etcdserverpb::{
    RangeRequest, RangeResponse,
    range_request::{SortOrder, SortTarget},
};

use super::{
    comparison::Difference,
    known_differences::KNOWN_WATCH_DIFFERENCES,
    lease_expiry::{Expiry, let_leases_expire},
    long_histories::{Told, fill, watch},
    notifications::{Notifications, be_notified},
    watch_generator::WatchStep,
    watchers::Watchers,
};
use crate::cluster::{
    connection::{Connection, single_threaded_runtime},
    operation::{Answer, Operation},
    server_process::{ServerProcess, program_under_test},
};

/// What a run does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Operation),
    Watch(WatchStep),
    /// Stops the subject, by SIGKILL or SIGTERM, and starts it on the same data.
    Restart {
        kill: bool,
        /// Waits first until all watchers have delivered what is due.
        settled: bool,
    },
}

impl Step {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Send(operation) => operation.kind(),
            Self::Watch(step) => step.kind(),
            Self::Restart { .. } => "restart",
        }
    }
}

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
    pub(crate) watchers: Watchers,
    /// Since when the countdown of one lease may differ: since the start, if the subject was restarted.
    started: Instant,
    restarted: bool,
    runtime: tokio::runtime::Runtime,
    // Dropped last: the connections above belong to them.
    subject_process: ServerProcess,
    reference_process: ServerProcess,
}

impl Pair {
    pub(crate) fn start(subject: Subject<'_>, etcd: &Path) -> Self {
        Self::start_with(subject, etcd, [&FLAGS, &FLAGS])
    }

    /// Both servers notify watchers of their progress every tenth of a second.
    pub(crate) fn start_notifying(subject: Subject<'_>, etcd: &Path) -> Self {
        let old = "--experimental-watch-progress-notify-interval=100ms";
        let new = match subject {
            Subject::Metastore => "--watch-progress-notify-interval=100ms",
            Subject::Reference(_) => old,
        };
        Self::start_with(subject, etcd, [&[new], &[old]])
    }

    fn start_with(subject: Subject<'_>, etcd: &Path, flags: [&[&str]; 2]) -> Self {
        let program = match subject {
            Subject::Metastore => program_under_test(),
            Subject::Reference(program) => program.to_owned(),
        };
        let mut subject_process = ServerProcess::of(&program, flags[0]);
        let mut reference_process = ServerProcess::of(etcd, flags[1]);
        subject_process.spawn();
        reference_process.spawn();
        subject_process.wait_until_healthy();
        reference_process.wait_until_healthy();
        let runtime = single_threaded_runtime();
        let (contract, known): (bool, &[_]) = match subject {
            Subject::Metastore => (true, &KNOWN_WATCH_DIFFERENCES),
            Subject::Reference(_) => (false, &[]),
        };
        let (subject, reference, watchers) = runtime.block_on(async {
            let subject = Connection::open(subject_process.client_address()).await;
            let reference = Connection::open(reference_process.client_address()).await;
            let mut reference = reference.expect("etcd is ready");
            let watchers = Watchers::start(&mut reference, contract, known).await;
            (subject.expect("the subject is ready"), reference, watchers)
        });
        Self {
            subject,
            reference,
            watchers,
            started: Instant::now(),
            restarted: false,
            runtime,
            subject_process,
            reference_process,
        }
    }

    /// Carries out one step. An operation has two answers, to be compared; of everything else the difference
    /// is found here.
    ///
    /// # Errors
    ///
    /// A difference in what was watched.
    pub(crate) fn take(&mut self, step: &Step) -> Result<Option<(Answer, Answer)>, Difference> {
        let servers = [&mut self.subject, &mut self.reference];
        match step {
            Step::Send(operation) => {
                let ready = self.watchers.prepare_for(operation, servers);
                self.runtime.block_on(ready)?;
                let answers = self.send(operation);
                self.watchers.observe(operation, &answers.1);
                Ok(Some(answers))
            }
            Step::Watch(step) => {
                let taken = self.watchers.take(step, servers);
                self.runtime.block_on(taken).map(|()| None)
            }
            Step::Restart { kill, settled } => self.restart_subject(*kill, *settled).map(|()| None),
        }
    }

    /// The subject must come back as if nothing had happened.
    fn restart_subject(&mut self, kill: bool, settled: bool) -> Result<(), Difference> {
        self.runtime
            .block_on(self.watchers.before_restart(settled))?;
        if kill {
            self.subject_process.kill();
        } else {
            self.subject_process.stop();
        }
        self.subject_process.start();
        self.restarted = true;
        let address = self.subject_process.client_address();
        let opened = self.runtime.block_on(Connection::open(address));
        self.subject = opened.expect("the subject is back");
        let servers = [&mut self.subject, &mut self.reference];
        self.runtime.block_on(self.watchers.after_restart(servers))
    }

    /// Compares what was watched and not yet compared.
    ///
    /// # Errors
    ///
    /// A difference in what was watched.
    pub(crate) fn finish(&mut self) -> Result<(), Difference> {
        let servers = [&mut self.subject, &mut self.reference];
        self.runtime.block_on(self.watchers.finish(servers))
    }

    /// How far the countdowns of one lease may be apart: a server that starts again counts from the beginning.
    pub(crate) fn seconds_apart(&self) -> i64 {
        let since_start = if self.restarted {
            self.started.elapsed().as_secs()
        } else {
            0
        };
        SECONDS_APART + i64::try_from(since_start).expect("a run is short")
    }

    /// Lets leases end on both servers at once; with `restart` the subject is killed while they count down.
    pub(crate) fn let_leases_expire(&mut self, restart: bool) -> [Expiry; 2] {
        let address = self.subject_process.client_address();
        let process = &mut self.subject_process;
        let after_the_writes = async |connection| {
            if !restart {
                return connection;
            }
            process.kill();
            process.start();
            Connection::open(address)
                .await
                .expect("the subject is back")
        };
        let subject = let_leases_expire(self.subject.clone(), after_the_writes);
        let reference = let_leases_expire(self.reference.clone(), async |connection| connection);
        let both = async { tokio::join!(subject, reference) };
        self.runtime.block_on(both).into()
    }

    pub(crate) fn be_notified(&mut self, subject: Subject<'_>) -> [Notifications; 2] {
        let contract = matches!(subject, Subject::Metastore);
        let subject = be_notified(self.subject.clone(), contract);
        let reference = be_notified(self.reference.clone(), false);
        let both = async { tokio::join!(subject, reference) };
        self.runtime.block_on(both).into()
    }

    /// Fills both servers with `count` values of `bytes` bytes, deletes them in one revision, then watches
    /// all of it.
    pub(crate) fn watch_a_long_history(
        &mut self,
        count: usize,
        bytes: usize,
        fragment: bool,
    ) -> [Told; 2] {
        let until = 2 + i64::try_from(count).expect("a small count");
        let (subject, reference) = (&mut self.subject, &mut self.reference);
        self.runtime.block_on(async {
            tokio::join!(fill(subject, count, bytes), fill(reference, count, bytes));
            let told = tokio::join!(
                watch(subject, 2, until, fragment),
                watch(reference, 2, until, fragment)
            );
            told.into()
        })
    }

    /// The subject's answer to a range in chunks, put together; `None` where it cannot be asked that way.
    pub(crate) fn range_in_chunks(&mut self, operation: &Operation) -> Option<Answer> {
        let Operation::Range(request) = operation else {
            return None;
        };
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let by_key = request.sort_target == SortTarget::Key as i32
            && [SortOrder::None as i32, SortOrder::Ascend as i32].contains(&request.sort_order);
        let unsorted = by_key || request.sort_order == SortOrder::None as i32 && request.count_only;
        if filters != [0; 4] || !unsorted {
            return None;
        }
        Some(
            self.runtime
                .block_on(in_chunks(&mut self.subject, request.clone()))
                .unwrap_or_else(|status| Answer::Refused {
                    code: status.code(),
                    message: status.message().to_owned(),
                }),
        )
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

async fn in_chunks(to: &mut Connection, request: RangeRequest) -> Result<Answer, tonic::Status> {
    let mut stream = to.kv.range_stream(request).await?.into_inner();
    let mut whole = RangeResponse::default();
    while let Some(chunk) = stream.message().await? {
        assert!(
            whole.header.is_none(),
            "something came after the chunk with the header"
        );
        let chunk = chunk
            .range_response
            .expect("a chunk is a part of an answer");
        whole.kvs.extend(chunk.kvs);
        (whole.header, whole.more, whole.count) = (chunk.header, chunk.more, chunk.count);
    }
    Ok(Answer::Range(whole))
}

/// No machine crashes here, so nothing needs to reach the disk. Frequent snapshots make restarts begin with one,
/// and short elections make them quick.
const FLAGS: [&str; 4] = [
    "--unsafe-no-fsync",
    "--snapshot-count=500",
    "--heartbeat-interval=20",
    "--election-timeout=200",
];
/// Two countdowns that were started by one request.
const SECONDS_APART: i64 = 2;
const LAST_WORDS_LINES: usize = 20;
