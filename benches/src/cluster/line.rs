//! A connection to one member, for one call at a time whose answer is read.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::http2::{Receiver, Reply, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::message;
use crate::status::Failure;

/// An open connection. After any failure it is of no use any more.
pub(crate) struct Line {
    links: Links,
    authority: String,
    heard: Heard,
    patience: Duration,
}

#[derive(Default)]
struct Heard {
    message: Vec<u8>,
    outcome: Option<Result<(), Failure>>,
}

impl Receiver for Heard {
    fn reply(&mut self, reply: Reply) {
        self.outcome = Some(reply.outcome);
    }

    fn message(&mut self, _: u64, message: &[u8]) {
        self.message = message.to_vec();
    }
}

impl Line {
    /// Connects to `endpoint`; this and every call has failed after `patience`.
    pub(crate) fn open(endpoint: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        let mut heard = Heard::default();
        let links = Links::connect(endpoint, &[WINDOW_BYTES_MAX], patience, &mut heard);
        Ok(Self {
            links: links.map_err(|error| lost(&error))?,
            authority: endpoint.to_string(),
            heard,
            patience,
        })
    }

    /// Calls the method `path` with a prefixed message and answers the message of its response.
    pub(crate) fn call(&mut self, path: &str, body: &[u8]) -> Result<&[u8], Failure> {
        let deadline = Instant::now() + self.patience;
        if !self.links.accepts(0) {
            return Err(Failure::ConnectionLost("it takes no calls".to_owned()));
        }
        self.heard = Heard::default();
        let headers = message::headers(&self.authority, path);
        self.links.connection(0).query(&headers, body, 0);
        let outcome = self.hear(deadline).map_err(|error| lost(&error))?;
        outcome.map(|()| &self.heard.message[..])
    }

    fn hear(&mut self, deadline: Instant) -> io::Result<Result<(), Failure>> {
        let mut ready = Vec::new();
        loop {
            self.links.flush(&mut self.heard)?;
            if let Some(outcome) = self.heard.outcome.take() {
                return Ok(outcome);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Err(Failure::NoAnswer));
            }
            self.links.wait(left, &mut ready)?;
            for index in ready.drain(..) {
                self.links.read(index, &mut self.heard)?;
            }
        }
    }
}

/// Calls a method once on a connection of its own.
pub(crate) fn once(
    endpoint: SocketAddr,
    patience: Duration,
    path: &str,
    body: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut line = Line::open(endpoint, patience)?;
    line.call(path, body).map(<[u8]>::to_vec)
}

fn lost(error: &io::Error) -> Failure {
    Failure::ConnectionLost(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Line, once};
    use crate::imitation::{Say, serve};
    use crate::ports;
    use crate::status::Failure;

    const PATIENCE: Duration = Duration::from_millis(200);

    #[test]
    fn calls_follow_each_other_on_one_connection() {
        let echo = serve(|call| {
            vec![Say {
                place: call.place,
                message: call.message.to_vec(),
                last: true,
            }]
        });
        let mut line = Line::open(echo, PATIENCE).expect("the server is there");
        for content in [b"\0\0\0\0\x01a", b"\0\0\0\0\x01b"] {
            assert_eq!(line.call("/echo", content), Ok(&content[5..]));
        }
    }

    #[test]
    fn silence_and_absence_are_failures() {
        let silent = serve(|_| Vec::new());
        let asked = once(silent, PATIENCE, "/echo", &[0; 5]);
        assert_eq!(asked, Err(Failure::NoAnswer));
        let ports = ports::reserve(1).expect("a free port");
        let nobody = ports[0].local_addr().expect("an address");
        drop(ports);
        let asked = once(nobody, PATIENCE, "/echo", &[0; 5]);
        assert!(
            matches!(asked, Err(Failure::ConnectionLost(_))),
            "{asked:?}"
        );
    }
}
