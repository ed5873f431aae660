//! The thread that writes the log: takes whatever waits, writes it as one batch, reports once.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metastore_core::wal::Record;

use super::files::Files;
use super::log_stats::LogStats;
use super::wal_error::WalError;
use super::wal_file::Wal;

#[cfg(test)]
mod tests;

/// What the thread can be asked for. Requests are carried out in the order they are sent.
#[derive(Debug)]
pub enum LogOp {
    /// Write these records.
    Write {
        /// Named in the completion; must grow from one write to the next.
        ticket: u64,
        /// What to write, in order.
        records: Vec<Record>,
        /// Whether somebody waits for it to be durable. What nobody waits for goes with the next batch, or alone after
        /// [`LogLimits::lazy_delay`].
        sync: bool,
    },
    /// A durable checkpoint covers all entries up to this index: segments with no others may go.
    DropCovered {
        /// The last covered index.
        index: u64,
    },
    /// Write everything sent before, end the log in good order, and return. The same happens when all senders are gone.
    Stop,
}

/// The fate of a batch.
#[derive(Debug)]
pub struct Completion {
    /// On success all writes up to and including this ticket are durable. On failure it is the last ticket that was
    /// taken; whether those after the previous completion are on disk is unknown.
    pub up_to_ticket: u64,
    /// An error is final: there will be no other completion, and sending fails from now on.
    pub result: Result<(), WalError>,
}

/// The bounds of the thread's queue and batches.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// Requests that may wait in the channel; a sender sees a full channel when there are more.
    pub queue_ops_max: usize,
    /// A batch takes no further request once it has this many bytes. A single request may exceed it.
    pub batch_bytes_max: usize,
    /// How long records wait that nobody asked to have synced.
    pub lazy_delay: Duration,
}

/// The running thread.
#[derive(Debug)]
pub struct LogThread {
    ops: SyncSender<LogOp>,
    thread: JoinHandle<()>,
    stats: Arc<LogStats>,
}

impl LogThread {
    /// Starts the thread. `on_done` is called on it, once for each batch.
    pub fn spawn<F: Files>(
        wal: Wal<F>,
        limits: LogLimits,
        on_done: impl FnMut(Completion) + Send + 'static,
    ) -> io::Result<LogThread> {
        let (ops, inbox) = sync_channel(limits.queue_ops_max);
        let stats = wal.stats();
        let writer = Writer {
            limits,
            on_done,
            last_ticket: 0,
            lazy_until: None,
            urgent: false,
        };
        let thread = thread::Builder::new()
            .name("wal".into())
            .spawn(move || writer.run(wal, &inbox))?;
        Ok(LogThread { ops, thread, stats })
    }

    /// A way to send requests. `try_send` tells a full queue from a log that has stopped.
    pub fn ops(&self) -> SyncSender<LogOp> {
        self.ops.clone()
    }

    /// The counters.
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.stats)
    }

    /// Stops in good order and waits for the end. Errors have gone to `on_done`.
    pub fn stop(self) {
        // Sending fails when the log has failed, and then it has stopped already.
        let _ = self.ops.send(LogOp::Stop);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Writer<D> {
    limits: LogLimits,
    on_done: D,
    last_ticket: u64,
    /// Set while records wait in the encoder: when they are written at the latest.
    lazy_until: Option<Instant>,
    /// Whether somebody waits for one of them.
    urgent: bool,
}

enum Next {
    Op(LogOp),
    Nothing,
    Stop,
}

impl<D: FnMut(Completion)> Writer<D> {
    fn run<F: Files>(mut self, mut wal: Wal<F>, inbox: &Receiver<LogOp>) {
        let result = match self.serve(&mut wal, inbox) {
            Ok(()) => wal.close(),
            Err(error) => Err(error),
        };
        if result.is_err() {
            (self.on_done)(Completion {
                up_to_ticket: self.last_ticket,
                result,
            });
        }
    }

    /// Serves until it is told to stop, and leaves nothing uncommitted.
    fn serve<F: Files>(
        &mut self,
        wal: &mut Wal<F>,
        inbox: &Receiver<LogOp>,
    ) -> Result<(), WalError> {
        loop {
            let full =
                self.lazy_until.is_some() && wal.pending_bytes() >= self.limits.batch_bytes_max;
            let next = if full {
                Next::Nothing
            } else {
                self.next(inbox)
            };
            match next {
                Next::Op(LogOp::Write {
                    ticket,
                    records,
                    sync,
                }) => self.take(wal, ticket, records, sync)?,
                Next::Op(LogOp::DropCovered { index }) => wal.drop_covered(index),
                Next::Nothing => self.commit(wal)?,
                Next::Op(LogOp::Stop) | Next::Stop => return self.commit(wal),
            }
        }
    }

    fn next(&self, inbox: &Receiver<LogOp>) -> Next {
        let patience = match self.lazy_until {
            None => return inbox.recv().map_or(Next::Stop, Next::Op),
            Some(_) if self.urgent => Duration::ZERO,
            Some(until) => until.saturating_duration_since(Instant::now()),
        };
        match inbox.recv_timeout(patience) {
            Ok(op) => Next::Op(op),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::Stop,
        }
    }

    fn take<F: Files>(
        &mut self,
        wal: &mut Wal<F>,
        ticket: u64,
        records: Vec<Record>,
        sync: bool,
    ) -> Result<(), WalError> {
        assert!(ticket > self.last_ticket, "tickets grow");
        self.last_ticket = ticket;
        self.urgent |= sync;
        self.lazy_until
            .get_or_insert_with(|| Instant::now() + self.limits.lazy_delay);
        for record in records {
            // One write can hold what thousands of clients asked for, more than a batch has room for. A crash between two
            // of its batches leaves what one before the write would leave, and a part of it: nobody has been told of it.
            if wal.pending_bytes() >= self.limits.batch_bytes_max {
                wal.commit()?;
            }
            wal.push(record)?;
        }
        Ok(())
    }

    fn commit<F: Files>(&mut self, wal: &mut Wal<F>) -> Result<(), WalError> {
        if self.lazy_until.take().is_none() {
            return Ok(());
        }
        self.urgent = false;
        wal.commit()?;
        (self.on_done)(Completion {
            up_to_ticket: self.last_ticket,
            result: Ok(()),
        });
        Ok(())
    }
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            queue_ops_max: 4096,
            batch_bytes_max: 8 << 20,
            lazy_delay: Duration::from_millis(50),
        }
    }
}
