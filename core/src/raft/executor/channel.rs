//! A bounded channel from many senders to one receiver.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use openraft::rt::{
    Mpsc, MpscReceiver, MpscSender, MpscWeakSender, OptionalSend, SendError, TryRecvError,
};

use super::parked::Parked;
use super::permits::{Permits, Ticket};

/// The family of bounded channels, for openraft.
#[derive(Debug)]
pub struct Channel;

impl Mpsc for Channel {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    /// A channel for up to `buffer` messages, which must be at least one.
    fn channel<T: OptionalSend>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        assert!(buffer > 0, "a channel has room for at least one message");
        let shared = Rc::new(Shared {
            messages: RefCell::default(),
            room: Permits::new(buffer),
            senders: Cell::new(1),
            receiver_alive: Cell::new(true),
            receiver: Parked::default(),
        });
        (
            Sender {
                shared: Rc::clone(&shared),
            },
            Receiver { shared },
        )
    }
}

/// Sends; the channel ends when the last sender is dropped and the messages are received.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

impl<T: OptionalSend> MpscSender<Channel, T> for Sender<T> {
    /// Waits for room behind everybody who waited before; a send that is dropped while waiting sends nothing.
    fn send(&self, message: T) -> impl Future<Output = Result<(), SendError<T>>> + OptionalSend {
        Sending {
            shared: &self.shared,
            message: Some(message),
            ticket: None,
        }
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender {
            shared: Rc::downgrade(&self.shared),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = self.shared.senders.get() - 1;
        self.shared.senders.set(left);
        if left == 0 {
            self.shared.receiver.wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// One message on its way into a channel.
pub struct Sending<'a, T> {
    shared: &'a Shared<T>,
    message: Option<T>,
    ticket: Option<Ticket>,
}

// The message is never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sending = self.get_mut();
        let shared = sending.shared;
        if shared.receiver_alive.get()
            && shared
                .room
                .poll_acquire(cx, &mut sending.ticket)
                .is_pending()
        {
            return Poll::Pending;
        }
        let message = sending
            .message
            .take()
            .expect("a send is not polled again after it completed");
        if !shared.receiver_alive.get() {
            return Poll::Ready(Err(SendError(message)));
        }
        shared.messages.borrow_mut().push_back(message);
        shared.receiver.wake();
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.room.cancel(ticket);
        }
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// Becomes a [`Sender`] as long as another one is alive, and does not keep the channel open by itself.
pub struct WeakSender<T> {
    shared: Weak<Shared<T>>,
}

impl<T: OptionalSend> MpscWeakSender<Channel, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let shared = self.shared.upgrade()?;
        let senders = shared.senders.get();
        if senders == 0 {
            return None;
        }
        shared.senders.set(senders + 1);
        Some(Sender { shared })
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Weak::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakSender").finish_non_exhaustive()
    }
}

/// Receives in the order sent; dropping it drops what was not received and fails all sends.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

impl<T> Receiver<T> {
    fn take(&mut self) -> Result<T, TryRecvError> {
        let message = self.shared.messages.borrow_mut().pop_front();
        match message {
            Some(message) => {
                self.shared.room.release();
                Ok(message)
            }
            None if self.shared.senders.get() == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>> + OptionalSend {
        poll_fn(|cx| match self.take() {
            Ok(message) => Poll::Ready(Some(message)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                self.shared.receiver.park(cx);
                Poll::Pending
            }
        })
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.take()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_alive.set(false);
        // Out of the channel first: a message may hold a sender of this very channel.
        let messages = self.shared.messages.take();
        drop(messages);
        self.shared.room.serve_all();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// One permit of `room` per free place; a message in the buffer holds the permit it came with.
struct Shared<T> {
    messages: RefCell<VecDeque<T>>,
    room: Permits,
    senders: Cell<usize>,
    receiver_alive: Cell<bool>,
    receiver: Parked,
}
