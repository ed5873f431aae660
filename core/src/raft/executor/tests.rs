//! What the executor promises: order, time, isolation, and that nothing outlives it.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use openraft::rt::testing::{DetsimSuite, Suite};
use openraft::rt::{
    AsyncRuntime, Instant as _, Mpsc as _, MpscReceiver as _, Oneshot as _, OneshotSender as _,
};
use rand::Rng;

use super::*;

mod channels;
mod cost;

#[test]
fn openrafts_runtime_suite_passes() {
    Suite::<Stepped>::test_all();
}

#[test]
fn openrafts_determinism_suite_passes() {
    DetsimSuite::<Stepped>::test_all();
}

#[test]
fn openrafts_runtime_suite_takes_no_real_time() {
    let mut runtime = Stepped::new(1);
    Suite::<Stepped>::test_all_on(&mut runtime);
    let virtual_time = runtime.executor.now().to_epoch();
    assert!(
        virtual_time >= Duration::from_millis(200),
        "the suite's sleeps passed on the virtual clock"
    );
}

#[test]
fn ready_tasks_run_first_in_first_out() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let log = Log::default();
    for name in ["a", "b", "c"] {
        let log = log.clone();
        executor.spawn(async move {
            log.push(name);
            yield_now().await;
            log.push(name);
        });
    }
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(log.take(), ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn a_task_woken_often_is_polled_once() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let polls = Rc::new(Cell::new(0));
    let waker = Rc::new(Cell::new(Waker::noop().clone()));
    let (counted, kept) = (Rc::clone(&polls), Rc::clone(&waker));
    executor.spawn(poll_fn(move |cx| {
        counted.set(counted.get() + 1);
        kept.set(cx.waker().clone());
        Poll::<()>::Pending
    }));
    executor.run_until_idle(Duration::ZERO);
    let waker = waker.replace(Waker::noop().clone());
    for _ in 0..5 {
        waker.wake_by_ref();
    }
    assert_eq!(executor.run_until_idle(Duration::ZERO), 1);
    assert_eq!(polls.get(), 2);
}

#[test]
fn timers_fire_by_deadline_not_by_registration() {
    let mut executor = Executor::new(1, Duration::from_secs(5));
    let log = Log::default();
    for (name, delay_ms) in [("late", 30), ("early", 10), ("middle", 20)] {
        let log = log.clone();
        executor.spawn(async move {
            Stepped::sleep(Duration::from_millis(delay_ms)).await;
            log.push(name);
        });
    }
    executor.run_until_idle(Duration::from_secs(5));
    assert_eq!(
        executor.next_deadline(),
        Some(Instant::since_epoch(Duration::from_millis(5010)))
    );
    executor.run_until_idle(Duration::from_millis(5009));
    assert!(log.take().is_empty(), "no timer fires before its deadline");
    executor.run_until_idle(Duration::from_millis(5010));
    assert_eq!(log.take(), ["early"]);
    executor.run_until_idle(Duration::from_secs(6));
    assert_eq!(log.take(), ["middle", "late"]);
    assert_eq!(executor.next_deadline(), None);
}

#[test]
fn equal_deadlines_fire_in_registration_order() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let log = Log::default();
    for name in ["a", "b", "c"] {
        let log = log.clone();
        executor.spawn(async move {
            Stepped::sleep_until(Instant::since_epoch(Duration::from_millis(10))).await;
            log.push(name);
        });
    }
    executor.run_until_idle(Duration::ZERO);
    executor.run_until_idle(Duration::from_millis(10));
    assert_eq!(log.take(), ["a", "b", "c"]);
}

#[test]
fn a_late_sleeper_wakes_at_the_time_that_is() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let woken = executor.spawn(async {
        Stepped::sleep(Duration::from_millis(10)).await;
        Instant::now()
    });
    executor.run_until_idle(Duration::ZERO);
    executor.run_until_idle(Duration::from_secs(3));
    assert_eq!(
        woken.now_or_never(),
        Some(Ok(Instant::since_epoch(Duration::from_secs(3))))
    );
}

#[test]
#[should_panic(expected = "time never goes backwards")]
fn time_never_goes_backwards() {
    let mut executor = Executor::new(1, Duration::from_secs(2));
    executor.run_until_idle(Duration::from_secs(1));
}

#[test]
fn an_instant_before_the_epoch_is_no_error() {
    let start = Instant::since_epoch(Duration::ZERO);
    let before = start - Duration::from_secs(1);
    assert!(before < start);
    assert_eq!(start - before, Duration::from_secs(1));
    assert_eq!(before - start, Duration::ZERO);
    assert_eq!(format!("{before:?}"), "t=-1s");
    assert_eq!(start + Duration::MAX, start + Duration::MAX + Duration::MAX);
}

