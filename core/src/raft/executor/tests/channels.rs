//! What the channels and the mutex promise: order, fairness, and that giving up leaves nothing behind.

use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use openraft::rt::{
    AsyncRuntime, Mpsc as _, MpscReceiver as _, MpscSender as _, Mutex as _, TryRecvError,
    Watch as _, WatchReceiver as _, WatchSender as _,
};

use super::super::*;
use super::Log;

#[test]
fn waiting_senders_are_served_in_order() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let (tx, mut rx) = Channel::channel::<u32>(1);
    let log = Log::default();
    for (name, message) in [("a", 0), ("b", 1), ("c", 2)] {
        let (tx, log) = (tx.clone(), log.clone());
        executor.spawn(async move {
            tx.send(message).await.unwrap();
            log.push(name);
        });
    }
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(log.take(), ["a"], "the others wait for room");

    assert_eq!(rx.try_recv(), Ok(0));
    assert!(
        tx.send(9).now_or_never().is_none(),
        "nobody overtakes the sender who was promised the room"
    );
    executor.run_until_idle(Duration::ZERO);
    assert_eq!((log.take(), rx.try_recv()), (vec!["b"], Ok(1)));
    executor.run_until_idle(Duration::ZERO);
    assert_eq!((log.take(), rx.try_recv()), (vec!["c"], Ok(2)));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn room_promised_to_a_sender_who_gives_up_goes_to_the_next() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let (tx, mut rx) = Channel::channel::<u32>(1);
    tx.send(0).now_or_never().unwrap().unwrap();
    let mut given_up = Box::pin(tx.send(1));
    assert!(given_up.as_mut().now_or_never().is_none());
    let mut left_early = Box::pin(tx.send(2));
    assert!(left_early.as_mut().now_or_never().is_none());
    let sender = tx.clone();
    let patient = executor.spawn(async move { sender.send(3).await });
    executor.run_until_idle(Duration::ZERO);

    drop(left_early);
    assert_eq!(rx.try_recv(), Ok(0));
    drop(given_up);
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(patient.now_or_never(), Some(Ok(Ok(()))));
    assert_eq!(rx.try_recv(), Ok(3));
    tx.send(4)
        .now_or_never()
        .expect("all room is free again")
        .unwrap();
}

#[test]
fn dropping_the_receiver_fails_the_waiting_senders_and_frees_the_messages() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let alive = Rc::new(());
    let (tx, rx) = Channel::channel(1);
    let handles: Vec<_> = (0..3)
        .map(|_| {
            let (tx, message) = (tx.clone(), Rc::clone(&alive));
            executor.spawn(async move { tx.send(message).await.is_ok() })
        })
        .collect();
    executor.run_until_idle(Duration::ZERO);
    drop(rx);
    executor.run_until_idle(Duration::ZERO);
    let sent: Vec<_> = handles
        .into_iter()
        .map(|handle| handle.now_or_never())
        .collect();
    assert_eq!(sent, [Some(Ok(true)), Some(Ok(false)), Some(Ok(false))]);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn a_watcher_sees_the_latest_value_and_each_change_once() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let (tx, mut rx) = Watch::channel(0);
    let log = Log::default();
    let seen = log.clone();
    let watcher = executor.spawn(async move {
        while rx.changed().await.is_ok() {
            seen.push(*rx.borrow_watched());
        }
    });
    executor.run_until_idle(Duration::ZERO);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    executor.run_until_idle(Duration::ZERO);
    assert!(!tx.send_if_modified(|_| false));
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(log.take(), [2]);

    tx.send(3).unwrap();
    drop(tx);
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(
        log.take(),
        [3],
        "the last change arrives although the sender is gone"
    );
    assert_eq!(watcher.now_or_never(), Some(Ok(())));
}

#[test]
fn watchers_wake_in_the_order_they_began_to_wait() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let (tx, rx) = Watch::channel(0);
    let log = Log::default();
    let mut receivers = [("a", rx.clone()), ("b", rx)];
    receivers.reverse();
    for (name, mut rx) in receivers {
        let log = log.clone();
        executor.spawn(async move {
            rx.changed().await.unwrap();
            log.push(name);
        });
    }
    executor.run_until_idle(Duration::ZERO);
    tx.send(1).unwrap();
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(log.take(), ["b", "a"]);
}

#[test]
fn a_watcher_that_gives_up_waiting_again_and_again_is_listed_once() {
    let (tx, mut rx) = Watch::channel(0);
    for _ in 0..1000 {
        assert!(rx.changed().now_or_never().is_none());
    }
    assert_eq!(tx.waiting_count(), 1);
    drop(rx);
    assert_eq!(tx.waiting_count(), 0);
}

#[test]
#[should_panic(expected = "no reference to a watched value is held while it is replaced")]
fn replacing_a_watched_value_that_is_borrowed_is_a_named_panic() {
    let (tx, rx) = Watch::channel(0);
    let _held = rx.borrow_watched();
    let _ = tx.send(1);
}

#[test]
fn a_mutex_passes_to_the_waiters_in_order() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let log = Log::default();
    let mutex = Rc::new(<Mutex<u32> as openraft::rt::Mutex<u32>>::new(0));
    for name in ["a", "b", "c"] {
        let (mutex, log) = (Rc::clone(&mutex), log.clone());
        executor.spawn(async move {
            let mut held = mutex.lock().await;
            *held += 1;
            log.push(name);
            Stepped::sleep(Duration::from_millis(1)).await;
        });
    }
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(log.take(), ["a"]);
    executor.block_on(async {
        let held = mutex.lock().await;
        assert_eq!(*held, 3);
    });
    assert_eq!(log.take(), ["b", "c"]);
}
