//! A range that is read piece by piece, as its client takes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::mvcc::RangeStream;
use metastore_proto::etcdserverpb::RangeStreamResponse;
use tonic::Status;

use super::Context;
use crate::status;

/// How long a client that takes nothing may keep what a compaction has removed for all others.
const LOOK: Duration = Duration::from_secs(1);

/// The responses of a stream.
///
/// What they are read from holds whatever was there when the stream began. But a compaction is a promise that what lies
/// before it cannot be read any more, and that its memory is free: so the stream ends then, also while its client takes
/// nothing.
pub(super) struct Chunks {
    reading: Arc<Mutex<Reading>>,
    context: Context,
    /// Whether somebody looks for compactions while the client takes nothing.
    looked_after: bool,
}

enum Reading {
    Open(Box<RangeStream>),
    /// A compaction came; the client is yet to be told.
    Overtaken,
    Ended,
}

impl Chunks {
    /// To be read on the thread of a connection.
    pub(super) fn new(chunks: RangeStream, context: Context) -> Self {
        Self {
            reading: Arc::new(Mutex::new(Reading::Open(Box::new(chunks)))),
            context,
            looked_after: false,
        }
    }
}

impl Iterator for Chunks {
    type Item = Result<RangeStreamResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reading = lock(&self.reading);
        reading.end_if_overtaken(&self.context);
        match &mut *reading {
            Reading::Open(chunks) => {
                let Some(mut chunk) = chunks.next() else {
                    *reading = Reading::Ended;
                    return None;
                };
                if chunk.header.is_some() {
                    *reading = Reading::Ended;
                    self.context.stamp(&mut chunk.header);
                } else if !self.looked_after {
                    self.looked_after = true;
                    let looking = look_after(Arc::downgrade(&self.reading), self.context.clone());
                    tokio::spawn(looking);
                }
                Some(Ok(RangeStreamResponse {
                    range_response: Some(chunk),
                }))
            }
            Reading::Overtaken => {
                *reading = Reading::Ended;
                Some(Err(status::from_kv(&KvError::Compacted)))
            }
            Reading::Ended => None,
        }
    }
}

impl Reading {
    fn end_if_overtaken(&mut self, context: &Context) {
        if let Self::Open(chunks) = self
            && chunks.overtaken_by(context.published().view.compact_revision())
        {
            let chunks = std::mem::replace(self, Self::Overtaken);
            // Perhaps nothing else holds what was compacted, and freeing much takes a while.
            drop(tokio::task::spawn_blocking(move || drop(chunks)));
        }
    }
}

/// Looks for compactions until the stream ends.
async fn look_after(reading: Weak<Mutex<Reading>>, context: Context) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(reading) = reading.upgrade() else {
            return;
        };
        let mut reading = lock(&reading);
        reading.end_if_overtaken(&context);
        if !matches!(*reading, Reading::Open(_)) {
            return;
        }
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use metastore_core::mvcc::{Changes, Store};
    use metastore_core::output::Published;
    use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};

    use super::*;

    const CHUNK_BYTES: usize = 1000;

    fn write(store: &mut Store) {
        for key in [b"a", b"b", b"c"] {
            let put = PutRequest {
                key: key.to_vec(),
                value: vec![b'v'; CHUNK_BYTES],
                ..PutRequest::default()
            };
            store.put(&put, &mut Changes::new()).expect("a fair put");
        }
    }

    fn show(store: &Store) -> Published {
        Published::at_start(store.view(), 0)
    }

    fn open(context: &Context) -> Chunks {
        let everything = RangeRequest {
            key: vec![0],
            range_end: vec![0],
            ..RangeRequest::default()
        };
        let view = context.published().view.clone();
        let chunks = view.range_stream(&everything, CHUNK_BYTES);
        Chunks::new(chunks.expect("a fair range"), context.clone())
    }

    fn compact(store: &mut Store) {
        write(store);
        let request = CompactionRequest {
            revision: store.revision(),
            ..CompactionRequest::default()
        };
        store.compact(&request).expect("a fair compaction");
    }

    fn holds_what_it_reads(chunks: &Chunks) -> bool {
        matches!(*lock(&chunks.reading), Reading::Open(_))
    }

    fn test(test: impl AsyncFnOnce(&mut Store, &ArcSwap<Published>, Context)) {
        let mut store = Store::new();
        write(&mut store);
        let shown = Arc::new(ArcSwap::from_pointee(show(&store)));
        let (context, _calls) = Context::showing(&shown);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(test(&mut store, &shown, context));
    }

    #[test]
    fn a_client_that_takes_nothing_keeps_nothing_once_it_is_compacted() {
        test(async |store, shown, context| {
            let mut chunks = open(&context);
            assert!(matches!(chunks.next(), Some(Ok(_))));
            compact(store);
            shown.store(Arc::new(show(store)));
            assert!(holds_what_it_reads(&chunks));
            tokio::time::sleep(LOOK + LOOK / 4).await;
            assert!(!holds_what_it_reads(&chunks));
            let refused = chunks.next().expect("a word").expect_err("it is compacted");
            assert_eq!(
                refused.message(),
                "etcdserver: mvcc: required revision has been compacted"
            );
            assert!(chunks.next().is_none());
        });
    }

    #[test]
    fn a_compaction_after_the_last_chunk_is_none_of_the_clients_business() {
        test(async |store, shown, context| {
            let mut chunks = open(&context);
            let told: Vec<_> = chunks.by_ref().take(3).collect();
            assert!(told.iter().all(Result::is_ok) && told.len() == 3);
            assert!(!holds_what_it_reads(&chunks));
            compact(store);
            shown.store(Arc::new(show(store)));
            assert!(chunks.next().is_none());
        });
    }
}
