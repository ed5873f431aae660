//! What waits for the member thread, and when the thread is woken for it.
//!
//! While the log is being synced, a proposal cannot go anywhere: the next write has to wait for this one. So
//! proposals do not wake the member thread then; they are taken together when the sync is done. That saves a
//! context switch per proposal and makes the batches as large as they can be, at no cost in latency. Where they are
//! proposed here, they also stay when the thread is woken for something else: each batch costs every member a sync and
//! a few messages.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use metastore_core::raft::PeerMessage;

use crate::node::Call;

/// Calls that may wait; one more is refused.
pub(crate) const CALLS_MAX: usize = 8192;

/// Bytes of letters that may wait. What other members send is bounded by what they may have under way, which is less;
/// this holds also while the member does not take any.
const LETTER_BYTES_MAX: usize = 64 << 20;

/// The sending end; cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Inbox(Arc<Shared>);

/// The receiving end: one thread.
pub(crate) struct Receiver(Arc<Shared>);

/// What becomes of proposals that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proposals {
    /// They wake the receiver.
    Wake,
    /// They come along with whatever else comes.
    ComeAlong,
    /// They stay, until nothing else has come in time.
    Stay,
}

/// Why a call was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// As many wait as may.
    Full,
    /// The member thread has ended.
    Closed,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// What the receiver sleeps for.
    sleeps: AtomicU8,
    receiver: OnceLock<Thread>,
    /// How often the receiver has taken calls.
    takes: AtomicU64,
    /// What the letters weigh that came since the receiver last took everything.
    letter_bytes: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    calls: Vec<Call>,
    closed: bool,
}

/// The receiver runs; it will look at the queue before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps until there is any call.
const FOR_ANYTHING: u8 = 1;
/// It sleeps until there is a call that cannot wait.
const FOR_URGENT: u8 = 2;

/// A new inbox.
pub(crate) fn new() -> (Inbox, Receiver) {
    let shared = Arc::<Shared>::default();
    (Inbox(Arc::clone(&shared)), Receiver(shared))
}

impl Inbox {
    /// Hands over a client's call, unless too many wait.
    pub(crate) fn offer(&self, call: Call) -> Result<(), Rejected> {
        self.put(call, CALLS_MAX)
    }

    /// Hands over a confirmation or an order: there is always room for these, and few of them.
    pub(crate) fn tell(&self, call: Call) -> Result<(), Rejected> {
        self.put(call, usize::MAX)
    }

    /// Hands over the letters that came in one piece from another member; they weigh so many bytes.
    pub(crate) fn tell_letters(
        &self,
        from: u64,
        letters: Vec<PeerMessage>,
        bytes: usize,
    ) -> Result<(), Rejected> {
        self.0.letter_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell(Call::Letters { from, letters })
    }

    /// Whether so many letters wait that no more should be read until some are taken.
    pub(crate) fn is_flooded(&self) -> bool {
        self.0.letter_bytes.load(Ordering::Relaxed) >= LETTER_BYTES_MAX
    }

    /// How often the receiver has taken calls: it does so at each of its alarms at least, for as long as it lives.
    pub(crate) fn takes(&self) -> u64 {
        self.0.takes.load(Ordering::Relaxed)
    }

    fn put(&self, call: Call, calls_max: usize) -> Result<(), Rejected> {
        let urgent = call.is_urgent();
        let mut queue = self.0.lock();
        if queue.closed {
            return Err(Rejected::Closed);
        }
        if queue.calls.len() >= calls_max {
            return Err(Rejected::Full);
        }
        queue.calls.push(call);
        drop(queue);
        let sleeps = self.0.sleeps.load(Ordering::SeqCst);
        if (sleeps == FOR_ANYTHING || (sleeps == FOR_URGENT && urgent))
            && self.0.sleeps.swap(AWAKE, Ordering::SeqCst) != AWAKE
            && let Some(receiver) = self.0.receiver.get()
        {
            receiver.unpark();
        }
        Ok(())
    }
}

