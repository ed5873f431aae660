//! Watchers led through a long past: more revisions than one batch holds, and more bytes than one response.

use std::{collections::BTreeSet, time::Duration};

use metastore_proto::{
    etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest, WatchResponse},
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
    /// How many responses had events.
    pub(crate) responses: usize,
    /// The most revisions whose events came in one response.
    pub(crate) revisions_max: usize,
    more_parts: bool,
}

/// Puts `count` values of `bytes` bytes, one revision each, and deletes all keys in one more.
pub(crate) async fn fill(server: &mut Connection, count: usize, bytes: usize) {
    for number in 0..count {
        let put = Operation::Put(PutRequest {
            key: format!("key/{}", number % KEYS).into_bytes(),
            value: vec![b'v'; bytes],
            ..PutRequest::default()
        });
        let answer = put.send(server).await;
        assert!(matches!(answer, Answer::Put(_)), "{answer:?}");
    }
    let delete = Operation::Delete(DeleteRangeRequest {
        key: b"key/".to_vec(),
        range_end: b"key0".to_vec(),
        ..DeleteRangeRequest::default()
    });
    let answer = delete.send(server).await;
    assert!(matches!(answer, Answer::Delete(_)), "{answer:?}");
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
        revisions_max: 0,
        more_parts: false,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while told.more_parts || told.last_revision() < until {
        let response = stream.next(deadline).await.expect("the stream goes on");
        let response = response.expect("all events come in time");
        told.note(&response);
        let promise = transcript.take(response, until);
        promise.expect("every promise is kept");
    }
    told
}

impl Told {
    fn last_revision(&self) -> i64 {
        self.events
            .last()
            .map_or(0, |last| key_and_revision(last).1)
    }

    fn note(&mut self, response: &WatchResponse) {
        self.responses += usize::from(!response.events.is_empty());
        let revisions: BTreeSet<i64> = response
            .events
            .iter()
            .map(|event| key_and_revision(event).1)
            .collect();
        self.revisions_max = self.revisions_max.max(revisions.len());
        self.more_parts = response.fragment;
        self.parts += usize::from(response.fragment);
        if response.events.len() > 1 {
            self.bytes_max = self.bytes_max.max(response.encoded_len());
        }
        self.events.extend(response.events.iter().cloned());
    }
}

pub(crate) const KEYS: usize = 6;
