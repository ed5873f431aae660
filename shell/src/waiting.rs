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
use std::time::Duration;

use metastore_core::lease::LeaseAnswer;
use metastore_core::output::{MemberInfo, Outcome, Refusal};
use slab::Slab;

use crate::node::Node;

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
pub(crate) struct Mailbox(Arc<Mutex<Delivered>>);

#[derive(Default)]
struct Delivered {
    answers: Vec<(Token, Answer)>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Delivers a batch and wakes the thread once.
    pub(crate) fn deliver(&self, batch: &mut Vec<(Token, Answer)>) {
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delivered.answers.append(batch);
        let waker = delivered.waker.take();
        drop(delivered);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn take(&self) -> Vec<(Token, Answer)> {
        poll_fn(|cx| {
            let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if delivered.answers.is_empty() {
                delivered.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut delivered.answers))
        })
        .await
    }
}

enum Slot {
    Waiting {
        waker: Option<Waker>,
        /// How many looks there had been when it began.
        since: u64,
    },
    Answered(Answer),
    /// Nothing more comes: the answer is taken, or there will be none. Dropping the wait frees the slot.
    Done,
    /// The member is silent for too long, which the handler is yet to learn.
    Late,
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
    /// How often it was looked for what is late: a clock that costs nothing.
    looks: u64,
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

/// Ends what has waited for longer than `patience` while the member took nothing from its inbox. To be run on a connection
/// thread, for ever.
///
/// Every request ends by its deadline, which the member keeps. But a member that hangs, since its disk does, keeps none:
/// then its clients learn here that they are to try elsewhere.
pub(crate) async fn end_late(node: Node, patience: Duration) {
    let mut silence = Silence::default();
    loop {
        tokio::time::sleep(patience / LOOKS).await;
        let late = silence.look(node.takes());
        for waker in THREAD.with_borrow_mut(|registry| registry.end_late(late)) {
            waker.wake();
        }
    }
}

/// How often there is a look within the patience.
const LOOKS: u32 = 8;

/// For how many looks the member has taken nothing.
#[derive(Default)]
struct Silence {
    takes: u64,
    looks: u32,
}

impl Silence {
    /// Whether the member has been silent for all of the patience.
    fn look(&mut self, takes: u64) -> bool {
        if takes != self.takes {
            *self = Self { takes, looks: 0 };
        }
        self.looks = self.looks.saturating_add(1);
        self.looks > LOOKS
    }
}

impl Registry {
    /// Ends what is late, if the member is silent, and returns who is to learn it.
    fn end_late(&mut self, silent: bool) -> Vec<Waker> {
        self.looks += 1;
        if !silent {
            return Vec::new();
        }
        let mut wakers = Vec::new();
        for (_, slot) in &mut self.slots {
            if let Slot::Waiting { waker, since } = slot
                && *since + u64::from(LOOKS) < self.looks
            {
                wakers.extend(waker.take());
                *slot = Slot::Late;
            }
        }
        wakers
    }

    fn answer(&mut self, slot: usize, answer: Answer) -> Option<Waker> {
        match std::mem::replace(&mut self.slots[slot], Slot::Answered(answer)) {
            Slot::Waiting { waker, .. } => waker,
            Slot::Late => None,
            Slot::Abandoned => {
                self.slots.remove(slot);
                None
            }
            Slot::Answered(_) | Slot::Done => unreachable!("a request is answered once"),
        }
    }
}

/// A place in this thread's registry: a future that resolves with the answer, or with why there is none.
pub(crate) struct Wait {
    slot: usize,
    token: Token,
}

impl Wait {
    /// Takes a slot. Call it on a connection thread only.
    pub(crate) fn new() -> Self {
        THREAD.with_borrow_mut(|registry| {
            let waiting = Slot::Waiting {
                waker: None,
                since: registry.looks,
            };
            let slot = registry.slots.insert(waiting);
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
        THREAD.with_borrow_mut(|registry| registry.slots[self.slot] = Slot::Done);
    }
}

impl Future for Wait {
    type Output = Result<Answer, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        THREAD.with_borrow_mut(|registry| {
            let slot = &mut registry.slots[self.slot];
            match std::mem::replace(slot, Slot::Abandoned) {
                Slot::Answered(answer) => {
                    *slot = Slot::Done;
                    Poll::Ready(Ok(answer))
                }
                Slot::Waiting { since, .. } => {
                    let waker = Some(cx.waker().clone());
                    *slot = Slot::Waiting { waker, since };
                    Poll::Pending
                }
                Slot::Late => Poll::Ready(Err(Refusal::TimedOut)),
                Slot::Done | Slot::Abandoned => unreachable!("a wait that has ended is not polled"),
            }
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        THREAD.with_borrow_mut(|registry| match registry.slots[self.slot] {
            Slot::Answered(_) | Slot::Done => drop(registry.slots.remove(self.slot)),
            _ => registry.slots[self.slot] = Slot::Abandoned,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(wait: &mut Wait) -> Poll<Result<Answer, Refusal>> {
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
            Poll::Ready(Ok(Answer::Proposed(Err(Refusal::TimedOut))))
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
    fn what_waits_for_a_silent_member_ends_and_its_slot_is_kept_for_the_answer() {
        let mut early = Wait::new();
        assert!(poll(&mut early).is_pending());
        THREAD.with_borrow_mut(|registry| {
            (0..LOOKS).for_each(|_| drop(registry.end_late(false)));
        });
        let mut late = Wait::new();
        assert!(poll(&mut late).is_pending());
        let woken = THREAD.with_borrow_mut(|registry| registry.end_late(true).len());
        assert_eq!(woken, 1, "the other has patience yet");
        assert!(matches!(
            poll(&mut early),
            Poll::Ready(Err(Refusal::TimedOut))
        ));
        assert!(poll(&mut late).is_pending());
        let slot = early.token().slot();
        drop(early);
        assert_eq!(slots(), 2);
        THREAD.with_borrow_mut(|registry| registry.answer(slot, Answer::Barrier(Ok(()))));
        assert_eq!(slots(), 1);
        late.forget();
    }

    #[test]
    fn an_answer_that_comes_before_the_handler_learns_of_its_lateness_counts() {
        let mut wait = Wait::new();
        assert!(poll(&mut wait).is_pending());
        THREAD.with_borrow_mut(|registry| {
            (0..=LOOKS).for_each(|_| drop(registry.end_late(true)));
            registry.answer(wait.token().slot(), Answer::Barrier(Ok(())));
        });
        assert!(matches!(
            poll(&mut wait),
            Poll::Ready(Ok(Answer::Barrier(Ok(()))))
        ));
        drop(wait);
        assert_eq!(slots(), 0);
    }

    #[test]
    fn a_member_that_takes_anything_is_not_silent() {
        let mut silence = Silence::default();
        assert!((0..LOOKS).all(|_| !silence.look(7)));
        assert!(silence.look(7));
        assert!((0..LOOKS).all(|_| !silence.look(8)));
        assert!(silence.look(8));
    }

    #[test]
    fn a_token_keeps_thread_and_slot_apart() {
        let token = Token::new(513, 77);
        assert_eq!((token.thread(), token.slot()), (513, 77));
    }
}
