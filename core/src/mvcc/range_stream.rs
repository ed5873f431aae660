//! Range stream: one range answer in chunks, all of one view.

use metastore_proto::etcdserverpb::{RangeRequest, RangeResponse};
use prost::Message as _;

use super::range::{self, amount, key_value, limit};
use super::{View, header};
use crate::key::KeyRange;

/// Yields the chunks of one range answer; the last alone has header, `more` and `count`, and there is always one.
///
/// Chunks hold disjoint, ordered slices; put together they are the answer [`View::range`] gives.
#[derive(Clone, Debug)]
pub struct RangeStream {
    view: View,
    at: i64,
    request: RangeRequest,
    chunk_bytes: usize,
    /// Where the next chunk begins.
    next_key: Vec<u8>,
    /// How many more entries the limit allows.
    left: usize,
    done: bool,
}

impl RangeStream {
    pub(crate) fn new(view: View, at: i64, request: RangeRequest, chunk_bytes: usize) -> Self {
        let left = limit(&request).unwrap_or(usize::MAX);
        RangeStream {
            view,
            at,
            chunk_bytes,
            next_key: request.key.clone(),
            left,
            request,
            done: false,
        }
    }

    /// The revision the stream reads.
    pub fn at_revision(&self) -> i64 {
        self.at
    }

    /// Whether a compaction at `compact_revision` has overtaken the stream.
    ///
    /// The stream itself could go on, as its view keeps the past alive; clients are promised the compacted error.
    pub fn overtaken_by(&self, compact_revision: i64) -> bool {
        self.at < compact_revision
    }

    /// Entries from `next_key` on until a chunk is full, and where the one after begins if there is any.
    fn fill(&self) -> (RangeResponse, Option<Vec<u8>>) {
        let mut chunk = RangeResponse::default();
        let mut bytes = 0;
        let end = &self.request.range_end;
        for history in self
            .view
            .keyspace
            .histories(KeyRange::new(&self.next_key, end))
        {
            let Some(record) = history.live_at(self.at) else {
                continue;
            };
            if chunk.kvs.len() == self.left || (bytes >= self.chunk_bytes && !chunk.kvs.is_empty())
            {
                return (chunk, Some(record.key().to_vec()));
            }
            let entry = key_value(record, &self.request);
            bytes += entry.encoded_len();
            chunk.kvs.push(entry);
        }
        (chunk, None)
    }
}

impl Iterator for RangeStream {
    type Item = RangeResponse;

    fn next(&mut self) -> Option<RangeResponse> {
        if self.done {
            return None;
        }
        if self.request.count_only || !range::is_in_key_order(&self.request) {
            self.done = true;
            let answer = range::read(&self.view.keyspace, self.at, &self.request);
            return Some(RangeResponse {
                header: header(self.view.revision),
                ..answer
            });
        }
        let (mut chunk, next_key) = self.fill();
        self.left -= chunk.kvs.len();
        match next_key {
            Some(next_key) if self.left > 0 => self.next_key = next_key,
            next_key => {
                self.done = true;
                let all = KeyRange::new(&self.request.key, &self.request.range_end);
                chunk.header = header(self.view.revision);
                chunk.more = next_key.is_some();
                chunk.count = amount(self.view.keyspace.count(all, self.at));
            }
        }
        Some(chunk)
    }
}
