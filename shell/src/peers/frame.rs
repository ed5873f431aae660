//! Letters in gRPC's frames: a flag, a length, one message.

use bytes::{Buf, Bytes, BytesMut};
use metastore_core::raft::PeerMessage;
use metastore_proto::peer::Letters;
use prost::Message;
use tonic::Status;

/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// The longest message that is taken in, in bytes: above every letter, and what goes before it in one message.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The longest letter, in bytes, far above the bound on requests.
const LETTER_BYTES_MAX: usize = 240 << 20;

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

    /// Adds a letter; answers false, and leaves it out, if it is longer than any may be.
    pub(super) fn add(&mut self, message: &PeerMessage) -> bool {
        let begin = self.0.len();
        self.0.push(LETTERS_KEY);
        let length_at = self.0.len();
        self.0.extend_from_slice(&[0; LENGTH_BYTES]);
        message.encode(&mut self.0);
        let length = self.0.len() - length_at - LENGTH_BYTES;
        if length > LETTER_BYTES_MAX {
            self.0.truncate(begin);
            return false;
        }
        for place in 0..LENGTH_BYTES {
            let more = if place + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            let [low, ..] = (length >> (7 * place)).to_le_bytes();
            self.0[length_at + place] = low & 0x7f | more;
        }
        true
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

/// The letters of a message, and how many of them cannot be read. Such a letter is as good as lost: if it ended the
/// connection, it would be the first on the next one, and nothing would come through any more.
pub(super) fn letters(message: Bytes) -> Result<(Vec<PeerMessage>, usize), Status> {
    let letters =
        Letters::decode(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let decoded = letters
        .letters
        .iter()
        .filter_map(|letter| PeerMessage::decode(letter).ok());
    let decoded: Vec<PeerMessage> = decoded.collect();
    let unreadable = letters.letters.len() - decoded.len();
    Ok((decoded, unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_cannot_be_read_is_left_out_and_the_others_arrive() {
        // Answers that say no more than that something was taken, and what is none.
        let of = |letters: [&[u8]; 3]| {
            let letters = letters.map(|letter| letter.to_vec().into()).into();
            let bytes: Bytes = Letters { letters }.encode_to_vec().into();
            let (readable, unreadable) = super::letters(bytes).expect("letters");
            let readable: Vec<String> = readable.iter().map(|it| format!("{it:?}")).collect();
            (readable, unreadable)
        };
        let both = ["#7 taken".to_owned(), "#8 taken".to_owned()];
        assert_eq!(
            of([&[7, 1, 4], &[0xff; 30], &[8, 1, 4]]),
            (both.to_vec(), 1)
        );
        assert_eq!(of([&[], &[7, 1, 4, 0], &[1]]), (Vec::new(), 3));
        assert!(super::letters(Bytes::from_static(&[0xff; 9])).is_err());
    }
}
