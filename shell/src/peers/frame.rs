//! Letters in gRPC's frames: a flag, a length, one message.

use bytes::{Buf, Bytes, BytesMut};
use metastore_core::raft::PeerMessage;
use metastore_proto::peer::Letters;
use prost::Message;
use tonic::Status;

/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// The longest message that is taken in, in bytes: above every letter, which holds at least one entry.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A message under construction: [`Letters`], written letter by letter so that nothing is copied.
pub(super) struct Parcel(Vec<u8>);

/// The key of the only field of [`Letters`].
const LETTERS_KEY: u8 = 1 << 3 | 2;

/// Bytes for the length of a letter. It is known only when the letter is written, so it is padded to this.
const LENGTH_BYTES: usize = 4;

impl Parcel {
    /// An empty one with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut parcel = Vec::with_capacity(PREFIX_BYTES + bytes);
        parcel.extend_from_slice(&[0; PREFIX_BYTES]);
        Self(parcel)
    }

    /// Adds a letter.
    ///
    /// # Panics
    /// If the letter takes 256 MiB or more; the bounds on requests are far below.
    pub(super) fn add(&mut self, message: &PeerMessage) {
        self.0.push(LETTERS_KEY);
        let length_at = self.0.len();
        self.0.extend_from_slice(&[0; LENGTH_BYTES]);
        message.encode(&mut self.0);
        let length = self.0.len() - length_at - LENGTH_BYTES;
        let length = u32::try_from(length).ok().filter(|it| *it < 1 << 28);
        let length = length.expect("a letter is bounded by its entries");
        for place in 0..LENGTH_BYTES {
            let more = if place + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            let [low, ..] = (length >> (7 * place)).to_le_bytes();
            self.0[length_at + place] = low & 0x7f | more;
        }
    }

    /// The frame.
    pub(super) fn seal(self) -> Bytes {
        seal(self.0)
    }
}

/// A message of any kind as a frame.
pub(super) fn of(message: &impl Message) -> Bytes {
    let mut bytes = vec![0; PREFIX_BYTES];
    message
        .encode(&mut bytes)
        .expect("a vector grows as far as it has to");
    seal(bytes)
}

fn seal(mut bytes: Vec<u8>) -> Bytes {
    let length = u32::try_from(bytes.len() - PREFIX_BYTES).expect("a frame is far below 4 GiB");
    bytes[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

/// Messages out of what arrives in pieces.
#[derive(Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.0.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            return Err(Status::unimplemented(
                "compressed messages are not understood",
            ));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "a message of {length} bytes is longer than any letter"
            )));
        }
        if self.0.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.0.advance(PREFIX_BYTES);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

/// The letters of a message.
pub(super) fn letters(message: Bytes) -> Result<Vec<PeerMessage>, Status> {
    let letters =
        Letters::decode(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let decoded = letters
        .letters
        .iter()
        .map(|letter| PeerMessage::decode(letter));
    decoded
        .collect::<Result<_, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}
