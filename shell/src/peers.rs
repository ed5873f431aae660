//! The way to the other members and from them: one thread with all connections between members, both directions.
//!
//! A member opens two connections to each other member and sends on them only; what the other has to say comes on
//! its own. One is for urgent letters (heartbeats, votes, replies), one for bulk (entries, pieces of snapshots): so
//! that a heartbeat waits behind bulk neither in a queue nor in the system's buffers. See `peers/link.rs` for how a
//! connection is kept, `peers/reception.rs` for what arrives.

mod dial;
mod frame;
mod introduction;
mod lane;
mod link;
mod local;
mod lookup;
mod post;
pub(crate) mod question;
mod reception;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metastore_core::output::MemberInfo;
use metastore_core::raft::PeerMessage;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::node::Call;

pub(crate) use post::{Letter, Post};

/// What a member says of itself to the others, and how patient it is with them.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// Where the others reach it.
    pub(crate) peer_urls: Vec<String>,
    /// How long a leader may be silent; all patience on a connection derives from it.
    pub(crate) election_timeout: Duration,
}

/// The running thread.
pub(crate) struct Peers {
    thread: JoinHandle<()>,
    post: Post,
}

/// Everything on the thread: the ways out, by member.
struct Office {
    me: Me,
    inbox: Inbox,
    links: BTreeMap<u64, link::Peer>,
    members: Arc<[MemberInfo]>,
    /// Those that are no members and whose links go at some time, unless they call again.
    passing: BTreeMap<u64, Instant>,
}

/// How long a link to somebody who is no member outlives the last call: it may be needed to say farewell.
const FAREWELL_TIME: Duration = Duration::from_secs(60);

/// Members that are known of only because they called: more are not remembered.
const CALLERS_MAX: usize = 32;

impl Peers {
    /// Starts the thread. `first` is who is known before the member has said who its peers are.
    pub(crate) fn start(
        me: Me,
        listeners: Vec<TcpListener>,
        inbox: Inbox,
        first: Arc<[MemberInfo]>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let post = Post::default();
        post.follow(first);
        let letters = post.clone();
        let thread = thread::Builder::new().name("peers".into()).spawn(move || {
            let office = Rc::new(RefCell::new(Office {
                me,
                inbox,
                links: BTreeMap::new(),
                members: Arc::new([]),
                passing: BTreeMap::new(),
            }));
            LocalSet::new().block_on(&runtime, async move {
                for listener in listeners {
                    tokio::task::spawn_local(reception::accept(listener, Rc::clone(&office)));
                }
                let tidied = Rc::clone(&office);
                tokio::task::spawn_local(async move {
                    loop {
                        tokio::time::sleep(FAREWELL_TIME / 4).await;
                        tidied.borrow_mut().tidy(Instant::now());
                    }
                });
                sort(&office, &letters).await;
            });
            // A name server may let a look-up hang; nobody waits for its end.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, post })
    }

    /// Where letters to other members are handed in.
    pub(crate) fn post(&self) -> Post {
        self.post.clone()
    }

    /// Closes all connections; letters that have not left by then are lost.
    pub(crate) fn stop(self) {
        self.post.close();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the connections to other members panicked");
        }
    }
}

/// Takes what the member hands in, until it closes.
async fn sort(office: &RefCell<Office>, post: &Post) {
    while let Some(basket) = post.take().await {
        let mut office = office.borrow_mut();
        if let Some(members) = basket.members {
            office.follow(members);
        }
        let letters = basket.letters.into_iter();
        let back = letters.filter_map(|letter| office.send(letter)).collect();
        office.return_letters(back);
    }
}

impl Office {
    /// Gives a letter that cannot be sent back, with the reason.
    fn send(&self, letter: Letter) -> Option<(PeerMessage, String)> {
        let (back, reason) = match self.links.get(&letter.to) {
            Some(peer) => (
                peer.send(letter.message)?,
                "too many letters wait for this member",
            ),
            None => (letter.message, "no peer URL of this member is known"),
        };
        Some((back, reason.to_owned()))
    }

    /// The membership has changed, or what is known of it. Ways to those that left stay for a while: they have to be
    /// told.
    fn follow(&mut self, members: Arc<[MemberInfo]>) {
        let own = self.me.member_id;
        for member in members.iter().filter(|member| member.id != own) {
            self.reach(member.id, &member.peer_urls);
            self.passing.remove(&member.id);
        }
        let now = Instant::now();
        for left in self.members.iter().filter(|it| it.id != own) {
            if members.iter().all(|member| member.id != left.id) {
                self.passing.insert(left.id, now);
            }
        }
        self.members = members;
    }

    /// Closes the ways to those that are no members and have not called for long.
    fn tidy(&mut self, now: Instant) {
        let gone = self
            .passing
            .extract_if(.., |_, since| now - *since >= FAREWELL_TIME);
        for (id, _) in gone {
            self.links.remove(&id);
        }
    }

    /// Somebody who is not, or not yet, among the members called, and named the URLs to answer to.
    fn heard_from(&mut self, id: u64, peer_urls: &[String]) {
        let is_member = self.members.iter().any(|member| member.id == id);
        let is_remembered = self.passing.contains_key(&id);
        if !is_member && (is_remembered || self.passing.len() < CALLERS_MAX) {
            self.reach(id, peer_urls);
            self.passing.insert(id, Instant::now());
        }
    }

    fn reach(&mut self, id: u64, peer_urls: &[String]) {
        let (me, inbox) = (&self.me, &self.inbox);
        self.links
            .entry(id)
            .or_insert_with(|| link::Peer::open(me, id, inbox))
            .set_urls(peer_urls);
    }

    fn return_letters(&self, letters: Vec<(PeerMessage, String)>) {
        if !letters.is_empty() {
            // Without a member nobody misses them.
            let _ = self.inbox.tell(Call::Undelivered(letters));
        }
    }
}

#[cfg(test)]
mod tests;
