//! A run whose answers decide what is sent next: one party that acts, and hears what the server says.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::http2::Receiver;
use crate::links::Links;
use crate::status::Failure;

/// The server a run is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) endpoint: SocketAddr,
    /// The process whose consumption is to be read.
    pub(crate) server_pid: Option<u32>,
    /// Without any word of the server for this long, a run has failed.
    pub(crate) patience: Duration,
}

/// One side of a conversation with a server; what it receives may change what it does next.
pub(crate) trait Party: Receiver {
    /// Sends what is to be sent at `now` and answers when it wants to act again.
    fn act(&mut self, now: Instant, links: &mut Links) -> io::Result<Next>;

    /// Takes note of a failure.
    fn fail(&mut self, failure: Failure);
}

/// When a party acts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Never: it has reached what it wanted.
    Over,
    /// As soon as anything was received.
    Heard,
    /// At this time, or when anything was received.
    At(Instant),
}

/// Lets `party` act until it is over, a connection is lost, or the server is silent for too long.
///
/// Only errors of this machine are errors; what the server does wrong is a failure of the party.
pub(crate) fn converse<P: Party>(
    links: &mut Links,
    party: &mut P,
    patience: Duration,
) -> io::Result<()> {
    let mut heard = Instant::now();
    let mut ready = Vec::new();
    loop {
        let now = Instant::now();
        if !links.accept() {
            let reason = "a connection takes requests no more";
            party.fail(Failure::ConnectionLost(reason.to_owned()));
            return Ok(());
        }
        let next = party.act(now, links)?;
        links.flush(party)?;
        let silence = patience.saturating_sub(now - heard);
        let wait = match next {
            Next::Over => return Ok(()),
            Next::Heard => silence,
            Next::At(time) => time.saturating_duration_since(now).min(silence),
        };
        if links.wait(wait, &mut ready)? {
            heard = Instant::now();
        } else if heard.elapsed() >= patience {
            party.fail(Failure::NoAnswer);
            return Ok(());
        }
        for index in ready.drain(..) {
            links.read(index, party)?;
        }
        for loss in links.losses() {
            if loss.requests == 0 {
                party.fail(Failure::ConnectionLost(loss.reason));
            }
        }
    }
}
