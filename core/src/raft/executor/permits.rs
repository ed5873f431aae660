//! A fair semaphore: whoever asked first is served first, and nobody overtakes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// A number of permits and the line of those who wait for one.
///
/// A released permit belongs at once to the first in the line, even before that task is polled.
/// Hence while somebody waits, no permit is free.
pub(super) struct Permits {
    free: Cell<usize>,
    line: RefCell<VecDeque<Waiter>>,
    ticket_next: Cell<Ticket>,
    /// Tickets below this have left the line: they hold a permit, whether or not they know yet.
    served_below: Cell<Ticket>,
}

/// A place in the line; tickets are served in ascending order.
pub(super) type Ticket = u64;

impl Permits {
    pub(super) fn new(permits: usize) -> Self {
        Self {
            free: Cell::new(permits),
            line: RefCell::default(),
            ticket_next: Cell::new(0),
            served_below: Cell::new(0),
        }
    }

    /// Takes a permit, or a place in the line, remembered in `ticket`.
    ///
    /// Whoever stops asking while holding a ticket gives it back with [`cancel`](Self::cancel).
    pub(super) fn poll_acquire(&self, cx: &Context<'_>, ticket: &mut Option<Ticket>) -> Poll<()> {
        if let Some(held) = *ticket {
            if held < self.served_below.get() {
                *ticket = None;
                return Poll::Ready(());
            }
            let mut line = self.line.borrow_mut();
            let place = place_of(&line, held);
            line[place].waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        if let Some(left) = self.free.get().checked_sub(1) {
            self.free.set(left);
            return Poll::Ready(());
        }
        let new = self.ticket_next.get();
        self.ticket_next.set(new + 1);
        self.line.borrow_mut().push_back(Waiter {
            ticket: new,
            waker: cx.waker().clone(),
        });
        *ticket = Some(new);
        Poll::Pending
    }

    /// Leaves the line, or passes on the permit that came meanwhile.
    pub(super) fn cancel(&self, ticket: Ticket) {
        if ticket < self.served_below.get() {
            self.release();
            return;
        }
        let waiter = {
            let mut line = self.line.borrow_mut();
            let place = place_of(&line, ticket);
            line.remove(place)
        };
        drop(waiter);
    }

    /// Gives one permit back.
    pub(super) fn release(&self) {
        let first = self.line.borrow_mut().pop_front();
        match first {
            Some(waiter) => {
                self.served_below.set(waiter.ticket + 1);
                waiter.waker.wake();
            }
            None => self.free.set(self.free.get() + 1),
        }
    }

    /// Serves everybody in the line, as if there were permits for all of them.
    pub(super) fn serve_all(&self) {
        let line = self.line.take();
        if let Some(last) = line.back() {
            self.served_below.set(last.ticket + 1);
        }
        for waiter in line {
            waiter.waker.wake();
        }
    }
}

fn place_of(line: &VecDeque<Waiter>, ticket: Ticket) -> usize {
    line.binary_search_by_key(&ticket, |waiter| waiter.ticket)
        .expect("a ticket that was not served is in the line")
}

struct Waiter {
    ticket: Ticket,
    waker: Waker,
}