impl Receiver {
    /// Waits for calls and takes them: all of them, or with [`Proposals::Stay`] all others. When `timeout` has passed
    /// first it takes whatever waits, which may be nothing.
    pub(crate) fn take(&self, timeout: Option<Duration>, proposals: Proposals) -> Vec<Call> {
        let me = self.0.receiver.get_or_init(thread::current);
        debug_assert_eq!(me.id(), thread::current().id(), "one thread receives");
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        let sleep = match proposals {
            Proposals::Wake => FOR_ANYTHING,
            Proposals::ComeAlong | Proposals::Stay => FOR_URGENT,
        };
        loop {
            // Sleep is announced before the last look at the queue: a sender either sees the announcement or its
            // call is seen here.
            self.0.sleeps.store(sleep, Ordering::SeqCst);
            let mut queue = self.0.lock();
            if queue.is_worth_waking(proposals) {
                return self.0.take(&mut queue, proposals);
            }
            drop(queue);
            match deadline
                .map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()))
            {
                None => thread::park(),
                Some(left) if left.is_zero() => {
                    return self.0.take(&mut self.0.lock(), Proposals::Wake);
                }
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl Queue {
    fn is_worth_waking(&self, proposals: Proposals) -> bool {
        match proposals {
            Proposals::Wake => !self.calls.is_empty(),
            Proposals::ComeAlong | Proposals::Stay => self.calls.iter().any(Call::is_urgent),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        queue.calls.clear();
    }
}

impl Shared {
    /// The receiver is awake and takes what it is to have.
    fn take(&self, queue: &mut Queue, proposals: Proposals) -> Vec<Call> {
        self.sleeps.store(AWAKE, Ordering::SeqCst);
        self.takes.fetch_add(1, Ordering::Relaxed);
        self.letter_bytes.store(0, Ordering::Relaxed);
        match proposals {
            Proposals::Wake | Proposals::ComeAlong => std::mem::take(&mut queue.calls),
            Proposals::Stay => queue
                .calls
                .extract_if(.., |call| call.is_urgent())
                .collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use metastore_core::command::{MemberAttributes, Request};

    use super::*;
    use crate::waiting::Token;

    fn proposal() -> Call {
        Call::Propose(
            Token::from_raw(1),
            Request::Publish(MemberAttributes::default()).into(),
        )
    }

    fn confirmation() -> Call {
        Call::Written {
            up_to: 1,
            result: Ok(()),
        }
    }

    #[test]
    fn a_proposal_waits_for_the_sync_and_is_taken_with_its_confirmation() {
        let (inbox, receiver) = new();
        inbox.offer(proposal()).expect("there is room");
        inbox.tell(confirmation()).expect("there is room");
        assert_eq!(receiver.take(None, Proposals::ComeAlong).len(), 2);
    }

    #[test]
    fn a_proposal_that_stays_is_taken_by_the_next_who_wants_it() {
        let (inbox, receiver) = new();
        inbox.offer(proposal()).expect("there is room");
        inbox.tell(confirmation()).expect("there is room");
        inbox.offer(proposal()).expect("there is room");
        let taken = receiver.take(None, Proposals::Stay);
        assert!(matches!(taken[..], [Call::Written { .. }]));
        assert_eq!(receiver.take(None, Proposals::Wake).len(), 2);
    }

    #[test]
    fn a_timeout_brings_whatever_waits() {
        let (inbox, receiver) = new();
        inbox.offer(proposal()).expect("there is room");
        assert_eq!(
            receiver
                .take(Some(Duration::from_millis(5)), Proposals::Stay)
                .len(),
            1
        );
        assert!(
            receiver
                .take(Some(Duration::from_millis(5)), Proposals::Wake)
                .is_empty()
        );
    }

    #[test]
    fn letters_that_are_not_taken_are_a_flood_until_they_are() {
        let (inbox, receiver) = new();
        inbox
            .tell_letters(2, vec![], LETTER_BYTES_MAX - 1)
            .expect("there is room");
        assert!(!inbox.is_flooded());
        inbox.tell_letters(3, vec![], 1).expect("there is room");
        assert!(inbox.is_flooded());
        assert_eq!(receiver.take(None, Proposals::ComeAlong).len(), 2);
        assert!(!inbox.is_flooded());
    }

    #[test]
    fn a_sleeping_receiver_is_woken_by_what_it_sleeps_for() {
        let (inbox, receiver) = new();
        let taker = thread::spawn(move || {
            (
                receiver.take(None, Proposals::ComeAlong).len(),
                receiver.take(None, Proposals::Wake).len(),
            )
        });
        thread::sleep(Duration::from_millis(20));
        inbox.offer(proposal()).expect("there is room");
        thread::sleep(Duration::from_millis(20));
        assert!(!taker.is_finished());
        inbox.tell(confirmation()).expect("there is room");
        thread::sleep(Duration::from_millis(20));
        inbox.offer(proposal()).expect("there is room");
        assert_eq!(taker.join().expect("no panic"), (2, 1));
    }

    #[test]
    fn a_flood_of_proposals_is_refused_but_never_a_confirmation() {
        let (inbox, receiver) = new();
        for _ in 0..CALLS_MAX {
            inbox.offer(proposal()).expect("there is room");
        }
        assert_eq!(inbox.offer(proposal()), Err(Rejected::Full));
        assert_eq!(inbox.tell(confirmation()), Ok(()));
        drop(receiver);
        assert_eq!(inbox.tell(confirmation()), Err(Rejected::Closed));
    }
}
