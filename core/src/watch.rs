//! Watch: who hears of which change, from which revision on, and in which order.
//!
//! The hub is local to a member, and to each of its threads of connections: it reads published views and nothing
//! else, so watchers cost the writer nothing. A view holds the log of events, and that log is the live tail: what a
//! new view has beyond the one before goes to the watchers that are synced; all others read the same log, or the
//! histories of their keys, from where they are.

mod audience;
mod backlog;
mod catch_up;
mod event;
mod hub;
mod index;
mod intervals;
#[cfg(test)]
mod model;
pub mod promises;
mod response;
mod stream;
mod watcher;

pub use audience::{Audience, Ended, Source};
pub use backlog::Backlog;
pub use hub::{Hub, Next, Settings, StreamKey};
pub use response::{Content, Events, Response};

#[cfg(test)]
mod tests;
