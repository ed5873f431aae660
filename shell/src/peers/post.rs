//! Letters on their way from the member thread to the thread of the connections.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use metastore_core::output::MemberInfo;
use metastore_core::raft::PeerMessage;

/// A message and the member it is for.
pub(crate) struct Letter {
    pub(crate) to: u64,
    pub(crate) message: PeerMessage,
}

/// Where the member hands its letters in; cloning gives another handle on the same post.
///
/// It is emptied as fast as the thread runs; what cannot be sent comes back, so nothing piles up here.
#[derive(Clone, Default)]
pub(crate) struct Post(Arc<Mutex<Basket>>);

/// What was handed in since the last time.
#[derive(Default)]
pub(super) struct Basket {
    pub(super) letters: Vec<Letter>,
    /// The members, if they are others than before.
    pub(super) members: Option<Arc<[MemberInfo]>>,
    closed: bool,
    waker: Option<Waker>,
}

impl Post {
    /// Hands in a batch and wakes the thread once.
    pub(crate) fn deliver(&self, letters: &mut Vec<Letter>) {
        if letters.is_empty() {
            return;
        }
        self.put(|basket| basket.letters.append(letters));
    }

    /// Tells who the members are and where they are reached.
    pub(crate) fn follow(&self, members: Arc<[MemberInfo]>) {
        self.put(|basket| basket.members = Some(members));
    }

    pub(super) fn close(&self) {
        self.put(|basket| basket.closed = true);
    }

    /// What was handed in; none once it is closed.
    pub(super) async fn take(&self) -> Option<Basket> {
        poll_fn(|cx| {
            let mut basket = self.lock();
            if basket.closed {
                return Poll::Ready(None);
            }
            if basket.letters.is_empty() && basket.members.is_none() {
                basket.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Some(std::mem::take(&mut *basket)))
        })
        .await
    }

    fn put(&self, change: impl FnOnce(&mut Basket)) {
        let mut basket = self.lock();
        change(&mut basket);
        let waker = basket.waker.take();
        drop(basket);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Basket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
