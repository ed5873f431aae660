//! Servers for tests: HTTP/2 on a socket of this process, answers from a closure that sees whole messages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::frame::{self, Kind};
use crate::hpack::Decoder;

pub(crate) mod store;

/// A message that a client sent.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) place: Place,
    pub(crate) message: &'a [u8],
}

/// A stream of a connection.
pub(crate) type Place = (usize, u32);

/// A message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Say {
    pub(crate) place: Place,
    pub(crate) message: Vec<u8>,
    /// Whether the call ends with it.
    pub(crate) last: bool,
}

/// Answers calls with what `handler` says, until the test ends.
pub(crate) fn serve(handler: impl FnMut(&Call<'_>) -> Vec<Say> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = listener.local_addr().expect("an address");
    let shared = Arc::new(Mutex::new(Shared {
        handler: Box::new(handler),
        sockets: Vec::new(),
        begun: BTreeSet::new(),
    }));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || converse(socket, &shared));
        }
    });
    endpoint
}

type Handler = Box<dyn FnMut(&Call<'_>) -> Vec<Say> + Send>;

struct Shared {
    handler: Handler,
    sockets: Vec<TcpStream>,
    /// Streams that have had their headers.
    begun: BTreeSet<Place>,
}

impl Shared {
    fn answer(&mut self, call: &Call<'_>) {
        for say in (self.handler)(call) {
            let (connection, stream) = say.place;
            let mut bytes = Vec::new();
            if self.begun.insert(say.place) {
                push(
                    &mut bytes,
                    Kind::Headers,
                    frame::END_HEADERS,
                    stream,
                    &[0x88],
                );
            }
            let length = u32::try_from(say.message.len()).expect("a message is small");
            let body = [&[0][..], &length.to_be_bytes(), &say.message].concat();
            push(&mut bytes, Kind::Data, 0, stream, &body);
            if say.last {
                let flags = frame::END_HEADERS | frame::END_STREAM;
                let trailers = b"\x00\x0bgrpc-status\x010";
                push(&mut bytes, Kind::Headers, flags, stream, trailers);
            }
            // A client that is gone needs no answer.
            self.sockets[connection].write_all(&bytes).ok();
        }
    }
}

fn converse(mut socket: TcpStream, shared: &Mutex<Shared>) {
    let mut bytes = vec![0; 24];
    socket.set_nodelay(true).expect("a socket takes options");
    socket
        .read_exact(&mut bytes)
        .expect("the client sends the preface");
    let mut settings = Vec::new();
    push(&mut settings, Kind::Settings, 0, 0, &[]);
    socket.write_all(&settings).expect("the client reads");
    let connection = {
        let mut shared = shared.lock().expect("no handler panicked");
        let clone = socket.try_clone().expect("a socket can be shared");
        shared.sockets.push(clone);
        shared.sockets.len() - 1
    };
    let (mut decoder, mut paths) = (Decoder::new(), BTreeMap::new());
    let mut buffer = [0; 4096];
    bytes.clear();
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
        let mut used = 0;
        while let Some((frame, length)) =
            frame::split(&bytes[used..]).expect("the client writes good frames")
        {
            used += length;
            let stream = frame.stream;
            match frame.kind {
                Some(Kind::Headers) => {
                    let mut path = String::new();
                    let fields = decoder.decode(frame.payload, |name, value| {
                        if name == b":path" {
                            path = String::from_utf8_lossy(value).into_owned();
                        }
                    });
                    fields.expect("the client writes good headers");
                    paths.insert(stream, path);
                }
                Some(Kind::Data) => {
                    let mut shared = shared.lock().expect("no handler panicked");
                    let length = u32::try_from(frame.payload.len()).expect("a frame is small");
                    let mut updates = Vec::new();
                    frame::push_window_update(&mut updates, 0, length);
                    frame::push_window_update(&mut updates, stream, length);
                    socket.write_all(&updates).ok();
                    // The client sends one message in a frame, as its bodies are small.
                    shared.answer(&Call {
                        path: &paths[&stream],
                        place: (connection, stream),
                        message: &frame.payload[5..],
                    });
                }
                _ => {}
            }
        }
        bytes.drain(..used);
    }
}

fn push(bytes: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    frame::push_header(bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
}
