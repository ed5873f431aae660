//! Statuses on the wire as etcd's own gRPC library spells them. A text is escaped only where a header could not carry it,
//! while tonic escapes spaces and more; and a good end has an empty text, while tonic leaves it out. Both are the same by
//! the protocol, but there are clients that compare what they read without decoding it, and that wait for both headers.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Spells the status in these headers, if there is one.
pub(super) fn spell(headers: &mut HeaderMap) {
    if !headers.contains_key(STATUS) {
        return;
    }
    let text = match headers.get(MESSAGE) {
        None => HeaderValue::from_static(""),
        Some(text) => match unescape(text.as_bytes()) {
            Some(text) => text,
            None => return,
        },
    };
    headers.insert(MESSAGE, text);
}

/// The text without the escapes that it does not need; none if it has no escape at all.
fn unescape(text: &[u8]) -> Option<HeaderValue> {
    if !text.contains(&b'%') {
        return None;
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        match escaped(rest) {
            Some(byte) if is_plain(byte) => {
                plain.push(byte);
                rest = &rest[3..];
            }
            _ => {
                plain.push(first);
                rest = behind;
            }
        }
    }
    HeaderValue::from_bytes(&plain).ok()
}

/// The byte that an escape at the beginning stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digits = [*high, *low];
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

/// Whether a text carries this byte as it is: all that can be printed, but for what escapes begin with.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

/// A body at whose end the status is spelt.
pub(crate) struct Spelt(pub(crate) Body);

impl HttpBody for Spelt {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        pin!(&mut self.get_mut().0)
            .poll_frame(cx)
            .map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    spell(trailers);
                }
                frame
            })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(status: &Status) -> HeaderMap {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).expect("a text");
        spell(&mut headers);
        headers
    }

    #[test]
    fn a_text_is_escaped_only_where_a_header_cannot_carry_it() {
        for (text, on_the_wire) in [
            (
                "etcdserver: requested lease not found",
                "etcdserver: requested lease not found",
            ),
            (
                "\"leader\" field {must} <be> provided? #`",
                "\"leader\" field {must} <be> provided? #`",
            ),
            ("100% of 20%20", "100%25 of 20%2520"),
            ("caf\u{e9}\n", "caf%C3%A9%0A"),
            ("", ""),
        ] {
            let status = Status::unknown(text);
            let headers = spelt(&status);
            assert_eq!(headers[MESSAGE], on_the_wire);
            let read = Status::from_header_map(&headers).expect("a status");
            assert_eq!((read.code(), read.message()), (status.code(), text));
        }
    }

    #[test]
    fn a_good_end_has_an_empty_text_and_what_is_no_end_has_none() {
        let headers = spelt(&Status::ok(""));
        assert_eq!(
            (&headers[STATUS], &headers[MESSAGE]),
            (
                &"0".parse().expect("a value"),
                &HeaderValue::from_static("")
            )
        );
        let mut headers = HeaderMap::new();
        spell(&mut headers);
        assert!(headers.is_empty());
    }
}
