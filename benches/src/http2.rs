//! A minimal HTTP/2 client connection for unary gRPC calls: bytes in, bytes out, no socket and no clock.
//!
//! It does only what a load generator needs: one prepared header block per method, bodies taken as they are,
//! responses read as far as their frame headers and their status.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::frame::{self, Frame, Kind};
use crate::status::{Failure, HeaderSummary, StatusReader};

/// One connection, from its preface to its end.
///
/// Feed every byte of the socket to [`receive`](Self::receive), write every byte of
/// [`outbound`](Self::outbound) to it, and report its end with [`lose`](Self::lose).
/// Each accepted request yields exactly one [`Reply`].
pub(crate) struct Connection {
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    streams: HashMap<u32, Stream, BuildHasherDefault<StreamIdHasher>>,
    next_stream: u32,
    /// Header block under assembly: its stream, whether the stream ends with it, the bytes so far.
    partial_headers: Option<(u32, bool, Vec<u8>)>,
    status: StatusReader,
    /// Requests beyond the number of streams the server allows.
    waiting: VecDeque<Waiting>,
    /// Bodies that a closed window holds back, in order of their streams.
    unsent: VecDeque<Unsent>,
    peer: PeerSettings,
    send_window: i64,
    /// Bytes received and not yet given back to the server's window.
    unreturned: u32,
    refuses_requests: bool,
}

/// The end of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// What the caller passed with the request.
    pub(crate) tag: u64,
    /// Length of the response message with its five bytes of prefix; 0 for a failure before any.
    pub(crate) data_bytes: u64,
    /// `Ok` only for a complete message with `grpc-status: 0`.
    pub(crate) outcome: Result<(), Failure>,
}

/// The connection broke a rule of the protocol and must be closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProtocolError(pub(crate) &'static str);

struct Stream {
    tag: u64,
    data_bytes: u64,
    unreturned: u32,
    headers: HeaderSummary,
    send_window: i64,
}

struct Waiting {
    tag: u64,
    headers: Vec<u8>,
    body: Vec<u8>,
}

struct Unsent {
    stream: u32,
    body: Vec<u8>,
    sent: usize,
}

struct PeerSettings {
    received: bool,
    streams_max: usize,
    stream_window: i64,
    frame_bytes_max: usize,
}

impl Connection {
    /// A new connection; its outbound bytes already hold the preface and settings.
    pub(crate) fn new() -> Self {
        let mut outbound = Vec::with_capacity(64 << 10);
        outbound.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame::push_header(&mut outbound, 12, Kind::Settings, 0, 0);
        for (setting, value) in [
            (frame::ENABLE_PUSH, 0),
            (frame::INITIAL_WINDOW_SIZE, WINDOW_BYTES_MAX),
        ] {
            outbound.extend_from_slice(&setting.to_be_bytes());
            outbound.extend_from_slice(&value.to_be_bytes());
        }
        frame::push_window_update(&mut outbound, 0, WINDOW_BYTES_MAX - WINDOW_BYTES_DEFAULT);
        Self {
            inbound: Vec::with_capacity(64 << 10),
            outbound,
            streams: HashMap::default(),
            next_stream: 1,
            partial_headers: None,
            status: StatusReader::new(),
            waiting: VecDeque::new(),
            unsent: VecDeque::new(),
            peer: PeerSettings {
                received: false,
                streams_max: usize::MAX,
                stream_window: i64::from(WINDOW_BYTES_DEFAULT),
                frame_bytes_max: 16 << 10,
            },
            send_window: i64::from(WINDOW_BYTES_DEFAULT),
            unreturned: 0,
            refuses_requests: false,
        }
    }

    /// Whether the server has told its settings, so that its limits are known.
    pub(crate) fn ready(&self) -> bool {
        self.peer.received
    }

    /// Whether requests are still taken; not after a GOAWAY, nor when all stream numbers are used.
    pub(crate) fn accepts(&self) -> bool {
        !self.refuses_requests && self.next_stream < STREAM_MAX
    }

