//! A server made of bytes: what the connection sends, and what it makes of answers cut anywhere.

use super::{Connection, Receiver, Reply, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX};
use crate::frame::{self, Kind};
use crate::status::Failure;

const OK_HEADERS: &[u8] = &[0x88];
const OK_TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";
const HEADERS_AND_END: u8 = frame::END_HEADERS | frame::END_STREAM;

/// A connection whose server has sent `settings`, with nothing left to send.
fn connected(settings: &[(u16, u32)]) -> Connection {
    let mut connection = Connection::new(WINDOW_BYTES_MAX);
    assert!(!connection.ready());
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect();
    let mut bytes = Vec::new();
    push(&mut bytes, Kind::Settings, 0, 0, &payload);
    assert!(receive(&mut connection, &bytes).is_empty());
    assert!(connection.ready());
    connection.wrote(connection.outbound().len());
    connection
}

fn push(bytes: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    frame::push_header(bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
}

fn answer(bytes: &mut Vec<u8>, stream: u32, trailers: &[u8]) {
    push(bytes, Kind::Headers, frame::END_HEADERS, stream, OK_HEADERS);
    push(bytes, Kind::Data, 0, stream, b"\0\0\0\0\x02ok");
    push(bytes, Kind::Headers, HEADERS_AND_END, stream, trailers);
}

fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    connection
        .receive(bytes, &mut replies)
        .expect("the test server keeps the protocol");
    replies
}

/// What the connection wants to send: kind, flags, stream and payload length of each frame.
fn sent(connection: &mut Connection) -> Vec<(Kind, u8, u32, usize)> {
    let mut bytes = connection.outbound();
    let mut frames = Vec::new();
    while let Some((frame, length)) = frame::split(bytes).expect("the client writes good frames") {
        frames.push((
            frame.kind.expect("a known kind"),
            frame.flags,
            frame.stream,
            frame.payload.len(),
        ));
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "the client writes whole frames");
    connection.wrote(connection.outbound().len());
    frames
}

#[test]
fn the_preface_is_followed_by_settings_and_a_large_window() {
    let connection = Connection::new(WINDOW_BYTES_MAX);
    let rest = connection
        .outbound()
        .strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("the preface is first");
    let (settings, length) = frame::split(rest).expect("a frame").expect("a whole frame");
    assert_eq!(settings.kind, Some(Kind::Settings));
    assert_eq!(
        settings.payload,
        [0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]
    );
    let (window, _) = frame::split(&rest[length..])
        .expect("a frame")
        .expect("a whole frame");
    assert_eq!((window.kind, window.stream), (Some(Kind::WindowUpdate), 0));
    assert_eq!(window.number(0), Ok((1 << 31) - 1 - 65_535));
}

#[test]
fn a_request_is_one_headers_and_one_data_frame() {
    let mut connection = connected(&[]);
    connection.request(b"hh", b"body", 5);
    connection.request(b"hh", b"body", 6);
    assert_eq!(
        sent(&mut connection),
        [
            (Kind::Headers, frame::END_HEADERS, 1, 2),
            (Kind::Data, frame::END_STREAM, 1, 4),
            (Kind::Headers, frame::END_HEADERS, 3, 2),
            (Kind::Data, frame::END_STREAM, 3, 4),
        ]
    );
}

#[test]
fn answers_are_understood_wherever_the_bytes_are_cut() {
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    push(&mut bytes, Kind::Ping, 0, 0, b"12345678");
    answer(
        &mut bytes,
        3,
        b"\x00\x0bgrpc-status\x0214\x00\x0cgrpc-message\x04lost",
    );
    let lost = Failure::Status {
        code: 14,
        message: "lost".into(),
    };
    let expect = [
        Reply {
            tag: 7,
            data_bytes: 7,
            outcome: Ok(()),
        },
        Reply {
            tag: 8,
            data_bytes: 7,
            outcome: Err(lost),
        },
    ];
    for cut in 0..bytes.len() {
        let mut connection = connected(&[]);
        connection.request(b"h", b"b", 7);
        connection.request(b"h", b"b", 8);
        sent(&mut connection);
        let mut replies = receive(&mut connection, &bytes[..cut]);
        replies.extend(receive(&mut connection, &bytes[cut..]));
        assert_eq!(replies, expect, "cut after {cut} bytes");
        assert_eq!(sent(&mut connection), [(Kind::Ping, frame::ACK, 0, 8)]);
    }
}

#[test]
fn answers_are_understood_byte_by_byte() {
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    let mut connection = connected(&[]);
    connection.request(b"h", b"b", 1);
    let replies: Vec<Reply> = bytes
        .iter()
        .flat_map(|byte| receive(&mut connection, &[*byte]))
        .collect();
    assert_eq!(
        replies,
        [Reply {
            tag: 1,
            data_bytes: 7,
            outcome: Ok(())
        }]
    );
}

