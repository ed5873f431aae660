//! Watchers led through a long past: more revisions than one batch holds, and more bytes than one response.

use std::time::Duration;

use metastore_proto::{
    etcdserverpb::{PutRequest, WatchCreateRequest, WatchResponse},
    mvccpb::Event,
};
use prost::Message;
use tokio::time::Instant;

use super::transcript::{Creation, Transcript, key_and_revision};
use crate::cluster::{
    connection::Connection,
    operation::{Answer, Operation},
    watch_stream::{WatchStream, create},
};

/// What one watcher was told, beside its events.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) events: Vec<Event>,
    /// How many responses said that more parts follow.
    pub(crate) parts: usize,
    /// The most bytes of a response with more than one event.
    pub(crate) bytes_max: usize,
    /// How many responses there were.
    pub(crate) responses: usize,
}

/// Puts `count` values of `bytes` bytes, one revision each.
pub(crate) async fn fill(server: &mut Connection, count: usize, bytes: usize) {
    for number in 0..count {
        let put = Operation::Put(PutRequest {
            key: format!("key/{}", number % 7).into_bytes(),
            value: vec![b'v'; bytes],
            ..PutRequest::default()
        });
        let answer = put.send(server).await;
        assert!(matches!(answer, Answer::Put(_)), "{answer:?}");
    }
}

/// Watches everything from revision `from` to revision `until`.
pub(crate) async fn watch(server: &mut Connection, from: i64, until: i64, fragment: bool) -> Told {
    let request = WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision: from,
        prev_kv: true,
        fragment,
        ..WatchCreateRequest::default()
    };
    let mut stream = WatchStream::open(server, create(request.clone()))
        .await
        .expect("a watch stream");
    let mut transcript = Transcript::new(true);
    transcript.ask(Creation {
        request,
        newest: until,
        compacted: -1,
        kept_at_start: Vec::new(),
    });
    let mut told = Told {
        events: Vec::new(),
        parts: 0,
        bytes_max: 0,
        responses: 0,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while told
        .events
        .last()
        .is_none_or(|last| key_and_revision(last).1 < until)
    {
        let response = stream.next(deadline).await.expect("the stream goes on");
        let response = response.expect("all events come in time");
        told.note(&response);
        let promise = transcript.take(response, until);
        promise.expect("every promise is kept");
    }
    told
}

impl Told {
    fn note(&mut self, response: &WatchResponse) {
        self.responses += 1;
        self.parts += usize::from(response.fragment);
        if response.events.len() > 1 {
            self.bytes_max = self.bytes_max.max(response.encoded_len());
        }
        self.events.extend(response.events.iter().cloned());
    }
}
