//! The one task that hands commands to consensus: a queue in front of it instead of a task per proposal.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::executor::Executor;
use super::outbox::SharedOutbox;
use super::types::{Raft, Respond};
use crate::command::Command;

/// Numbered commands on their way into consensus, in order, each with the only term in which it may be appended.
#[derive(Clone, Default)]
pub(crate) struct Queue(Rc<RefCell<Waiting>>);

#[derive(Default)]
struct Waiting {
    commands: VecDeque<(u64, u64, Command)>,
    waker: Option<Waker>,
}

impl Queue {
    /// Adds a command; it goes in when the executor next runs.
    pub(crate) fn push(&self, term: u64, number: u64, command: Command) {
        let mut waiting = self.0.borrow_mut();
        waiting.commands.push_back((term, number, command));
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Starts the task that empties the queue into consensus, until consensus stops.
    pub(crate) fn run(&self, executor: &Executor, raft: Raft, outbox: SharedOutbox) {
        let queue = self.clone();
        drop(executor.spawn(async move {
            loop {
                let (term, number, command) = queue.next().await;
                let responder = Respond::new(Rc::clone(&outbox), number);
                let write = raft.write(command).responder(responder);
                if write.with_leader(term).await.is_err() {
                    // Consensus has stopped for good; those that wait are answered by their deadline.
                    return;
                }
            }
        }));
    }

    async fn next(&self) -> (u64, u64, Command) {
        poll_fn(|cx| {
            let mut waiting = self.0.borrow_mut();
            match waiting.commands.pop_front() {
                Some(next) => Poll::Ready(next),
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
