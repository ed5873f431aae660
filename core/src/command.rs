//! Every payload of the log: a closed list of requests, with every choice already fixed.
//!
//! A command is a function's argument: applied to equal states it gives equal states, so nothing in it
//! may be decided later (no clock, no randomness, no local setting). The messages are those of the API
//! itself: one representation from the socket to the log and back, and unknown enum numbers survive.

use std::fmt;
use std::sync::Arc;

use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    TxnRequest,
};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::lease::{LeaseExpiry, RemainingTimes};

/// What a log entry asks of the replicated state.
///
/// The tags are the format of the log on the disk: never reuse one.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Request {
    /// Write one key.
    #[prost(message, tag = "1")]
    Put(PutRequest),
    /// Remove the keys of an interval.
    #[prost(message, tag = "2")]
    DeleteRange(DeleteRangeRequest),
    /// Compare, then run one of two lists of operations.
    #[prost(message, tag = "3")]
    Txn(TxnRequest),
    /// Move the compaction boundary.
    #[prost(message, tag = "4")]
    Compact(CompactionRequest),
    /// Tell the cluster a member's name and client addresses.
    #[prost(message, tag = "5")]
    Publish(MemberAttributes),
    /// Bring a lease into being; its id and its time are fixed.
    #[prost(message, tag = "6")]
    LeaseGrant(LeaseGrantRequest),
    /// End a lease because a client asks for it, and delete its keys.
    #[prost(message, tag = "7")]
    LeaseRevoke(LeaseRevokeRequest),
    /// End a lease because its time is over, and delete its keys.
    #[prost(message, tag = "8")]
    LeaseExpire(LeaseExpiry),
    /// Remember what leases have left.
    #[prost(message, tag = "9")]
    LeaseRemaining(RemainingTimes),
}

/// What a member says of itself once it runs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemberAttributes {
    /// The member that publishes.
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    /// Its human-readable name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The URLs at which clients reach it.
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
}

/// Bytes that are no command of this version.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandError {
    /// Not protobuf, or a field of the wrong kind.
    Malformed(prost::DecodeError),
    /// A request this version does not know: written by a newer one.
    Unknown,
    /// Not exactly one request.
    Misframed,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed command: {error}"),
            Self::Unknown => f.write_str("a command this version does not know"),
            Self::Misframed => f.write_str("not exactly one command"),
        }
    }
}

impl std::error::Error for CommandError {}

/// One log payload; cloning it copies a pointer.
#[derive(Clone, PartialEq)]
pub struct Command {
    request: Arc<Request>,
    origin: Option<Origin>,
}

/// Whose client asked, where that is another member than the one that proposed: it learns the outcome from its own state
/// when that comes to this entry. The state knows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The member.
    pub member: u64,
    /// The number under which it knows the proposal, another in each of its lives.
    pub number: u64,
}

impl Command {
    /// The request inside.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whose client asked, if not one of the member that proposed.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The same request, asked for elsewhere.
    pub fn asked_by(&self, origin: Origin) -> Self {
        Self {
            request: Arc::clone(&self.request),
            origin: Some(origin),
        }
    }

    /// Bytes of the encoded command: what the log, the peers and the request limit count.
    pub fn encoded_len(&self) -> usize {
        use prost::encoding::{encoded_len_varint, key_len};
        let body = match &*self.request {
            Request::Put(message) => message.encoded_len(),
            Request::DeleteRange(message) => message.encoded_len(),
            Request::Txn(message) => message.encoded_len(),
            Request::Compact(message) => message.encoded_len(),
            Request::Publish(message) => message.encoded_len(),
            Request::LeaseGrant(message) => message.encoded_len(),
            Request::LeaseRevoke(message) => message.encoded_len(),
            Request::LeaseExpire(message) => message.encoded_len(),
            Request::LeaseRemaining(message) => message.encoded_len(),
        };
        let origin = self.origin.map_or(0, |_| ORIGIN_HEAD.len() + 16);
        origin + key_len(1) + encoded_len_varint(body as u64) + body
    }

