//! Responses: what a watch stream says, with the events as bytes that many responses may share.

use bytes::BufMut;
use metastore_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use prost::Message as _;

use super::event::EncodedEvent;

/// One message of a watch stream.
#[derive(Clone, Debug)]
pub struct Response {
    /// The watcher it is of; -1 for a refused one, and where it is of the whole stream.
    pub watch_id: i64,
    /// The revision in its header.
    pub revision: i64,
    /// What it says.
    pub content: Content,
}

/// What a response says.
#[derive(Clone, Debug)]
pub enum Content {
    /// The watcher exists from now on.
    Created,
    /// The watcher was not created; why, in the words that clients know.
    Refused(&'static str),
    /// The watcher was cancelled on request.
    Canceled,
    /// The watcher was cancelled because what it needs next has been compacted.
    Compacted {
        /// The oldest revision that can still be watched.
        compact_revision: i64,
    },
    /// All events up to the header's revision have been sent.
    Progress,
    /// Something happened.
    Events(Events),
}

/// The events of one response, whole revisions unless cut into fragments.
#[derive(Clone, Debug)]
pub struct Events {
    pub(super) parts: Parts,
    /// Whether its reader takes it in several parts.
    may_cut: bool,
    /// Whether more of the same response follows in another one.
    more: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Parts {
    /// The usual case, without an allocation of its own.
    One(EncodedEvent),
    Many(Vec<EncodedEvent>),
    /// Encoded for one watcher alone: the bytes, and where each event ends.
    Packed {
        bytes: Vec<u8>,
        ends: Vec<usize>,
    },
}

impl Response {
    pub(super) fn new(watch_id: i64, revision: i64, content: Content) -> Self {
        Self {
            watch_id,
            revision,
            content,
        }
    }

    /// Appends the message as the API has it. `stamp` is a header of the member; its revision is replaced.
    pub fn encode(&self, stamp: &ResponseHeader, bytes: &mut impl BufMut) {
        let envelope = self.envelope(stamp);
        envelope
            .encode(bytes)
            .expect("the buffers of responses grow");
        if let Content::Events(events) = &self.content {
            events.encode(bytes);
        }
    }

    /// The length of what [`Response::encode`] appends.
    pub fn encoded_len(&self, stamp: &ResponseHeader) -> usize {
        let events = match &self.content {
            Content::Events(events) => events.bytes(),
            _ => 0,
        };
        self.envelope(stamp).encoded_len() + events
    }

    /// Everything but the events, which come last on the wire.
    fn envelope(&self, stamp: &ResponseHeader) -> WatchResponse {
        let header = ResponseHeader {
            revision: self.revision,
            ..*stamp
        };
        let envelope = WatchResponse {
            header: Some(header),
            watch_id: self.watch_id,
            ..WatchResponse::default()
        };
        match &self.content {
            Content::Created => WatchResponse {
                created: true,
                ..envelope
            },
            Content::Refused(reason) => WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: (*reason).to_owned(),
                ..envelope
            },
            Content::Canceled => WatchResponse {
                canceled: true,
                ..envelope
            },
            Content::Compacted { compact_revision } => WatchResponse {
                canceled: true,
                compact_revision: *compact_revision,
                ..envelope
            },
            Content::Progress => envelope,
            Content::Events(events) => WatchResponse {
                fragment: events.more,
                ..envelope
            },
        }
    }

    /// What the response holds in memory at most, shared bytes counted in full.
    pub(super) fn weight(&self) -> usize {
        let events = match &self.content {
            Content::Events(events) => events.bytes(),
            _ => 0,
        };
        size_of::<Self>() + events
    }
}

impl Events {
    pub(super) fn new(parts: Parts, may_cut: bool) -> Self {
        Self {
            parts,
            may_cut,
            more: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.parts {
            Parts::One(event) => event.len(),
            Parts::Many(events) => events.iter().map(|event| event.len()).sum(),
            Parts::Packed { bytes, .. } => bytes.len(),
        }
    }

    /// Cuts off what goes beyond `bytes_max`, but never the first event; what is cut off follows in another response.
    pub(super) fn cut(&mut self, bytes_max: usize) -> Option<Events> {
        if !self.may_cut || self.bytes() < bytes_max {
            return None;
        }
        let rest = match &mut self.parts {
            Parts::One(_) => return None,
            Parts::Many(events) => {
                let mut bytes = 0;
                let fit = events
                    .iter()
                    .take_while(|event| {
                        bytes += event.len();
                        bytes < bytes_max
                    })
                    .count();
                let rest = events.split_off(fit.max(1).min(events.len()));
                (!rest.is_empty()).then_some(Parts::Many(rest))?
            }
            Parts::Packed { bytes, ends } => {
                let fit = ends.partition_point(|end| *end < bytes_max).max(1);
                if fit >= ends.len() {
                    return None;
                }
                let cut = ends[fit - 1];
                let rest = bytes.split_off(cut);
                let ends = ends.split_off(fit).into_iter().map(|end| end - cut);
                Parts::Packed {
                    bytes: rest,
                    ends: ends.collect(),
                }
            }
        };
        let rest = Events {
            parts: rest,
            may_cut: true,
            more: self.more,
        };
        self.more = true;
        Some(rest)
    }

    fn encode(&self, bytes: &mut impl BufMut) {
        match &self.parts {
            Parts::One(event) => bytes.put_slice(event),
            Parts::Many(events) => events.iter().for_each(|event| bytes.put_slice(event)),
            Parts::Packed { bytes: packed, .. } => bytes.put_slice(packed),
        }
    }
}