    /// Starts a request: `headers` is its encoded header block, `body` its whole prefixed message.
    ///
    /// May only be called while [`accepts`](Self::accepts) holds.
    pub(crate) fn request(&mut self, headers: &[u8], body: &[u8], tag: u64) {
        assert!(
            self.accepts(),
            "no request goes to a connection that takes none"
        );
        if self.streams.len() >= self.peer.streams_max || !self.waiting.is_empty() {
            self.waiting.push_back(Waiting {
                tag,
                headers: headers.to_vec(),
                body: body.to_vec(),
            });
            return;
        }
        self.open(headers, body, tag);
    }

    /// Takes bytes from the socket, cut anywhere, and appends the requests they end to `replies`.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<Reply>,
    ) -> Result<(), ProtocolError> {
        if self.inbound.is_empty() {
            let used = self.frames(bytes, replies)?;
            self.inbound.extend_from_slice(&bytes[used..]);
        } else {
            self.inbound.extend_from_slice(bytes);
            let mut inbound = std::mem::take(&mut self.inbound);
            let used = self.frames(&inbound, replies)?;
            inbound.drain(..used);
            self.inbound = inbound;
        }
        self.open_waiting();
        Ok(())
    }

    /// The bytes to write to the socket, oldest first.
    pub(crate) fn outbound(&self) -> &[u8] {
        &self.outbound
    }

    /// Tells that the first `bytes` of [`outbound`](Self::outbound) have been written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        if bytes == self.outbound.len() {
            self.outbound.clear();
        } else {
            self.outbound.drain(..bytes);
        }
    }

    /// Ends every request: the connection is gone, for `reason`.
    pub(crate) fn lose(&mut self, reason: &str, replies: &mut Vec<Reply>) {
        self.refuses_requests = true;
        let open = self.streams.drain().map(|(_, stream)| stream.tag);
        for tag in open.chain(self.waiting.drain(..).map(|waiting| waiting.tag)) {
            replies.push(Reply {
                tag,
                data_bytes: 0,
                outcome: Err(Failure::ConnectionLost(reason.to_owned())),
            });
        }
    }

    fn open(&mut self, headers: &[u8], body: &[u8], tag: u64) {
        let id = self.next_stream;
        self.next_stream += 2;
        assert!(
            headers.len() <= 16 << 10,
            "a prepared header block fits one frame"
        );
        frame::push_header(
            &mut self.outbound,
            headers.len(),
            Kind::Headers,
            frame::END_HEADERS,
            id,
        );
        self.outbound.extend_from_slice(headers);
        let mut stream = Stream {
            tag,
            data_bytes: 0,
            unreturned: 0,
            headers: HeaderSummary::default(),
            send_window: self.peer.stream_window,
        };
        let length = i64::try_from(body.len()).expect("a body fits the memory");
        let fits = length <= self.send_window.min(stream.send_window)
            && body.len() <= self.peer.frame_bytes_max;
        if fits && self.unsent.is_empty() {
            self.send_window -= length;
            stream.send_window -= length;
            frame::push_header(
                &mut self.outbound,
                body.len(),
                Kind::Data,
                frame::END_STREAM,
                id,
            );
            self.outbound.extend_from_slice(body);
        } else {
            self.unsent.push_back(Unsent {
                stream: id,
                body: body.to_vec(),
                sent: 0,
            });
        }
        self.streams.insert(id, stream);
        if !self.unsent.is_empty() {
            self.send_unsent();
        }
    }

    fn open_waiting(&mut self) {
        while self.accepts() && self.streams.len() < self.peer.streams_max {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            self.open(&waiting.headers, &waiting.body, waiting.tag);
        }
    }

    /// Sends as much of the held-back bodies as the windows allow.
    fn send_unsent(&mut self) {
        let mut blocked = VecDeque::new();
        while let Some(mut unsent) = self.unsent.pop_front() {
            let Some(stream) = self.streams.get_mut(&unsent.stream) else {
                continue;
            };
            while unsent.sent < unsent.body.len() {
                let window = usize::try_from(self.send_window.min(stream.send_window)).unwrap_or(0);
                let length = (unsent.body.len() - unsent.sent)
                    .min(window)
                    .min(self.peer.frame_bytes_max);
                if length == 0 {
                    break;
                }
                let end = unsent.sent + length;
                let flags = if end == unsent.body.len() {
                    frame::END_STREAM
                } else {
                    0
                };
                frame::push_header(&mut self.outbound, length, Kind::Data, flags, unsent.stream);
                self.outbound
                    .extend_from_slice(&unsent.body[unsent.sent..end]);
                unsent.sent = end;
                let length = i64::try_from(length).expect("a frame is small");
                self.send_window -= length;
                stream.send_window -= length;
            }
            if unsent.sent < unsent.body.len() {
                blocked.push_back(unsent);
            }
        }
        self.unsent = blocked;
    }

    /// Handles every whole frame of `bytes` and answers how many bytes they took.
    fn frames(&mut self, bytes: &[u8], replies: &mut Vec<Reply>) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while let Some((frame, length)) = frame::split(&bytes[used..])? {
            used += length;
            self.frame(&frame, replies)?;
        }
        Ok(used)
    }

    fn frame(&mut self, frame: &Frame<'_>, replies: &mut Vec<Reply>) -> Result<(), ProtocolError> {
        if self.partial_headers.is_some() && frame.kind != Some(Kind::Continuation) {
            return Err(ProtocolError(
                "a header block was interrupted by another frame",
            ));
        }
        match frame.kind {
            Some(Kind::Data) => self.data(frame, replies),
            Some(Kind::Headers) => {
                let block = frame.without_padding_and_priority()?;
                self.header_fragment(
                    frame,
                    frame.stream,
                    frame.has(frame::END_STREAM),
                    Vec::new(),
                    block,
                    replies,
                )
            }
            Some(Kind::Continuation) => match self.partial_headers.take() {
                Some((stream, end, so_far)) if stream == frame.stream => {
                    self.header_fragment(frame, stream, end, so_far, frame.payload, replies)
                }
                _ => Err(ProtocolError("a continuation continues nothing")),
            },
            Some(Kind::ResetStream) => {
                let code = frame.number(0)?;
                self.finish(frame.stream, Some(Failure::Reset { code }), replies);
                Ok(())
            }
            Some(Kind::Settings) => self.settings(frame),
            Some(Kind::PushPromise) => Err(ProtocolError("the server pushed, though push is off")),
            Some(Kind::Ping) => {
                if frame.payload.len() != 8 {
                    return Err(ProtocolError("a ping is eight bytes"));
                }
                if !frame.has(frame::ACK) {
                    frame::push_header(&mut self.outbound, 8, Kind::Ping, frame::ACK, 0);
                    self.outbound.extend_from_slice(frame.payload);
                }
                Ok(())
            }
            Some(Kind::GoAway) => self.go_away(frame, replies),
            Some(Kind::WindowUpdate) => {
                let increment = i64::from(frame.number(0)? & WINDOW_BYTES_MAX);
                if frame.stream == 0 {
                    self.send_window += increment;
                } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.send_window += increment;
                }
                self.send_unsent();
                Ok(())
            }
            // Kinds that are not known must be ignored, and priorities concern servers only.
            Some(Kind::Priority) | None => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame<'_>, replies: &mut Vec<Reply>) -> Result<(), ProtocolError> {
        let length = u32::try_from(frame.payload.len()).expect("a frame is below 2^24 bytes");
        let message = frame.without_padding()?.len() as u64;
        self.unreturned += length;
        if self.unreturned >= WINDOW_BYTES_MAX / 2 {
            frame::push_window_update(&mut self.outbound, 0, self.unreturned);
            self.unreturned = 0;
        }
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            stream.data_bytes += message;
            stream.unreturned += length;
            if stream.unreturned >= WINDOW_BYTES_MAX / 2 {
                frame::push_window_update(&mut self.outbound, frame.stream, stream.unreturned);
                stream.unreturned = 0;
            }
        }
        if frame.has(frame::END_STREAM) {
            self.finish(frame.stream, None, replies);
        }
        Ok(())
    }

    fn header_fragment(
        &mut self,
        frame: &Frame<'_>,
        stream: u32,
        end: bool,
        mut so_far: Vec<u8>,
        fragment: &[u8],
        replies: &mut Vec<Reply>,
    ) -> Result<(), ProtocolError> {
        if !frame.has(frame::END_HEADERS) {
            so_far.extend_from_slice(fragment);
            if so_far.len() > HEADER_BLOCK_BYTES_MAX {
                return Err(ProtocolError("a header block is beyond all measure"));
            }
            self.partial_headers = Some((stream, end, so_far));
            return Ok(());
        }
        let summary = if so_far.is_empty() {
            self.status.read(fragment)
        } else {
            so_far.extend_from_slice(fragment);
            self.status.read(&so_far)
        };
        // The table is shared by all streams, so a block is decoded even if its stream is gone.
        let summary = summary.map_err(|_| ProtocolError("a header block cannot be decoded"))?;
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.headers.add(summary);
        }
        if end {
            self.finish(stream, None, replies);
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        if frame.has(frame::ACK) {
            return Ok(());
        }
        self.peer.received = true;
        let (settings, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ProtocolError("settings are six bytes each"));
        }
        for [id_high, id_low, a, b, c, d] in settings {
            let value = u32::from_be_bytes([*a, *b, *c, *d]);
            match u16::from_be_bytes([*id_high, *id_low]) {
                frame::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value as usize,
                frame::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.peer.stream_window;
                    self.peer.stream_window = i64::from(value);
                    self.streams
                        .values_mut()
                        .for_each(|stream| stream.send_window += change);
                }
                frame::MAX_FRAME_SIZE => self.peer.frame_bytes_max = value as usize,
                _ => {}
            }
        }
        frame::push_header(&mut self.outbound, 0, Kind::Settings, frame::ACK, 0);
        self.send_unsent();
        Ok(())
    }

    fn go_away(
        &mut self,
        frame: &Frame<'_>,
        replies: &mut Vec<Reply>,
    ) -> Result<(), ProtocolError> {
        let (last, code) = (frame.number(0)?, frame.number(4)?);
        let reason = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
        self.refuses_requests = true;
        let unseen: Vec<u32> = self
            .streams
            .keys()
            .copied()
            .filter(|id| *id > last)
            .collect();
        for id in unseen {
            self.finish(
                id,
                Some(Failure::GoAway {
                    code,
                    reason: reason.clone(),
                }),
                replies,
            );
        }
        for waiting in self.waiting.drain(..) {
            let outcome = Err(Failure::GoAway {
                code,
                reason: reason.clone(),
            });
            replies.push(Reply {
                tag: waiting.tag,
                data_bytes: 0,
                outcome,
            });
        }
        Ok(())
    }

    fn finish(&mut self, stream: u32, failure: Option<Failure>, replies: &mut Vec<Reply>) {
        // A stream that is not known was already answered; a server may still reset it.
        let Some(stream) = self.streams.remove(&stream) else {
            return;
        };
        let outcome = match failure {
            Some(failure) => Err(failure),
            None => stream.headers.outcome(stream.data_bytes),
        };
        replies.push(Reply {
            tag: stream.tag,
            data_bytes: stream.data_bytes,
            outcome,
        });
    }
}

/// Stream numbers are spread well enough as they are: a multiplication replaces the hash.
#[derive(Default)]
struct StreamIdHasher(u64);

impl Hasher for StreamIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("stream numbers are hashed as u32");
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

const WINDOW_BYTES_DEFAULT: u32 = 65_535;
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
const STREAM_MAX: u32 = (1 << 31) - 1;
const HEADER_BLOCK_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
