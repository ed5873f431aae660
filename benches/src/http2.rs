//! A minimal HTTP/2 client connection for gRPC calls: bytes in, bytes out, no socket and no clock.
//!
//! It does only what a load generator needs: one prepared header block per method, bodies taken as they are,
//! responses read as far as their frame headers and their status, and their messages only for who wants them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

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
    /// How many bytes the server may send ahead, on each stream and on the whole connection.
    window: u32,
    refuses_requests: bool,
}

/// Who takes what a connection receives.
pub(crate) trait Receiver {
    /// The end of a call.
    fn reply(&mut self, reply: Reply);

    /// A whole message, without its prefix, of a call that was begun with the wish to see its messages.
    fn message(&mut self, tag: u64, message: &[u8]);

    /// Tells the time at which what follows was read from a socket.
    fn arrived(&mut self, _now: Instant) {}
}

impl Receiver for Vec<Reply> {
    fn reply(&mut self, reply: Reply) {
        self.push(reply);
    }

    fn message(&mut self, _: u64, _: &[u8]) {
        unreachable!("who keeps only replies asks for no messages");
    }
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
    wants: Wants,
    /// The beginning of a message whose end has not come yet.
    partial: Vec<u8>,
}

/// What a caller wants to know of the messages of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Lengths,
    Messages,
}

struct Waiting {
    tag: u64,
    wants: Wants,
    headers: Vec<u8>,
    body: Vec<u8>,
}

struct Unsent {
    stream: u32,
    body: Vec<u8>,
    sent: usize,
    /// Whether the stream ends with it.
    last: bool,
}

struct PeerSettings {
    received: bool,
    streams_max: usize,
    stream_window: i64,
    frame_bytes_max: usize,
}

impl Connection {
    /// A new connection on which the server may send `window` bytes ahead, at least the protocol's 65,535;
    /// its outbound bytes already hold the preface and settings.
    pub(crate) fn new(window: u32) -> Self {
        assert!(
            (WINDOW_BYTES_DEFAULT..=WINDOW_BYTES_MAX).contains(&window),
            "a window is at least the default and below 2^31"
        );
        let mut outbound = Vec::with_capacity(64 << 10);
        outbound.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame::push_header(&mut outbound, 12, Kind::Settings, 0, 0);
        for (setting, value) in [
            (frame::ENABLE_PUSH, 0),
            (frame::INITIAL_WINDOW_SIZE, window),
        ] {
            outbound.extend_from_slice(&setting.to_be_bytes());
            outbound.extend_from_slice(&value.to_be_bytes());
        }
        if window > WINDOW_BYTES_DEFAULT {
            frame::push_window_update(&mut outbound, 0, window - WINDOW_BYTES_DEFAULT);
        }
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
            window,
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
        self.call(headers, body, tag, Wants::Lengths);
    }

    /// Like [`request`](Self::request), but the receiver gets the message of the answer too, before its reply.
    pub(crate) fn query(&mut self, headers: &[u8], body: &[u8], tag: u64) {
        self.call(headers, body, tag, Wants::Messages);
    }

    /// Opens a stream for messages in both directions and answers its number; `None` if the server allows no more.
    pub(crate) fn open_stream(&mut self, headers: &[u8], tag: u64) -> Option<u32> {
        if !self.accepts() || self.streams.len() >= self.peer.streams_max {
            return None;
        }
        Some(self.open(headers, tag, Wants::Messages))
    }

    /// Sends one prefixed message on an open stream; on a stream that has ended it is lost, as its end was told.
    pub(crate) fn send(&mut self, stream: u32, body: &[u8]) {
        self.push_body(stream, body, false);
    }

    fn call(&mut self, headers: &[u8], body: &[u8], tag: u64, wants: Wants) {
        assert!(
            self.accepts(),
            "no request goes to a connection that takes none"
        );
        if self.streams.len() >= self.peer.streams_max || !self.waiting.is_empty() {
            self.waiting.push_back(Waiting {
                tag,
                wants,
                headers: headers.to_vec(),
                body: body.to_vec(),
            });
            return;
        }
        let stream = self.open(headers, tag, wants);
        self.push_body(stream, body, true);
    }