    /// The command as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        if let Some(origin) = self.origin {
            bytes.extend_from_slice(&ORIGIN_HEAD);
            bytes.extend_from_slice(&origin.member.to_le_bytes());
            bytes.extend_from_slice(&origin.number.to_le_bytes());
        }
        self.request.encode(&mut bytes);
        bytes
    }

    /// A command from its protobuf; an empty or unknown request is an error, because skipping an entry
    /// that another member applied would make the members differ.
    ///
    /// The frame around the request is read here and not by a message of its own: a decoder bounds how deep
    /// messages nest, so one level more would refuse from the log what was accepted from a client.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let (origin, mut rest) = split_origin(bytes)?;
        let (tag, wire_type) = decode_key(&mut rest).map_err(CommandError::Malformed)?;
        let length = decode_varint(&mut rest).map_err(CommandError::Malformed)?;
        if wire_type != WireType::LengthDelimited || length != rest.len() as u64 {
            return Err(CommandError::Misframed);
        }
        let request = match tag {
            1 => PutRequest::decode(rest).map(Request::Put),
            2 => DeleteRangeRequest::decode(rest).map(Request::DeleteRange),
            3 => TxnRequest::decode(rest).map(Request::Txn),
            4 => CompactionRequest::decode(rest).map(Request::Compact),
            5 => MemberAttributes::decode(rest).map(Request::Publish),
            6 => LeaseGrantRequest::decode(rest).map(Request::LeaseGrant),
            7 => LeaseRevokeRequest::decode(rest).map(Request::LeaseRevoke),
            8 => LeaseExpiry::decode(rest).map(Request::LeaseExpire),
            9 => RemainingTimes::decode(rest).map(Request::LeaseRemaining),
            _ => return Err(CommandError::Unknown),
        };
        let request = request.map_err(CommandError::Malformed)?;
        Ok(Self {
            request: Arc::new(request),
            origin,
        })
    }
}

/// The origin that a command begins with, if it does, and the rest.
fn split_origin(bytes: &[u8]) -> Result<(Option<Origin>, &[u8]), CommandError> {
    let Some(bytes_of_origin) = bytes.strip_prefix(&ORIGIN_HEAD) else {
        return Ok((None, bytes));
    };
    let (member, rest) = split_number(bytes_of_origin).ok_or(CommandError::Misframed)?;
    let (number, rest) = split_number(rest).ok_or(CommandError::Misframed)?;
    Ok((Some(Origin { member, number }), rest))
}

fn split_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Tag 15 with sixteen bytes: member and number, each in little endian.
const ORIGIN_HEAD: [u8; 2] = [0x7a, 16];

impl From<Request> for Command {
    fn from(request: Request) -> Self {
        Self {
            request: Arc::new(request),
            origin: None,
        }
    }
}

impl fmt::Debug for Command {
    /// Names the request only: keys and values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.request {
            Request::Put(_) => "put",
            Request::DeleteRange(_) => "delete_range",
            Request::Txn(_) => "txn",
            Request::Compact(_) => "compact",
            Request::Publish(_) => "publish",
            Request::LeaseGrant(_) => "lease_grant",
            Request::LeaseRevoke(_) => "lease_revoke",
            Request::LeaseExpire(_) => "lease_expire",
            Request::LeaseRemaining(_) => "lease_remaining",
        })
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoded command")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Command, E> {
                Command::decode(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::RequestOp;
    use metastore_proto::etcdserverpb::request_op::Request as Op;

    use super::*;

    #[test]
    fn whatever_nesting_a_client_may_send_the_log_gives_back() {
        let mut txn = TxnRequest::default();
        let mut accepted = 0;
        for depth in 1..=60 {
            let nested = RequestOp {
                request: Some(Op::RequestTxn(txn)),
            };
            txn = TxnRequest {
                success: vec![nested],
                ..TxnRequest::default()
            };
            if TxnRequest::decode(&*txn.encode_to_vec()).is_ok() {
                accepted = depth;
                let command = Command::from(Request::Txn(txn.clone()));
                assert_eq!(
                    Command::decode(&command.encode()),
                    Ok(command),
                    "{depth} deep"
                );
            }
        }
        assert!(accepted >= 40, "the decoder of requests takes deep ones");
    }

    #[test]
    fn an_origin_goes_with_its_command_and_changes_nothing_else() {
        let plain = Command::from(Request::Compact(CompactionRequest::default()));
        let origin = Origin {
            member: u64::MAX,
            number: 1 << 40,
        };
        let asked = plain.asked_by(origin);
        let bytes = asked.encode();
        assert_eq!(bytes.len(), asked.encoded_len());
        assert_eq!(bytes.len(), plain.encoded_len() + 18);
        let read = Command::decode(&bytes).expect("a command");
        assert_eq!(read.origin(), Some(origin));
        assert_eq!(read.request(), plain.request());
        assert_eq!(Command::decode(&plain.encode()), Ok(plain));
        for length in 0..bytes.len() {
            assert!(Command::decode(&bytes[..length]).is_err(), "{length}");
        }
        let twice = [&bytes[..18], &bytes[..]].concat();
        assert_eq!(Command::decode(&twice), Err(CommandError::Misframed));
    }

    #[test]
    fn a_command_is_exactly_one_request() {
        let bytes = Command::from(Request::Compact(CompactionRequest {
            revision: 7,
            physical: true,
        }))
        .encode();
        assert!(Command::decode(&bytes).is_ok());
        assert_eq!(
            Command::decode(&[&bytes[..], &bytes[..]].concat()),
            Err(CommandError::Misframed)
        );
        assert_eq!(Command::decode(&[0x7a, 0]), Err(CommandError::Unknown));
        assert!(Command::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Command::decode(&[]).is_err());
    }
}
