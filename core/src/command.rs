//! Every payload of the log: a closed list of requests, with every choice already fixed.
//!
//! A command is a function's argument: applied to equal states it gives equal states, so nothing in it
//! may be decided later (no clock, no randomness, no local setting). The messages are those of the API
//! itself: one representation from the socket to the log and back, and unknown enum numbers survive.

use std::fmt;
use std::sync::Arc;

use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, TxnRequest,
};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed command: {error}"),
            Self::Unknown => f.write_str("a command this version does not know"),
        }
    }
}

impl std::error::Error for CommandError {}

/// One log payload; cloning it copies a pointer.
#[derive(Clone, PartialEq)]
pub struct Command(Arc<Request>);

/// The protobuf frame around a [`Request`], so that the log can evolve.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "Request", tags = "1, 2, 3, 4, 5")]
    request: Option<Request>,
}

impl Command {
    /// The request inside.
    pub fn request(&self) -> &Request {
        &self.0
    }

    /// Bytes of the encoded command: what the log, the peers and the request limit count.
    pub fn encoded_len(&self) -> usize {
        use prost::encoding::{encoded_len_varint, key_len};
        let body = match &*self.0 {
            Request::Put(message) => message.encoded_len(),
            Request::DeleteRange(message) => message.encoded_len(),
            Request::Txn(message) => message.encoded_len(),
            Request::Compact(message) => message.encoded_len(),
            Request::Publish(message) => message.encoded_len(),
        };
        key_len(1) + encoded_len_varint(body as u64) + body
    }

    /// The command as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.0.encode(&mut bytes);
        bytes
    }

    /// A command from its protobuf; an empty or unknown request is an error, because skipping an entry
    /// that another member applied would make the members differ.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let envelope = Envelope::decode(bytes).map_err(CommandError::Malformed)?;
        envelope
            .request
            .map(Self::from)
            .ok_or(CommandError::Unknown)
    }
}

impl From<Request> for Command {
    fn from(request: Request) -> Self {
        Self(Arc::new(request))
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
        f.write_str(match &*self.0 {
            Request::Put(_) => "put",
            Request::DeleteRange(_) => "delete_range",
            Request::Txn(_) => "txn",
            Request::Compact(_) => "compact",
            Request::Publish(_) => "publish",
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
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Command, E> {
                self.visit_bytes(&bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
