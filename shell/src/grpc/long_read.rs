//! Reads that look at much: computed away from the threads of connections, a few at a time.

use std::sync::LazyLock;
use std::thread;

use metastore_core::kv_error::KvError;
use metastore_core::mvcc::View;
use tokio::sync::Semaphore;
use tonic::Status;

use super::Context;
use crate::status;

/// How much a read may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// As much as its limit says, and what is beyond it is at most counted.
    Limited,
    /// Everything.
    Unlimited,
}

/// How many are computed at a time, each extent for itself, so that none waits for one that is much longer. More would take
/// the processors from each other, and what a client has given up cannot be broken off once it has begun: it must not pile
/// up. What waits for a place ends with its client.
static PLACES: LazyLock<[Semaphore; 2]> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    [0, 1].map(|_| Semaphore::new(2 * processors))
});

impl Extent {
    fn places(self) -> &'static Semaphore {
        match self {
            Self::Limited => &PLACES[0],
            Self::Unlimited => &PLACES[1],
        }
    }
}

/// Reads from the view that is published when there is a place.
pub(super) async fn compute<T: Send + 'static>(
    context: &Context,
    extent: Extent,
    read: impl FnOnce(&View) -> Result<T, KvError> + Send + 'static,
) -> Result<T, Status> {
    let internal = |error: &dyn std::error::Error| Status::internal(error.to_string());
    let place = extent.places().acquire().await;
    let place = place.map_err(|error| internal(&error))?;
    let view = context.published().view.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let answer = read(&view);
        drop(place);
        answer
    });
    let answer = answer.await.map_err(|error| internal(&error))?;
    answer.map_err(|error| status::from_kv(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};

    use arc_swap::ArcSwap;
    use futures_util::future::join_all;
    use futures_util::poll;
    use metastore_core::mvcc::Store;
    use metastore_core::output::Published;

    use super::*;

    #[test]
    fn long_reads_wait_for_a_place_and_those_that_were_given_up_do_not_begin() {
        let shown = Published::at_start(Store::new().view(), 0);
        let (context, _calls) = Context::showing(&Arc::new(ArcSwap::from_pointee(shown)));
        let (end, until) = channel::<()>();
        let until = Arc::new(Mutex::new(until));
        let begun = Arc::new(AtomicUsize::new(0));
        let read = || {
            let (until, begun) = (Arc::clone(&until), Arc::clone(&begun));
            compute(&context, Extent::Unlimited, move |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ended = until.lock().expect("nobody panics").recv();
                Ok(())
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let places = Extent::Unlimited.places().available_permits();
            let mut all = Vec::new();
            for _ in 0..places {
                let mut reading = Box::pin(read());
                assert!(poll!(&mut reading).is_pending());
                all.push(reading);
            }
            let mut given_up = Box::pin(read());
            assert!(poll!(&mut given_up).is_pending());
            drop(given_up);
            let mut waiting = Box::pin(read());
            assert!(poll!(&mut waiting).is_pending());
            let limited = compute(&context, Extent::Limited, |view| Ok(view.revision()));
            assert_eq!(limited.await.expect("it has places of its own"), 1);
            all.push(waiting);
            drop(end);
            assert!(join_all(all).await.iter().all(Result::is_ok));
            assert_eq!(begun.load(Ordering::SeqCst), places + 1);
            assert_eq!(Extent::Unlimited.places().available_permits(), places);
        });
    }
}
