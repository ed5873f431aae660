//! A lock that tasks await, first come, first served.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft::rt::OptionalSend;

use super::permits::{Permits, Ticket};

/// A value that one task at a time may hold, also across awaits.
pub struct Mutex<T> {
    value: RefCell<T>,
    turn: Permits,
}

impl<T: OptionalSend + 'static> openraft::rt::Mutex<T> for Mutex<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Self {
        Self {
            value: RefCell::new(value),
            turn: Permits::new(1),
        }
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> + OptionalSend {
        Lock {
            mutex: self,
            ticket: None,
        }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// Waits for the lock; dropped while waiting, it leaves the line.
pub struct Lock<'a, T> {
    mutex: &'a Mutex<T>,
    ticket: Option<Ticket>,
}

impl<'a, T> Future for Lock<'a, T> {
    type Output = Guard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard<'a, T>> {
        let mutex = self.mutex;
        mutex
            .turn
            .poll_acquire(cx, &mut self.ticket)
            .map(|()| Guard {
                value: Some(mutex.value.borrow_mut()),
                turn: &mutex.turn,
            })
    }
}

impl<T> Drop for Lock<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.mutex.turn.cancel(ticket);
        }
    }
}

impl<T> fmt::Debug for Lock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The lock while it is held.
pub struct Guard<'a, T> {
    /// Empty only while dropping.
    value: Option<RefMut<'a, T>>,
    turn: &'a Permits,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("a guard holds the value until it is dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a guard holds the value until it is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // The value before the turn: the next holder borrows it.
        drop(self.value.take());
        self.turn.release();
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&**self).finish()
    }
}
