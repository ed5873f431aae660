//! Requests that wait for the member, and how its answers come back to them.
//!
//! A handler runs on one connection thread and never leaves it. It takes a slot in that thread's registry
//! and awaits the slot; the member thread puts whole batches of answers into the thread's mailbox, and one
//! task there hands them out. So a batch of a hundred answers costs one wake-up of the thread, not a hundred,
//! and a handler that is dropped (its client went away) leaves no trace but a slot, freed by the answer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use metastore_core::lease::LeaseAnswer;
use metastore_core::output::{MemberInfo, Outcome, Refusal};
use slab::Slab;

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Of a proposal.
    Proposed(Result<Outcome, Refusal>),
    /// Of a read barrier.
    Barrier(Result<(), Refusal>),
    /// Of a question to the lessor.
    Lease(Result<LeaseAnswer, Refusal>),
    /// Of a change of the membership.
    Membership(Result<Arc<[MemberInfo]>, Refusal>),
    /// Of a leader transfer.
    Transfer(Result<(), Refusal>),
}

/// Which handler an answer is for: its connection thread and its slot there, packed for the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    fn new(thread: usize, slot: usize) -> Self {
        assert!(
            thread < 1 << 16 && slot < 1 << 48,
            "a token has room for 65,536 threads"
        );
        Self((thread as u64) << 48 | slot as u64)
    }

    /// As the core carries it.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// Back from the core.
    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The index of the connection thread.
    pub(crate) fn thread(self) -> usize {
        usize::try_from(self.0 >> 48).unwrap_or(usize::MAX)
    }

    fn slot(self) -> usize {
        usize::try_from(self.0 & ((1 << 48) - 1)).unwrap_or(usize::MAX)
    }
}

/// Answers on their way to one connection thread.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Inbox>>);

#[derive(Default)]
struct Inbox {
    answers: Vec<(Token, Answer)>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Delivers a batch and wakes the thread once.
    pub(crate) fn deliver(&self, batch: &mut Vec<(Token, Answer)>) {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.answers.append(batch);
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn take(&self) -> Vec<(Token, Answer)> {
        poll_fn(|cx| {
            let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if inbox.answers.is_empty() {
                inbox.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut inbox.answers))
        })
        .await
    }
}

enum Slot {
    Waiting(Option<Waker>),
    Answered(Answer),
    /// The handler is gone; the slot is kept until the answer comes, so that no other handler gets it.
    Abandoned,
}

thread_local! {
    static THREAD: RefCell<Registry> = RefCell::new(Registry::default());
}

#[derive(Default)]
struct Registry {
    thread: usize,
    slots: Slab<Slot>,
}

/// Makes this thread the connection thread with this index, and hands out what its mailbox receives, for ever.
pub(crate) async fn hand_out(thread: usize, mailbox: Mailbox) {
    THREAD.with_borrow_mut(|registry| registry.thread = thread);
    loop {
        for (token, answer) in mailbox.take().await {
            let waker = THREAD.with_borrow_mut(|registry| registry.answer(token.slot(), answer));
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Registry {
    fn answer(&mut self, slot: usize, answer: Answer) -> Option<Waker> {
        match std::mem::replace(&mut self.slots[slot], Slot::Answered(answer)) {
            Slot::Waiting(waker) => waker,
            Slot::Abandoned => {
                self.slots.remove(slot);
                None
            }
            Slot::Answered(_) => unreachable!("a request is answered once"),
        }
    }
}

/// A place in this thread's registry: a future that resolves with the answer.
pub(crate) struct Wait {
    slot: usize,
    token: Token,
}

impl Wait {
    /// Takes a slot. Call it on a connection thread only.
    pub(crate) fn new() -> Self {
        THREAD.with_borrow_mut(|registry| {
            let slot = registry.slots.insert(Slot::Waiting(None));
            Self {
                slot,
                token: Token::new(registry.thread, slot),
            }
        })
    }

    /// What the answer must carry to find this wait.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Gives the slot back: no answer will come, because the request was never handed over.
    pub(crate) fn forget(self) {
        THREAD.with_borrow_mut(|registry| {
            registry.slots[self.slot] = Slot::Answered(Answer::Barrier(Ok(())))
        });
    }
}

impl Future for Wait {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        THREAD.with_borrow_mut(|registry| {
            let slot = &mut registry.slots[self.slot];
            match std::mem::replace(slot, Slot::Abandoned) {
                Slot::Answered(answer) => {
                    // Answered and taken: what is left for drop is to free the slot.
                    *slot = Slot::Answered(Answer::Barrier(Ok(())));
                    Poll::Ready(answer)
                }
                Slot::Waiting(_) => {
                    *slot = Slot::Waiting(Some(cx.waker().clone()));
                    Poll::Pending
                }
                Slot::Abandoned => unreachable!("an abandoned wait is not polled"),
            }
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        THREAD.with_borrow_mut(|registry| match registry.slots[self.slot] {
            Slot::Answered(_) => drop(registry.slots.remove(self.slot)),
            _ => registry.slots[self.slot] = Slot::Abandoned,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(wait: &mut Wait) -> Poll<Answer> {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn slots() -> usize {
        THREAD.with_borrow(|registry| registry.slots.len())
    }

    #[test]
    fn an_answer_reaches_the_wait_it_is_for_and_frees_its_slot() {
        let (mut one, mut two) = (Wait::new(), Wait::new());
        assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
        let token = Token::from_raw(two.token().raw());
        THREAD.with_borrow_mut(|registry| {
            registry.answer(token.slot(), Answer::Proposed(Err(Refusal::TimedOut)))
        });
        assert!(poll(&mut one).is_pending());
        assert!(matches!(
            poll(&mut two),
            Poll::Ready(Answer::Proposed(Err(Refusal::TimedOut)))
        ));
        drop(two);
        assert_eq!(slots(), 1);
        one.forget();
        assert_eq!(slots(), 0);
    }

    #[test]
    fn an_abandoned_slot_is_not_reused_before_its_answer() {
        let wait = Wait::new();
        let slot = wait.token().slot();
        drop(wait);
        let next = Wait::new();
        assert_ne!(next.token().slot(), slot);
        THREAD.with_borrow_mut(|registry| registry.answer(slot, Answer::Barrier(Ok(()))));
        assert_eq!(slots(), 1);
        next.forget();
    }

    #[test]
    fn a_token_keeps_thread_and_slot_apart() {
        let token = Token::new(513, 77);
        assert_eq!((token.thread(), token.slot()), (513, 77));
    }
}