    /// Takes bytes from the socket, cut anywhere, and tells `receiver` of the calls they end and the messages wanted.
    pub(crate) fn receive<R: Receiver>(
        &mut self,
        bytes: &[u8],
        receiver: &mut R,
    ) -> Result<(), ProtocolError> {
        if self.inbound.is_empty() {
            let used = self.frames(bytes, receiver)?;
            self.inbound.extend_from_slice(&bytes[used..]);
        } else {
            self.inbound.extend_from_slice(bytes);
            let mut inbound = std::mem::take(&mut self.inbound);
            let used = self.frames(&inbound, receiver)?;
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

    /// Ends every request: the connection is gone, for `reason`. Answers how many requests that were.
    pub(crate) fn lose<R: Receiver>(&mut self, reason: &str, receiver: &mut R) -> usize {
        self.refuses_requests = true;
        let open = self.streams.drain().map(|(_, stream)| stream.tag);
        let mut ended = 0;
        for tag in open.chain(self.waiting.drain(..).map(|waiting| waiting.tag)) {
            ended += 1;
            receiver.reply(Reply {
                tag,
                data_bytes: 0,
                outcome: Err(Failure::ConnectionLost(reason.to_owned())),
            });
        }
        ended
    }

    /// Sends the headers of a new stream.
    fn open(&mut self, headers: &[u8], tag: u64, wants: Wants) -> u32 {
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
        let stream = Stream {
            tag,
            data_bytes: 0,
            unreturned: 0,
            headers: HeaderSummary::default(),
            send_window: self.peer.stream_window,
            wants,
            partial: Vec::new(),
        };
        self.streams.insert(id, stream);
        id
    }

    /// Sends a body, or as much of it as the windows allow.
    fn push_body(&mut self, id: u32, body: &[u8], last: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let length = i64::try_from(body.len()).expect("a body fits the memory");
        let fits = length <= self.send_window.min(stream.send_window)
            && body.len() <= self.peer.frame_bytes_max;
        if fits && self.unsent.is_empty() {
            self.send_window -= length;
            stream.send_window -= length;
            let flags = if last { frame::END_STREAM } else { 0 };
            frame::push_header(&mut self.outbound, body.len(), Kind::Data, flags, id);
            self.outbound.extend_from_slice(body);
        } else {
            self.unsent.push_back(Unsent {
                stream: id,
                body: body.to_vec(),
                sent: 0,
                last,
            });
            self.send_unsent();
        }
    }

    fn open_waiting(&mut self) {
        while self.accepts() && self.streams.len() < self.peer.streams_max {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            let stream = self.open(&waiting.headers, waiting.tag, waiting.wants);
            self.push_body(stream, &waiting.body, true);
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
                let flags = if unsent.last && end == unsent.body.len() {
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
    fn frames<R: Receiver>(
        &mut self,
        bytes: &[u8],
        receiver: &mut R,
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while let Some((frame, length)) = frame::split(&bytes[used..])? {
            used += length;
            self.frame(&frame, receiver)?;
        }
        Ok(used)
    }

    fn frame<R: Receiver>(
        &mut self,
        frame: &Frame<'_>,
        receiver: &mut R,
    ) -> Result<(), ProtocolError> {
        if self.partial_headers.is_some() && frame.kind != Some(Kind::Continuation) {
            return Err(ProtocolError(
                "a header block was interrupted by another frame",
            ));
        }
        match frame.kind {
            Some(Kind::Data) => self.data(frame, receiver),
            Some(Kind::Headers) => {
                let block = frame.without_padding_and_priority()?;
                self.header_fragment(
                    frame,
                    frame.stream,
                    frame.has(frame::END_STREAM),
                    Vec::new(),
                    block,
                    receiver,
                )
            }
            Some(Kind::Continuation) => match self.partial_headers.take() {
                Some((stream, end, so_far)) if stream == frame.stream => {
                    self.header_fragment(frame, stream, end, so_far, frame.payload, receiver)
                }
                _ => Err(ProtocolError("a continuation continues nothing")),
            },
            Some(Kind::ResetStream) => {
                let code = frame.number(0)?;
                self.finish(frame.stream, Some(Failure::Reset { code }), receiver);
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
            Some(Kind::GoAway) => self.go_away(frame, receiver),
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

    fn data<R: Receiver>(
        &mut self,
        frame: &Frame<'_>,
        receiver: &mut R,
    ) -> Result<(), ProtocolError> {
        let length = u32::try_from(frame.payload.len()).expect("a frame is below 2^24 bytes");
        let content = frame.without_padding()?;
        self.unreturned += length;
        if self.unreturned >= self.window / 2 {
            frame::push_window_update(&mut self.outbound, 0, self.unreturned);
            self.unreturned = 0;
        }
        if let Some(stream) = self.streams.get_mut(&frame.stream) {
            stream.data_bytes += content.len() as u64;
            stream.unreturned += length;
            if stream.unreturned >= self.window / 2 {
                frame::push_window_update(&mut self.outbound, frame.stream, stream.unreturned);
                stream.unreturned = 0;
            }
            if stream.wants == Wants::Messages {
                stream.deliver(content, receiver)?;
            }
        }
        if frame.has(frame::END_STREAM) {
            self.finish(frame.stream, None, receiver);
        }
        Ok(())
    }

    fn header_fragment<R: Receiver>(
        &mut self,
        frame: &Frame<'_>,
        stream: u32,
        end: bool,
        mut so_far: Vec<u8>,
        fragment: &[u8],
        receiver: &mut R,
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
            self.finish(stream, None, receiver);
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

    fn go_away<R: Receiver>(
        &mut self,
        frame: &Frame<'_>,
        receiver: &mut R,
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
                receiver,
            );
        }
        for waiting in self.waiting.drain(..) {
            let outcome = Err(Failure::GoAway {
                code,
                reason: reason.clone(),
            });
            receiver.reply(Reply {
                tag: waiting.tag,
                data_bytes: 0,
                outcome,
            });
        }
        Ok(())
    }

    fn finish<R: Receiver>(&mut self, stream: u32, failure: Option<Failure>, receiver: &mut R) {
        // A stream that is not known was already answered; a server may still reset it.
        let Some(stream) = self.streams.remove(&stream) else {
            return;
        };
        let outcome = match failure {
            Some(failure) => Err(failure),
            None => stream.headers.outcome(stream.data_bytes),
        };
        receiver.reply(Reply {
            tag: stream.tag,
            data_bytes: stream.data_bytes,
            outcome,
        });
    }
}

impl Stream {
    /// Hands over every message that `content` completes and keeps the rest.
    fn deliver<R: Receiver>(
        &mut self,
        content: &[u8],
        receiver: &mut R,
    ) -> Result<(), ProtocolError> {
        if self.partial.is_empty() {
            let used = messages(content, self.tag, receiver)?;
            self.partial.extend_from_slice(&content[used..]);
        } else {
            self.partial.extend_from_slice(content);
            let used = messages(&self.partial, self.tag, receiver)?;
            self.partial.drain(..used);
        }
        Ok(())
    }
}

/// Hands over every whole message at the beginning of `bytes` and answers how many bytes they took.
fn messages<R: Receiver>(bytes: &[u8], tag: u64, receiver: &mut R) -> Result<usize, ProtocolError> {
    let mut used = 0;
    while let Some((&[compressed, a, b, c, d], rest)) = bytes[used..].split_first_chunk::<5>() {
        if compressed != 0 {
            return Err(ProtocolError(
                "a message is compressed, though that was not offered",
            ));
        }
        let Some(message) = rest.get(..u32::from_be_bytes([a, b, c, d]) as usize) else {
            break;
        };
        receiver.message(tag, message);
        used += 5 + message.len();
    }
    Ok(used)
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

/// The window of every stream and connection that nothing else is said of, bytes.
pub(crate) const WINDOW_BYTES_DEFAULT: u32 = 65_535;
/// The largest window, bytes: practically none.
pub(crate) const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
const STREAM_MAX: u32 = (1 << 31) - 1;
const HEADER_BLOCK_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