#[test]
fn cancelled_sleeps_are_freed() {
    let mut executor = Executor::new(1, Duration::ZERO);
    executor.spawn(async {
        for _ in 0..10_000 {
            let late = Stepped::sleep(Duration::from_secs(3600));
            assert_eq!(Stepped::timeout(Duration::ZERO, late).await, Err(Elapsed));
        }
        pending::<()>().await;
    });
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(executor.timer_count(), 0);
    assert_eq!(executor.next_deadline(), None);
}

#[test]
fn a_future_ready_at_the_deadline_is_not_timed_out() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let at = Duration::from_millis(10);
    let timed = executor.block_on(async { Stepped::timeout(at, Stepped::sleep(at)).await });
    assert_eq!(timed, Ok(()));
}

#[test]
fn two_executors_in_one_thread_do_not_mix() {
    let mut first = Executor::new(1, Duration::from_secs(1));
    let mut second = Executor::new(2, Duration::from_secs(2));
    first.enter(|| {
        assert_eq!(Instant::now(), first.now());
        second.enter(|| {
            assert_eq!(Instant::now(), second.now());
            Stepped::spawn(async {});
        });
        assert_eq!(
            Instant::now(),
            first.now(),
            "leaving the inner executor restores the outer"
        );
    });
    assert_eq!((first.task_count(), second.task_count()), (0, 1));

    let (tx, rx) = Oneshot::channel();
    let received = first.spawn(rx);
    first.run_until_idle(Duration::from_secs(1));
    second.spawn(async move { tx.send("from the second").unwrap() });
    second.run_until_idle(Duration::from_secs(2));
    assert!(
        second.is_idle() && !first.is_idle(),
        "the receiver is queued where it lives"
    );
    first.run_until_idle(Duration::from_secs(1));
    assert_eq!(received.now_or_never(), Some(Ok(Ok("from the second"))));
}

#[test]
fn a_panic_leaves_the_executor_it_entered() {
    let outer = Executor::new(1, Duration::from_secs(1));
    let inner = Executor::new(2, Duration::from_secs(2));
    outer.enter(|| {
        let caught = catch_unwind(AssertUnwindSafe(|| inner.enter(|| panic!("on purpose"))));
        assert!(caught.is_err());
        assert_eq!(Instant::now(), outer.now());
    });
}

#[test]
#[should_panic(expected = "an executor is entered on this thread before its runtime is used")]
fn the_runtime_without_an_executor_is_a_named_panic() {
    let _ = Instant::now();
}

#[test]
fn the_same_seed_gives_the_same_random_numbers() {
    let draw = |seed| {
        let executor = Executor::new(seed, Duration::ZERO);
        executor.enter(|| {
            [
                Stepped::thread_rng().next_u64(),
                Stepped::thread_rng().next_u64(),
            ]
        })
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert_ne!(
        draw(7)[0],
        draw(7)[1],
        "two generators of one executor differ"
    );
    assert_eq!(
        draw(0),
        [FIRST_OF_SEED_0, SECOND_OF_SEED_0],
        "numbers are the same on every platform and in every build"
    );
}

#[test]
fn dropping_the_executor_drops_every_task() {
    let alive = Rc::new(());
    let mut executor = Executor::new(1, Duration::ZERO);
    let sleeping = Rc::clone(&alive);
    let handle = executor.spawn(async move {
        Stepped::sleep(Duration::from_secs(1)).await;
        drop(sleeping);
    });
    let (tx, mut rx) = Channel::channel(1);
    let receiving = Rc::clone(&alive);
    executor.spawn(async move {
        // Holds its own sender, so that it would wait for ever.
        let _tx = tx;
        let _: Option<()> = rx.recv().await;
        drop(receiving);
    });
    executor.run_until_idle(Duration::ZERO);
    let unpolled = Rc::clone(&alive);
    executor.spawn(async move { drop(unpolled) });
    assert_eq!(Rc::strong_count(&alive), 4);
    drop(executor);
    assert_eq!(Rc::strong_count(&alive), 1);
    assert_eq!(handle.now_or_never(), Some(Err(JoinError::Cancelled)));
}

#[test]
fn what_a_destructor_spawns_while_the_executor_is_dropped_is_cancelled() {
    struct SpawnOnDrop(Rc<RefCell<Option<JoinHandle<()>>>>);
    impl Drop for SpawnOnDrop {
        fn drop(&mut self) {
            *self.0.borrow_mut() = Some(Stepped::spawn(async {}));
        }
    }
    let executor = Executor::new(1, Duration::ZERO);
    let spawned = Rc::default();
    let bomb = SpawnOnDrop(Rc::clone(&spawned));
    executor.spawn(async move {
        pending::<()>().await;
        drop(bomb);
    });
    drop(executor);
    let handle = spawned
        .take()
        .expect("the destructor ran inside the executor");
    assert_eq!(handle.now_or_never(), Some(Err(JoinError::Cancelled)));
}

#[test]
fn a_wake_up_for_a_dropped_executor_is_ignored() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let (tx, rx) = Oneshot::channel::<()>();
    let kept = Rc::new(Cell::new(None));
    let keep = Rc::clone(&kept);
    executor.spawn(poll_fn(move |cx| {
        keep.set(Some(cx.waker().clone()));
        Poll::<()>::Pending
    }));
    executor.spawn(rx);
    executor.run_until_idle(Duration::ZERO);
    drop(executor);
    let successor = Executor::new(1, Duration::ZERO);
    kept.take().expect("the task was polled").wake();
    assert_eq!(tx.send(()), Err(()));
    assert!(
        successor.is_idle(),
        "the next executor in the same slot is not disturbed"
    );
}

