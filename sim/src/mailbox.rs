//! A queue between tasks of one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use madsim::time::{advance, timeout};

use crate::trace::now;

/// Many senders, one receiver, no bound: what is in flight is bounded by the clients and the members.
pub(crate) struct Mailbox<T>(Rc<RefCell<Inner<T>>>);

struct Inner<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Mailbox<T> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner {
            queue: VecDeque::new(),
            waker: None,
        })))
    }

    /// Puts a letter in.
    pub(crate) fn push(&self, letter: T) {
        let mut inner = self.0.borrow_mut();
        inner.queue.push_back(letter);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Takes all letters that are there.
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.0.borrow_mut().queue.drain(..).collect()
    }

    /// Waits until there is a letter, and takes it.
    pub(crate) async fn recv(&self) -> T {
        poll_fn(|context| {
            let mut inner = self.0.borrow_mut();
            match inner.queue.pop_front() {
                Some(letter) => Poll::Ready(letter),
                None => {
                    inner.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits for a letter until a time; without one, for ever. The runtime's sleeps have a grain of a
    /// millisecond, so shorter waits are spent as computing time instead.
    pub(crate) async fn recv_until(&self, deadline: Option<Duration>) -> Option<T> {
        if let Some(letter) = self.0.borrow_mut().queue.pop_front() {
            return Some(letter);
        }
        let Some(deadline) = deadline else {
            return Some(self.recv().await);
        };
        let left = deadline.saturating_sub(now());
        if left > GRAIN {
            return timeout(left, self.recv()).await.ok();
        }
        advance(left);
        madsim::task::yield_now().await;
        self.0.borrow_mut().queue.pop_front()
    }
}

const GRAIN: Duration = Duration::from_micros(20);
