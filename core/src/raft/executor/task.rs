//! Tasks, their slots in the executor, and the handles that await them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use slab::Slab;

use super::parked::Parked;
use super::wake::TaskWaker;

/// Awaits the output of a task; dropping it lets the task run on.
pub struct JoinHandle<T> {
    outcome: Rc<Outcome<T>>,
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                assert!(
                    !self.outcome.taken(),
                    "a join handle is not awaited again after it gave its result"
                );
                self.outcome.awaiting.park(cx);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// Why a task has no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked. Its owner got the panic from the step it happened in.
    Panicked,
    /// Its executor was dropped before it completed.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Cancelled => "the task was dropped with its executor",
        })
    }
}

impl std::error::Error for JoinError {}

/// All tasks of an executor by index.
pub(super) type Tasks = Slab<Slot>;

pub(super) enum Slot {
    Waiting(Task),
    Polling,
    /// Finished, but its index is still in the ready queue and must not be given away before it left.
    Finished,
}

pub(super) struct Task {
    pub(super) future: Pin<Box<dyn Future<Output = ()>>>,
    pub(super) waker: Waker,
    pub(super) flag: Arc<TaskWaker>,
}

/// A task taken out of its slot to be polled. Unless it goes back to wait, dropping this drops the
/// task and frees the slot, also while unwinding.
pub(super) struct Polling<'a> {
    tasks: &'a RefCell<Tasks>,
    index: u32,
    task: Option<Task>,
}

impl<'a> Polling<'a> {
    /// Takes the task at `index` out of its slot, or forgets it when it has finished.
    pub(super) fn start(tasks: &'a RefCell<Tasks>, index: u32) -> Option<Self> {
        let mut slots = tasks.borrow_mut();
        match std::mem::replace(&mut slots[index as usize], Slot::Polling) {
            Slot::Waiting(task) => {
                task.flag.unqueue();
                Some(Self {
                    tasks,
                    index,
                    task: Some(task),
                })
            }
            Slot::Finished => {
                slots.remove(index as usize);
                None
            }
            Slot::Polling => unreachable!("a task is never polled from within its own poll"),
        }
    }

    pub(super) fn poll(&mut self) -> Poll<()> {
        let task = self
            .task
            .as_mut()
            .expect("the task is here until it waits again");
        task.future
            .as_mut()
            .poll(&mut Context::from_waker(&task.waker))
    }

    /// Puts the task back into its slot.
    pub(super) fn wait_again(mut self) {
        let task = self
            .task
            .take()
            .expect("the task is here until it waits again");
        self.tasks.borrow_mut()[self.index as usize] = Slot::Waiting(task);
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let Some(Task {
            future,
            waker,
            flag,
        }) = self.task.take()
        else {
            return;
        };
        // First the future, with no slot borrowed: destructors may spawn, and wake even this task.
        drop(future);
        drop(waker);
        let in_queue = flag.retire();
        let mut slots = self.tasks.borrow_mut();
        if in_queue {
            slots[self.index as usize] = Slot::Finished;
        } else {
            slots.remove(self.index as usize);
        }
    }
}

/// Splits a future into a task body without output and the handle that awaits the output.
pub(super) fn joinable<F: Future>(future: F) -> (Body<F>, JoinHandle<F::Output>) {
    let outcome = Rc::new(Outcome {
        result: Cell::new(None),
        stage: Cell::new(Stage::Waiting),
        awaiting: Parked::default(),
    });
    let body = Body {
        future,
        report: Report {
            outcome: Rc::clone(&outcome),
        },
    };
    (body, JoinHandle { outcome })
}

pin_project! {
    /// A future that reports its output, or its end without one, to a join handle.
    pub(super) struct Body<F: Future> {
        #[pin]
        future: F,
        report: Report<F::Output>,
    }
}

impl<F: Future> Future for Body<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let body = self.project();
        let outcome = &body.report.outcome;
        outcome.stage.set(Stage::Polling);
        // When this unwinds, the stage stays and tells that the task panicked.
        let polled = body.future.poll(cx);
        outcome.stage.set(Stage::Waiting);
        polled.map(|output| outcome.settle(Ok(output)))
    }
}

/// The task's side of the outcome; dropped without an output it reports why there is none.
struct Report<T> {
    outcome: Rc<Outcome<T>>,
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        match self.outcome.stage.get() {
            Stage::Waiting => self.outcome.settle(Err(JoinError::Cancelled)),
            Stage::Polling => self.outcome.settle(Err(JoinError::Panicked)),
            Stage::Settled => {}
        }
    }
}

struct Outcome<T> {
    result: Cell<Option<Result<T, JoinError>>>,
    stage: Cell<Stage>,
    awaiting: Parked,
}

impl<T> Outcome<T> {
    fn settle(&self, result: Result<T, JoinError>) {
        self.result.set(Some(result));
        self.stage.set(Stage::Settled);
        self.awaiting.wake();
    }

    /// Whether the result has been there; asked when it is not there.
    fn taken(&self) -> bool {
        self.stage.get() == Stage::Settled
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Polling,
    Settled,
}
