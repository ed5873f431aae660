//! The shell of a member: sockets, disk and threads around the core; it decides nothing about data.

#![forbid(unsafe_code)]

pub mod config;
pub mod descriptors;
pub mod disk;
pub mod logging;
pub mod server;
pub mod signals;

mod background;
mod bootstrap;
mod breathing;
mod checkpointing;
mod coalesced;
mod connections;
mod driver;
mod feed;
mod grpc;
mod http;
mod identity;
mod inbox;
mod listening;
mod node;
mod peers;
mod promoting;
mod recovery;
mod seldom;
mod status;
mod syncs;
mod version;
mod waiting;
mod watching;
