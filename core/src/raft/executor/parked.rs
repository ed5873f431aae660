//! The place where one waiting task leaves its waker.

use std::cell::Cell;
use std::task::{Context, Waker};

/// At most one task waiting for something to happen.
///
/// The waker is kept after a wake-up: the same task usually comes back, and recognising its waker is
/// cheaper than cloning it anew.
#[derive(Default)]
pub(super) struct Parked {
    waker: Cell<Option<Waker>>,
    waiting: Cell<bool>,
}

impl Parked {
    /// The task of `cx` is the one to wake next time, instead of whichever was.
    pub(super) fn park(&self, cx: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(kept) if kept.will_wake(cx.waker()) => kept,
            _ => cx.waker().clone(),
        };
        self.waker.set(Some(waker));
        self.waiting.set(true);
    }

    /// Wakes the waiting task, if one waits, once.
    pub(super) fn wake(&self) {
        if !self.waiting.replace(false) {
            return;
        }
        // Out of its place while it is called: a waker may do anything, also park here again.
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            if !self.waiting.get() {
                self.waker.set(Some(waker));
            }
        }
    }
}
