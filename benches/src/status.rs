//! How a call ended: reading `grpc-status` from header blocks, and the failures that are counted.

use std::fmt;

use crate::hpack::{Decoder, HeaderError, Table};

/// Why a call did not succeed. Ordered, so that reports list equal failures together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The server answered with a gRPC error.
    Status { code: u32, message: String },
    /// The server answered with an HTTP status other than 200.
    Http { status: u32 },
    /// The response ended without a status or without a message, though the status was good.
    Incomplete(&'static str),
    /// The server reset the stream.
    Reset { code: u32 },
    /// The server closes the connection and did not process the request.
    GoAway { code: u32, reason: String },
    /// The connection ended before the answer.
    ConnectionLost(String),
    /// No answer within the time allowed.
    NoAnswer,
    /// The server said something that is not true, or left out what is.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, message } => write!(f, "grpc-status {code}: {message}"),
            Self::Http { status } => write!(f, "HTTP status {status}"),
            Self::Incomplete(what) => write!(f, "incomplete response: {what}"),
            Self::Reset { code } => write!(f, "stream reset with code {code}"),
            Self::GoAway { code, reason } => {
                write!(f, "connection refused with GOAWAY {code}: {reason}")
            }
            Self::ConnectionLost(reason) => write!(f, "connection lost: {reason}"),
            Self::NoAnswer => write!(f, "no answer in time"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

/// What the header blocks of one response said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HeaderSummary {
    http_status: Option<u32>,
    grpc_status: Option<u32>,
    grpc_message: String,
}

impl HeaderSummary {
    /// Takes over what a further block says.
    pub(crate) fn add(&mut self, block: &Self) {
        self.http_status = self.http_status.or(block.http_status);
        if block.grpc_status.is_some() {
            self.grpc_status = block.grpc_status;
            self.grpc_message.clone_from(&block.grpc_message);
        }
    }

    /// The end of a unary call that received `data_bytes` of prefixed message.
    pub(crate) fn outcome(&self, data_bytes: u64) -> Result<(), Failure> {
        match (self.http_status, self.grpc_status) {
            (_, Some(code)) if code != 0 => Err(Failure::Status {
                code,
                message: self.grpc_message.clone(),
            }),
            (Some(status), _) if status != 200 => Err(Failure::Http { status }),
            (None, _) => Err(Failure::Incomplete("no :status")),
            (_, None) => Err(Failure::Incomplete("no grpc-status")),
            (Some(_), Some(_)) if data_bytes < 5 => Err(Failure::Incomplete("no message")),
            (Some(_), Some(_)) => Ok(()),
        }
    }
}

/// Reads the header blocks of one connection.
///
/// Servers repeat themselves: blocks that left the table unchanged are remembered by their bytes,
/// and forgotten as soon as any block changes the table they may refer to.
pub(crate) struct StatusReader {
    decoder: Decoder,
    known: Vec<(Vec<u8>, HeaderSummary)>,
    latest: HeaderSummary,
}

impl StatusReader {
    pub(crate) fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            known: Vec::new(),
            latest: HeaderSummary::default(),
        }
    }

    /// Reads the next block of the connection.
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<&HeaderSummary, HeaderError> {
        if let Some(position) = self.known.iter().position(|(bytes, _)| bytes == block) {
            return Ok(&self.known[position].1);
        }
        let mut summary = HeaderSummary::default();
        let table = self.decoder.decode(block, |name, value| match name {
            b":status" => summary.http_status = Some(number(value)),
            b"grpc-status" => summary.grpc_status = Some(number(value)),
            b"grpc-message" => summary.grpc_message = percent_decoded(value),
            _ => {}
        })?;
        if table == Table::Changed {
            self.known.clear();
        } else {
            if self.known.len() == KNOWN_MAX {
                self.known.remove(0);
            }
            self.known.push((block.to_vec(), summary.clone()));
        }
        self.latest = summary;
        Ok(&self.latest)
    }
}

/// A status as number; text that is none counts as a failure code that no server uses.
fn number(value: &[u8]) -> u32 {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u32::MAX)
}

fn percent_decoded(value: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after
            .first_chunk::<2>()
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|_| byte == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

const KNOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::{Failure, HeaderSummary, StatusReader, percent_decoded};

    fn summary(http_status: Option<u32>, grpc_status: Option<u32>) -> HeaderSummary {
        HeaderSummary {
            http_status,
            grpc_status,
            grpc_message: String::new(),
        }
    }

    #[test]
    fn success_needs_both_statuses_and_a_message() {
        assert_eq!(summary(Some(200), Some(0)).outcome(5), Ok(()));
        assert_eq!(
            summary(Some(200), Some(0)).outcome(0),
            Err(Failure::Incomplete("no message"))
        );
        assert_eq!(
            summary(Some(200), None).outcome(5),
            Err(Failure::Incomplete("no grpc-status"))
        );
        assert_eq!(
            summary(Some(404), None).outcome(0),
            Err(Failure::Http { status: 404 })
        );
        let refused = Failure::Status {
            code: 14,
            message: String::new(),
        };
        assert_eq!(summary(Some(200), Some(14)).outcome(0), Err(refused));
    }

    #[test]
    fn a_known_block_is_read_anew_after_the_table_changed() {
        let mut reader = StatusReader::new();
        let insert = |value: u8| [&[0x40, 11][..], b"grpc-status", &[1, value]].concat();
        // Index 62 is the newest entry of the dynamic table.
        let newest = [0xbe];
        reader.read(&insert(b'0')).expect("an insertion decodes");
        for _ in 0..2 {
            assert_eq!(
                reader.read(&newest).expect("an index decodes").grpc_status,
                Some(0)
            );
        }
        reader.read(&insert(b'9')).expect("an insertion decodes");
        assert_eq!(
            reader.read(&newest).expect("an index decodes").grpc_status,
            Some(9)
        );
    }

    #[test]
    fn a_status_that_is_no_number_is_a_failure() {
        let mut reader = StatusReader::new();
        let block = [&[0x00, 11][..], b"grpc-status", &[2], b"ok"].concat();
        assert_eq!(
            reader.read(&block).expect("a literal decodes").grpc_status,
            Some(u32::MAX)
        );
    }

    #[test]
    fn messages_are_percent_decoded() {
        assert_eq!(
            percent_decoded(b"etcdserver: 100%25 %ZZ %"),
            "etcdserver: 100% %ZZ %"
        );
    }
}