#[test]
fn trailers_continued_in_a_second_frame_are_one_block() {
    let mut bytes = Vec::new();
    push(&mut bytes, Kind::Headers, frame::END_HEADERS, 1, OK_HEADERS);
    push(&mut bytes, Kind::Data, 0, 1, b"\0\0\0\0\0");
    push(
        &mut bytes,
        Kind::Headers,
        frame::END_STREAM,
        1,
        &OK_TRAILERS[..6],
    );
    push(
        &mut bytes,
        Kind::Continuation,
        frame::END_HEADERS,
        1,
        &OK_TRAILERS[6..],
    );
    let mut connection = connected(&[]);
    connection.request(b"h", b"b", 1);
    assert_eq!(
        receive(&mut connection, &bytes),
        [Reply {
            tag: 1,
            data_bytes: 5,
            outcome: Ok(())
        }]
    );
}

#[test]
fn a_body_beyond_the_windows_waits_for_updates() {
    let mut connection = connected(&[(frame::INITIAL_WINDOW_SIZE, 20_000)]);
    connection.request(b"h", &[0; 30_000], 1);
    connection.request(b"h", b"small", 2);
    let expect = [
        (Kind::Headers, frame::END_HEADERS, 1, 1),
        (Kind::Data, 0, 1, 16_384),
        (Kind::Data, 0, 1, 3_616),
        (Kind::Headers, frame::END_HEADERS, 3, 1),
        (Kind::Data, frame::END_STREAM, 3, 5),
    ];
    assert_eq!(sent(&mut connection), expect);
    let mut update = Vec::new();
    frame::push_window_update(&mut update, 1, 10_000);
    receive(&mut connection, &update);
    assert_eq!(
        sent(&mut connection),
        [(Kind::Data, frame::END_STREAM, 1, 10_000)]
    );
}

#[test]
fn requests_beyond_the_allowed_streams_wait_for_answers() {
    let mut connection = connected(&[(frame::MAX_CONCURRENT_STREAMS, 1)]);
    connection.request(b"h", b"b", 1);
    connection.request(b"h", b"b", 2);
    assert_eq!(sent(&mut connection).len(), 2);
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    assert_eq!(receive(&mut connection, &bytes).len(), 1);
    assert_eq!(
        sent(&mut connection)[0],
        (Kind::Headers, frame::END_HEADERS, 3, 1)
    );
}

#[test]
fn a_reset_stream_is_a_failure_and_an_answered_one_is_not_answered_twice() {
    let mut connection = connected(&[]);
    connection.request(b"h", b"b", 1);
    let mut reset = Vec::new();
    push(&mut reset, Kind::ResetStream, 0, 1, &8_u32.to_be_bytes());
    let failure = Err(Failure::Reset { code: 8 });
    assert_eq!(
        receive(&mut connection, &reset),
        [Reply {
            tag: 1,
            data_bytes: 0,
            outcome: failure
        }]
    );
    assert!(receive(&mut connection, &reset).is_empty());
}

#[test]
fn a_goaway_fails_only_the_requests_it_does_not_cover() {
    let mut connection = connected(&[]);
    connection.request(b"h", b"b", 1);
    connection.request(b"h", b"b", 2);
    let mut bytes = Vec::new();
    push(
        &mut bytes,
        Kind::GoAway,
        0,
        0,
        b"\0\0\0\x01\0\0\0\x0bcalm down",
    );
    let replies = receive(&mut connection, &bytes);
    let failure = Failure::GoAway {
        code: 11,
        reason: "calm down".into(),
    };
    assert_eq!(
        replies,
        [Reply {
            tag: 2,
            data_bytes: 0,
            outcome: Err(failure)
        }]
    );
    assert!(!connection.accepts());
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    assert_eq!(
        receive(&mut connection, &bytes),
        [Reply {
            tag: 1,
            data_bytes: 7,
            outcome: Ok(())
        }]
    );
}

#[test]
fn a_lost_connection_answers_every_open_request_once() {
    let mut connection = connected(&[(frame::MAX_CONCURRENT_STREAMS, 1)]);
    connection.request(b"h", b"b", 1);
    connection.request(b"h", b"b", 2);
    let mut replies = Vec::new();
    connection.lose("reset by peer", &mut replies);
    connection.lose("reset by peer", &mut replies);
    let failure = || Err(Failure::ConnectionLost("reset by peer".into()));
    assert_eq!(
        replies,
        [
            Reply {
                tag: 1,
                data_bytes: 0,
                outcome: failure()
            },
            Reply {
                tag: 2,
                data_bytes: 0,
                outcome: failure()
            }
        ]
    );
}

/// What a call with messages was told, in order.
#[derive(Debug, Default, PartialEq)]
struct Heard(Vec<Told>);

#[derive(Debug, PartialEq)]
enum Told {
    Message(u64, Vec<u8>),
    End(u64, Result<(), Failure>),
}

