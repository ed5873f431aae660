//! Threads whose work nobody waits for.

use std::io;
use std::thread::{self, JoinHandle};

/// What such a thread adds to the process's niceness. It gets about a tenth of the weight of a thread that answers
/// clients, and all of a processor that has nothing else to do.
const NICENESS: i32 = 10;

/// Starts a thread of this name that lets others have the processor first.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // On Linux this is about the calling thread alone.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "a thread in the background keeps its priority");
        }
        work()
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{NICENESS, spawn};

    #[test]
    fn a_thread_in_the_background_is_nicer_than_the_one_that_started_it() {
        let niceness = || rustix::process::nice(0).expect("the system says");
        let before = niceness();
        let there = spawn("nice", niceness).expect("a thread");
        assert_eq!(there.join().expect("no panic"), (before + NICENESS).min(19));
        assert_eq!(niceness(), before);
    }
}
