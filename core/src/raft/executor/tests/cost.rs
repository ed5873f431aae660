//! What waking, sending and sleeping cost.

use std::time::Duration;

use futures_util::FutureExt;
use openraft::rt::{
    AsyncRuntime, Mpsc as _, MpscReceiver as _, MpscSender as _, Oneshot as _, OneshotSender as _,
};

use super::super::*;
use super::yield_now;

/// Run with `--profile quick -- --ignored --nocapture` to see nanoseconds per operation.
#[test]
#[ignore = "measures, and prints what it measured"]
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock"
)]
fn cost_of_the_hot_paths() {
    const ROUNDS: u32 = 2_000_000;
    let report = |what: &str, start: std::time::Instant, operations: u32| {
        println!(
            "{what:32} {:6.1} ns",
            start.elapsed().as_secs_f64() * 1e9 / f64::from(operations)
        );
    };
    let mut executor = Executor::new(1, Duration::ZERO);

    let start = std::time::Instant::now();
    executor.block_on(async {
        for _ in 0..ROUNDS {
            yield_now().await;
        }
    });
    report("wake and poll, root", start, ROUNDS);

    executor.spawn(async {
        for _ in 0..ROUNDS {
            yield_now().await;
        }
    });
    let start = std::time::Instant::now();
    executor.run_until_idle(Duration::ZERO);
    report("wake and poll, task", start, ROUNDS);

    for buffer in [1, 64] {
        let (tx, mut rx) = Channel::channel::<u64>(buffer);
        executor.spawn(async move {
            for message in 0..u64::from(ROUNDS) {
                tx.send(message).await.unwrap();
            }
        });
        let received = executor.spawn(async move {
            let mut count = 0;
            while rx.recv().await.is_some() {
                count += 1;
            }
            count
        });
        let start = std::time::Instant::now();
        executor.run_until_idle(Duration::ZERO);
        report(
            &format!("send and receive, room for {buffer}"),
            start,
            ROUNDS,
        );
        assert_eq!(received.now_or_never(), Some(Ok(ROUNDS)));
    }

    let start = std::time::Instant::now();
    executor.block_on(async {
        for _ in 0..ROUNDS {
            let (tx, rx) = Oneshot::channel::<u64>();
            tx.send(1).unwrap();
            rx.await.unwrap();
        }
    });
    report("oneshot made, sent, received", start, ROUNDS);

    let start = std::time::Instant::now();
    executor.block_on(async {
        for _ in 0..ROUNDS {
            Stepped::spawn(async {}).await.unwrap();
        }
    });
    report("spawn and join", start, ROUNDS);

    let start = std::time::Instant::now();
    executor.block_on(async {
        for _ in 0..ROUNDS {
            Stepped::sleep(Duration::from_micros(1)).await;
        }
    });
    report("sleep", start, ROUNDS);
}
