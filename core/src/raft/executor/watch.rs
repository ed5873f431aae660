//! A channel that keeps only the latest value and tells its receivers that it changed.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use openraft::rt::watch::{RecvError, SendError};
use openraft::rt::{OptionalSend, OptionalSync};

/// The family of latest-value channels, for openraft.
///
/// A reference to the value must not be held while a new one is sent: that panics.
#[derive(Debug)]
pub struct Watch;

impl openraft::rt::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = WatchSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = WatchReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (WatchSender<T>, WatchReceiver<T>) {
        let shared = Rc::new(Shared {
            value: RefCell::new(init),
            version: Cell::new(0),
            senders: Cell::new(1),
            receivers: Cell::new(0),
            receiver_next: Cell::new(0),
            waiting: RefCell::default(),
        });
        let receiver = WatchReceiver::new(&shared, 0);
        (WatchSender { shared }, receiver)
    }
}

/// Replaces the value.
pub struct WatchSender<T> {
    shared: Rc<Shared<T>>,
}

impl<T: OptionalSend + OptionalSync> openraft::rt::WatchSender<Watch, T> for WatchSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.shared.receivers.get() == 0 {
            return Err(SendError(value));
        }
        let old = self
            .shared
            .modify(|current| std::mem::replace(current, value));
        // Only now, with nothing borrowed: its destructor may look at this channel.
        drop(old);
        self.shared.publish();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = self.shared.modify(modify);
        if modified {
            self.shared.publish();
        }
        modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    fn subscribe(&self) -> WatchReceiver<T> {
        WatchReceiver::new(&self.shared, self.shared.version.get())
    }
}

#[cfg(test)]
impl<T> WatchSender<T> {
    /// How many receivers are listed as waiting.
    pub(super) fn waiting_count(&self) -> usize {
        self.shared.waiting.borrow().len()
    }
}

impl<T> Clone for WatchSender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        let left = self.shared.senders.get() - 1;
        self.shared.senders.set(left);
        if left == 0 {
            self.shared.wake_all();
        }
    }
}

impl<T> fmt::Debug for WatchSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchSender").finish_non_exhaustive()
    }
}

/// Sees the value, and remembers which version of it it has seen.
pub struct WatchReceiver<T> {
    shared: Rc<Shared<T>>,
    id: u64,
    seen: u64,
}

impl<T> WatchReceiver<T> {
    fn new(shared: &Rc<Shared<T>>, seen: u64) -> Self {
        shared.receivers.set(shared.receivers.get() + 1);
        let id = shared.receiver_next.get();
        shared.receiver_next.set(id + 1);
        Self {
            shared: Rc::clone(shared),
            id,
            seen,
        }
    }
}

impl<T: OptionalSend + OptionalSync> openraft::rt::WatchReceiver<Watch, T> for WatchReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|cx| {
            let version = self.shared.version.get();
            if self.seen != version {
                self.seen = version;
                return Poll::Ready(Ok(()));
            }
            if self.shared.senders.get() == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            self.shared.wait(self.id, cx);
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.shared.version.get();
        self.shared.value.borrow()
    }
}

impl<T> Clone for WatchReceiver<T> {
    /// The clone has seen what the original has.
    fn clone(&self) -> Self {
        Self::new(&self.shared, self.seen)
    }
}

impl<T> Drop for WatchReceiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
        self.shared.forget(self.id);
    }
}

impl<T> fmt::Debug for WatchReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchReceiver")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

struct Shared<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    receiver_next: Cell<u64>,
    /// In the order they began to wait. At most one entry per receiver: a wait that is given up
    /// leaves its entry for the receiver's next one.
    waiting: RefCell<Vec<(u64, Waker)>>,
}

impl<T> Shared<T> {
    fn modify<R>(&self, modify: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self
            .value
            .try_borrow_mut()
            .expect("no reference to a watched value is held while it is replaced");
        modify(&mut value)
    }

    fn publish(&self) {
        self.version.set(self.version.get() + 1);
        self.wake_all();
    }

    fn wait(&self, receiver: u64, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.iter_mut().find(|(id, _)| *id == receiver) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiting.push((receiver, cx.waker().clone())),
        }
    }

    fn forget(&self, receiver: u64) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(place) = waiting.iter().position(|(id, _)| *id == receiver) {
            waiting.remove(place);
        }
    }

    fn wake_all(&self) {
        let mut woken = self.waiting.take();
        for (_, waker) in woken.drain(..) {
            waker.wake();
        }
        // The list goes back for its memory, unless a waker made somebody wait meanwhile.
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            *waiting = woken;
        }
    }
}
