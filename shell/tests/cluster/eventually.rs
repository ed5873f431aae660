//! Waiting for what takes a while.

use std::time::{Duration, Instant};

/// Tries until it succeeds; what it last said is shown if it never does.
pub(crate) async fn eventually<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(reason) => assert!(
                began.elapsed() < LIMIT,
                "{what}: not within {LIMIT:?}: {reason}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const LIMIT: Duration = Duration::from_secs(20);
