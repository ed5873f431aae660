//! Peer messages as bytes and back. What goes wrong on the way is a transport's matter; hostile bytes are refused
//! here.

use super::log_store::entry_bytes;
use super::message::{Body, Forwarded, PeerMessage};
use super::network::Request;
use crate::codec::{self, DecodeError};
use crate::lease::LeaseAnswer;

/// The version of the encoding. Members of different versions do not understand each other.
pub const PEER_PROTOCOL: u32 = 2;

/// What a message takes beside what clients put in, roughly.
const OVERHEAD_BYTES: usize = 96;

impl PeerMessage {
    /// Appends the message to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        codec::encode_into(self, bytes);
    }

    /// The message that these bytes are, all of them.
    ///
    /// # Errors
    /// When they are none; nothing was allocated then beyond a small multiple of their length.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// The bytes that the message takes on the wire, roughly and without encoding it.
    pub fn weight(&self) -> usize {
        let content: usize = match &self.body {
            Body::Request(Request::Append(rpc) | Request::AppendInOrder(rpc)) => {
                rpc.entries.iter().map(entry_bytes).sum()
            }
            Body::Request(Request::Chunk(chunk)) => chunk.bytes(),
            Body::Forwarded(Forwarded::Proposals { proposals, .. }) => {
                let commands = proposals.iter().map(|(_, command)| command);
                commands.map(|command| command.encoded_len() + 8).sum()
            }
            Body::Forwarded(Forwarded::Ended(ends)) => ends.len() * 32,
            Body::Forwarded(Forwarded::LeaseAnswers(answers)) => {
                let told = answers
                    .iter()
                    .filter_map(|(_, answer)| answer.as_ref().ok());
                answers.len() * 16 + told.map(LeaseAnswer::weight).sum::<usize>()
            }
            _ => 0,
        };
        content + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod layouts;
#[cfg(test)]
mod tests;
