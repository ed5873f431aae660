//! A channel for one value.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use openraft::rt::OptionalSend;

use super::parked::Parked;

/// The family of one-value channels, for openraft.
#[derive(Debug)]
pub struct Oneshot;

impl openraft::rt::Oneshot for Oneshot {
    type Sender<T: OptionalSend> = OneshotSender<T>;
    type Receiver<T: OptionalSend> = OneshotReceiver<T>;
    type ReceiverError = SenderDropped;

    fn channel<T: OptionalSend>() -> (OneshotSender<T>, OneshotReceiver<T>) {
        let shared = Rc::new(Shared {
            value: Cell::new(None),
            sender_alive: Cell::new(true),
            receiver_alive: Cell::new(true),
            receiver: Parked::default(),
        });
        (
            OneshotSender {
                shared: Rc::clone(&shared),
            },
            OneshotReceiver { shared },
        )
    }
}

/// Sends the value, or drops to say that none will come.
pub struct OneshotSender<T> {
    shared: Rc<Shared<T>>,
}

impl<T: OptionalSend> openraft::rt::OneshotSender<T> for OneshotSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        if !self.shared.receiver_alive.get() {
            return Err(value);
        }
        self.shared.value.set(Some(value));
        // Dropping `self` wakes the receiver.
        Ok(())
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        self.shared.sender_alive.set(false);
        self.shared.receiver.wake();
    }
}

impl<T> fmt::Debug for OneshotSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneshotSender").finish_non_exhaustive()
    }
}

/// Awaits the value; once it has given it, or after the sender dropped, it only answers [`SenderDropped`].
pub struct OneshotReceiver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Result<T, SenderDropped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.shared.value.take() {
            return Poll::Ready(Ok(value));
        }
        if !self.shared.sender_alive.get() {
            return Poll::Ready(Err(SenderDropped));
        }
        self.shared.receiver.park(cx);
        Poll::Pending
    }
}

impl<T> Drop for OneshotReceiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_alive.set(false);
        drop(self.shared.value.take());
    }
}

impl<T> fmt::Debug for OneshotReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneshotReceiver").finish_non_exhaustive()
    }
}

/// The sender was dropped without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderDropped;

impl fmt::Display for SenderDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender was dropped without a value")
    }
}

impl std::error::Error for SenderDropped {}

struct Shared<T> {
    value: Cell<Option<T>>,
    sender_alive: Cell<bool>,
    receiver_alive: Cell<bool>,
    receiver: Parked,
}