#[test]
fn a_task_that_wakes_itself_while_finishing_does_not_disturb_its_successor() {
    let mut executor = Executor::new(1, Duration::ZERO);
    executor.spawn(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    }));
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    executor.spawn(async move {
        // Runs after the first task finished and while its index still waits in the queue.
        Stepped::spawn(poll_fn(move |_| {
            counted.set(counted.get() + 1);
            Poll::<()>::Pending
        }));
    });
    executor.run_until_idle(Duration::ZERO);
    assert_eq!(polls.get(), 1);
    assert_eq!(executor.task_count(), 1);
}

#[test]
fn a_panic_in_a_task_reaches_the_owner_and_the_handle() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let handle = executor.spawn(async move {
        let _held = held;
        yield_now().await;
        panic!("on purpose");
    });
    let after = executor.spawn(async { "still runs" });
    let step = catch_unwind(AssertUnwindSafe(|| {
        executor.run_until_idle(Duration::ZERO);
    }));
    assert!(step.is_err(), "a bug is not swallowed");
    assert_eq!(Rc::strong_count(&alive), 1);
    executor.run_until_idle(Duration::ZERO);
    let error = handle
        .now_or_never()
        .expect("the task ended")
        .map(|never: ()| never)
        .unwrap_err();
    assert!(Stepped::is_panic(&error));
    assert_eq!(after.now_or_never(), Some(Ok("still runs")));
    assert_eq!(executor.task_count(), 0);
}

#[test]
fn a_task_woken_from_another_thread_is_a_panic() {
    let mut executor = Executor::new(1, Duration::ZERO);
    let kept = Rc::new(Cell::new(None));
    let keep = Rc::clone(&kept);
    executor.spawn(poll_fn(move |cx| {
        keep.set(Some(cx.waker().clone()));
        Poll::<()>::Pending
    }));
    executor.run_until_idle(Duration::ZERO);
    let waker = kept.take().expect("the task was polled");
    let woken = std::thread::scope(|scope| scope.spawn(move || waker.wake()).join());
    assert!(woken.is_err());
    assert!(executor.is_idle());
}

#[test]
#[should_panic(expected = "livelock: 10000000 polls in one step")]
fn a_livelock_is_a_named_panic() {
    let mut executor = Executor::new(1, Duration::ZERO);
    executor.spawn(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    executor.run_until_idle(Duration::ZERO);
}

#[test]
#[should_panic(expected = "deadlock: the future given to block_on waits, 1 tasks wait")]
fn a_deadlock_in_block_on_is_a_named_panic() {
    let mut executor = Executor::new(1, Duration::ZERO);
    executor.spawn(pending::<()>());
    executor.block_on(pending::<()>());
}

#[test]
fn block_on_jumps_from_deadline_to_deadline() {
    let mut executor = Executor::new(1, Duration::ZERO);
    executor.block_on(async { Stepped::sleep(Duration::from_secs(86_400)).await });
    assert_eq!(executor.now().to_epoch(), Duration::from_secs(86_400));
}

#[test]
fn blocking_work_runs_in_place() {
    let here = std::thread::current().id();
    let ran_on = Stepped::spawn_blocking(|| std::thread::current().id());
    assert_eq!(
        ran_on.now_or_never().expect("it is done already").unwrap(),
        here
    );
}

/// Notes in the order tasks make them.
struct Log<T>(Rc<RefCell<Vec<T>>>);

impl<T> Log<T> {
    fn push(&self, note: T) {
        self.0.borrow_mut().push(note);
    }

    fn take(&self) -> Vec<T> {
        self.0.take()
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const FIRST_OF_SEED_0: u64 = 16_521_629_639_822_800_165;
const SECOND_OF_SEED_0: u64 = 14_827_925_873_436_202_750;
