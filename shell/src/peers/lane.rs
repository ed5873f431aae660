//! Letters for one member on one of its two connections: what waits, what is under way, and what comes back.
//!
//! A letter stays here until the receiver has said that it has it. When a connection is replaced, what it may have
//! lost is sent again on the next; members take a letter that arrives twice once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metastore_core::raft::PeerMessage;
use tokio::time::Instant;

use super::frame::Parcel;

/// A lane, shared by whoever writes letters, by the connection that carries them, and by what keeps it.
pub(super) type SharedLane = Rc<RefCell<Lane>>;

/// See the module.
pub(super) struct Lane {
    waiting: VecDeque<Letter>,
    waiting_bytes: usize,
    /// Sent on the present connection and not confirmed, by message.
    under_way: VecDeque<Sent>,
    under_way_bytes: usize,
    /// Messages sent on the present connection.
    messages: u64,
    /// When the receiver last confirmed something.
    confirmed_at: Instant,
    /// When a message was last sent.
    sent_at: Instant,
    /// Whether to send a message without letters, only to hear that it arrived.
    ping: bool,
    /// Which connection takes letters out.
    connection: u64,
    /// Wakes that connection.
    waker: Option<Waker>,
}

struct Letter {
    message: PeerMessage,
    bytes: usize,
    since: Instant,
}

struct Sent {
    at: Instant,
    letters: Vec<Letter>,
}

/// Letters and bytes that may wait. With more the next one comes back at once.
const WAITING_LETTERS_MAX: usize = 8192;
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Bytes that may be under way unconfirmed; the last message may go beyond.
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;

/// Bytes after which no further letter is put into a message.
const MESSAGE_BYTES: usize = 256 << 10;

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            messages: 0,
            confirmed_at: Instant::now(),
            sent_at: Instant::now(),
            ping: false,
            connection: 0,
            waker: None,
        }
    }

    /// Takes a letter in, or gives it back if too many wait.
    pub(super) fn push(&mut self, message: PeerMessage) -> Option<PeerMessage> {
        let bytes = message.weight();
        let full = self.waiting.len() >= WAITING_LETTERS_MAX
            || self.waiting_bytes + bytes > WAITING_BYTES_MAX;
        // The first one always has room: it may be larger than the bound.
        if full && !self.waiting.is_empty() {
            return Some(message);
        }
        self.waiting_bytes += bytes;
        let since = Instant::now();
        self.waiting.push_back(Letter {
            message,
            bytes,
            since,
        });
        self.wake();
        None
    }

    /// From now on letters leave on a new connection, which is told its number: first those that the one before may
    /// have lost.
    pub(super) fn connect(&mut self) -> u64 {
        self.connection += 1;
        self.messages = 0;
        self.confirmed_at = Instant::now();
        self.sent_at = Instant::now();
        self.under_way_bytes = 0;
        for sent in std::mem::take(&mut self.under_way).into_iter().rev() {
            for letter in sent.letters.into_iter().rev() {
                self.waiting_bytes += letter.bytes;
                self.waiting.push_front(letter);
            }
        }
        self.wake();
        self.connection
    }

    /// The connection is lost: nothing leaves until there is another.
    pub(super) fn disconnect(&mut self) {
        self.connect();
    }

    /// The receiver has so many messages of the present connection.
    pub(super) fn confirm(&mut self, messages: u64) {
        let open = self.messages.saturating_sub(messages);
        while self.under_way.len() as u64 > open {
            let Some(sent) = self.under_way.pop_front() else {
                break;
            };
            self.under_way_bytes -= bytes(&sent.letters);
        }
        self.confirmed_at = Instant::now();
        self.wake();
    }

    /// Since when the receiver owes a confirmation without giving any.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let first = self.under_way.front()?;
        Some(first.at.max(self.confirmed_at))
    }

    /// When anything last left.
    pub(super) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Has a message sent although there is no letter.
    pub(super) fn ping(&mut self) {
        self.ping = true;
        self.wake();
    }

    /// The letters that were handed in before this time and have not been confirmed; they are given up.
    pub(super) fn give_up(&mut self, before: Instant) -> Vec<PeerMessage> {
        let mut late = Vec::new();
        while let Some(letter) = self.waiting.pop_front_if(|letter| letter.since < before) {
            self.waiting_bytes -= letter.bytes;
            late.push(letter.message);
        }
        late
    }

    /// The next message for this connection, as a frame; none when another has taken its place.
    pub(super) fn poll_frame(
        &mut self,
        connection: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Bytes>> {
        if connection != self.connection {
            return Poll::Ready(None);
        }
        let nothing = self.waiting.is_empty() && !self.ping;
        if nothing || self.under_way_bytes >= UNDER_WAY_BYTES_MAX {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(self.next_message()))
    }

    fn next_message(&mut self) -> Bytes {
        let mut letters = Vec::new();
        let mut total = 0;
        while total < MESSAGE_BYTES
            && let Some(letter) = self.waiting.pop_front()
        {
            total += letter.bytes;
            letters.push(letter);
        }
        let mut parcel = Parcel::with_capacity(total);
        for letter in &letters {
            if !parcel.add(&letter.message) {
                let message = format!("{:?}", letter.message);
                tracing::error!(
                    message,
                    "a letter is too long to be sent and counts as lost"
                );
            }
        }
        self.waiting_bytes -= total;
        self.under_way_bytes += total;
        self.messages += 1;
        self.ping = false;
        self.sent_at = Instant::now();
        let at = self.sent_at;
        self.under_way.push_back(Sent { at, letters });
        parcel.seal()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn bytes(letters: &[Letter]) -> usize {
    letters.iter().map(|letter| letter.bytes).sum()
}