impl Receiver for Heard {
    fn reply(&mut self, reply: Reply) {
        self.0.push(Told::End(reply.tag, reply.outcome));
    }

    fn message(&mut self, tag: u64, message: &[u8]) {
        self.0.push(Told::Message(tag, message.to_vec()));
    }
}

#[test]
fn a_stream_sends_messages_until_it_ends_and_none_after() {
    let mut connection = connected(&[]);
    let stream = connection.open_stream(b"hh", 5).expect("a stream is free");
    connection.send(stream, b"one");
    connection.send(stream, b"more");
    let expect = [
        (Kind::Headers, frame::END_HEADERS, 1, 2),
        (Kind::Data, 0, 1, 3),
        (Kind::Data, 0, 1, 4),
    ];
    assert_eq!(sent(&mut connection), expect);
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    let mut heard = Heard::default();
    connection
        .receive(&bytes, &mut heard)
        .expect("the test server keeps the protocol");
    let told = [Told::Message(5, b"ok".to_vec()), Told::End(5, Ok(()))];
    assert_eq!(heard.0, told);
    connection.send(stream, b"late");
    assert!(sent(&mut connection).is_empty());
}

#[test]
fn messages_are_whole_wherever_frames_and_bytes_are_cut() {
    let messages = b"\0\0\0\0\x03abc\0\0\0\0\x00\0\0\0\0\x02de";
    for frame_cut in 0..=messages.len() {
        let mut bytes = Vec::new();
        push(&mut bytes, Kind::Headers, frame::END_HEADERS, 1, OK_HEADERS);
        push(&mut bytes, Kind::Data, 0, 1, &messages[..frame_cut]);
        push(&mut bytes, Kind::Data, 0, 1, &messages[frame_cut..]);
        for cut in 0..bytes.len() {
            let mut connection = connected(&[]);
            connection.open_stream(b"h", 1).expect("a stream is free");
            let mut heard = Heard::default();
            for part in [&bytes[..cut], &bytes[cut..]] {
                connection
                    .receive(part, &mut heard)
                    .expect("the test server keeps the protocol");
            }
            let told = [&b"abc"[..], b"", b"de"].map(|text| Told::Message(1, text.to_vec()));
            assert_eq!(heard.0, told, "frames cut at {frame_cut}, bytes at {cut}");
        }
    }
}

#[test]
fn a_query_gets_the_message_and_then_its_end() {
    let mut connection = connected(&[]);
    connection.query(b"h", b"b", 9);
    assert_eq!(
        sent(&mut connection)[1],
        (Kind::Data, frame::END_STREAM, 1, 1)
    );
    let mut bytes = Vec::new();
    answer(&mut bytes, 1, OK_TRAILERS);
    let mut heard = Heard::default();
    connection
        .receive(&bytes, &mut heard)
        .expect("the test server keeps the protocol");
    let told = [Told::Message(9, b"ok".to_vec()), Told::End(9, Ok(()))];
    assert_eq!(heard.0, told);
}

#[test]
fn a_compressed_message_breaks_the_protocol() {
    let mut connection = connected(&[]);
    connection.open_stream(b"h", 1).expect("a stream is free");
    let mut bytes = Vec::new();
    push(&mut bytes, Kind::Data, 0, 1, b"\x01\0\0\0\x01a");
    let outcome = connection.receive(&bytes, &mut Heard::default());
    assert!(outcome.is_err_and(|error| error.0.contains("compressed")));
}

#[test]
fn a_small_window_is_announced_and_given_back_by_halves() {
    let mut connection = Connection::new(WINDOW_BYTES_DEFAULT);
    let mut bytes = Vec::new();
    push(&mut bytes, Kind::Settings, 0, 0, &[]);
    assert!(receive(&mut connection, &bytes).is_empty());
    let rest = connection.outbound()[24..].to_vec();
    let (settings, _) = frame::split(&rest)
        .expect("a frame")
        .expect("a whole frame");
    assert_eq!(settings.payload, [0, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0xff, 0xff]);
    connection.wrote(connection.outbound().len());
    connection.request(b"h", b"b", 1);
    sent(&mut connection);
    for expect in [0, 0, 2] {
        let mut bytes = Vec::new();
        push(&mut bytes, Kind::Data, 0, 1, &[0; 12_000]);
        assert!(receive(&mut connection, &bytes).is_empty());
        let updates = sent(&mut connection);
        assert_eq!(updates.len(), expect, "{updates:?}");
    }
}

#[test]
fn no_stream_is_opened_beyond_the_allowed_number() {
    let mut connection = connected(&[(frame::MAX_CONCURRENT_STREAMS, 1)]);
    assert_eq!(connection.open_stream(b"h", 1), Some(1));
    assert_eq!(connection.open_stream(b"h", 2), None);
}
