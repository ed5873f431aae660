//! A deterministic executor that the owner steps: openraft's whole runtime as a value.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::rt::{AsyncRuntime, OptionalSend};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

mod channel;
mod mutex;
mod oneshot;
mod parked;
mod permits;
mod task;
mod time;
mod wake;
mod watch;

pub use channel::{Channel, Receiver, Sender, Sending, WeakSender};
pub use mutex::{Guard, Lock, Mutex};
pub use oneshot::{Oneshot, OneshotReceiver, OneshotSender, SenderDropped};
pub use task::{JoinError, JoinHandle};
pub use time::{Elapsed, Instant, Sleep, Timeout};
pub use watch::{Watch, WatchReceiver, WatchSender};

use task::{Slot, Task, Tasks};
use time::Clock;
use wake::{QueueKey, TaskWaker};

/// Tasks, timers, a virtual clock and a seeded source of random numbers, stepped by their owner.
///
/// Nothing in here runs by itself: no thread, no real clock, no ambient randomness. The owner calls
/// [`run_until_idle`](Self::run_until_idle) after each input and then looks at
/// [`next_deadline`](Self::next_deadline) to know when to come back. The same seed and the same
/// calls give the same run.
///
/// # The current executor
///
/// openraft reaches its runtime through static functions ([`Stepped`]), so an executor must be
/// *entered* for them to find it. Every step enters by itself; an owner who calls openraft from
/// outside a task does so within [`enter`](Self::enter). Several executors live on one thread side by
/// side; a task woken from within another executor is queued on its own.
///
/// # Order
///
/// - Ready tasks run first in, first out; a task waits in the queue at most once.
/// - A step first sets the clock, then wakes all due sleepers by deadline, those of one deadline in
///   the order they went to sleep, then runs tasks until none is ready. The clock stands still
///   meanwhile: a sleeper whose deadline has long passed wakes at the time that is, not at the one
///   it asked for.
///
/// # Panics
///
/// A panic in a task is a bug and is not swallowed: it passes through the step to the owner. The
/// task is gone afterwards, whoever awaits it gets [`JoinError::Panicked`], and the executor stays
/// consistent.
///
/// Dropping the executor drops all its tasks in the order of their slots. Wakers must not leave the
/// thread: waking from another one panics, so that no wake-up gets lost silently.
pub struct Executor {
    inner: Rc<Inner>,
}

impl Executor {
    /// An executor without tasks whose clock shows `now`, measured since an epoch of the owner's choice.
    pub fn new(seed: u64, now: Duration) -> Self {
        let inner = Inner {
            queue: QueueKey::register(),
            tasks: RefCell::new(Tasks::new()),
            closed: Cell::new(false),
            clock: Rc::new(Clock::new(Instant::since_epoch(now))),
            rng: RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)),
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Makes this the current executor of the thread while `f` runs, and restores the one before, also on a panic.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = Entered::new(&self.inner);
        f()
    }

    /// Queues a new task; it is first polled in the next step.
    ///
    /// Dropping the handle lets the task run on unobserved.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.inner.spawn(future)
    }

    /// Sets the clock to `now`, wakes due sleepers and runs tasks until none is ready; returns how many polls it took.
    ///
    /// # Panics
    ///
    /// When `now` lies before the current time; when the tasks keep each other busy for more than
    /// [`POLLS_PER_STEP_MAX`] polls; and with whatever a task panics with.
    pub fn run_until_idle(&mut self, now: Duration) -> u64 {
        let _entered = Entered::new(&self.inner);
        self.inner.clock.advance(Instant::since_epoch(now));
        let mut polls = 0;
        while let Some(task) = self.inner.queue.pop() {
            // A former `block_on` may have left its own wake-up behind.
            if task != wake::ROOT {
                self.inner.poll_task(task);
                count_poll(&mut polls);
            }
        }
        polls
    }

    /// The current virtual time.
    pub fn now(&self) -> Instant {
        self.inner.clock.now()
    }

    /// When the next sleeper wants to wake, if any sleeps.
    ///
    /// Meaningful after a step, and always later than [`now`](Self::now) then.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.inner.clock.next_deadline()
    }

    /// Whether no task is waiting to be polled.
    pub fn is_idle(&self) -> bool {
        self.inner.queue.is_empty()
    }

    /// How many tasks have not finished.
    pub fn task_count(&self) -> usize {
        self.inner.tasks.borrow().len()
    }

    /// How many sleepers are registered.
    pub fn timer_count(&self) -> usize {
        self.inner.clock.timer_count()
    }

    /// Runs `future` and all tasks until it completes, jumping to the next deadline whenever nothing is ready.
    ///
    /// # Panics
    ///
    /// When nothing is ready, nobody sleeps and `future` is not complete (a deadlock); when the clock
    /// had to jump more than [`JUMPS_PER_BLOCK_ON_MAX`] times; and as
    /// [`run_until_idle`](Self::run_until_idle).
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let _entered = Entered::new(&self.inner);
        let mut future = pin!(future);
        let root = TaskWaker::queued(&self.inner.queue, wake::ROOT);
        let waker = root.waker();
        let mut jumps: u64 = 0;
        loop {
            let mut polls = 0;
            while let Some(task) = self.inner.queue.pop() {
                count_poll(&mut polls);
                if task != wake::ROOT {
                    self.inner.poll_task(task);
                    continue;
                }
                root.unqueue();
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    root.retire();
                    return output;
                }
            }
            let Some(deadline) = self.next_deadline() else {
                panic!(
                    "deadlock: the future given to block_on waits, {} tasks wait, nothing is ready and nobody sleeps",
                    self.task_count()
                );
            };
            jumps += 1;
            assert!(
                jumps <= JUMPS_PER_BLOCK_ON_MAX,
                "the future given to block_on is not complete after {jumps} jumps of the clock, at {deadline:?}"
            );
            self.inner.clock.advance(deadline);
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("now", &self.now())
            .field("tasks", &self.task_count())
            .field("timers", &self.timer_count())
            .finish_non_exhaustive()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Destructors may spawn, sleep and send: they find this executor, which takes no new tasks.
        let _entered = Entered::new(&self.inner);
        self.inner.closed.set(true);
        let tasks = self.inner.tasks.take();
        drop(tasks);
        self.inner.queue.unregister();
    }
}

/// openraft's [`AsyncRuntime`] on the current [`Executor`] of the thread.
///
/// The static functions panic when no executor is entered. As a value it owns an executor with seed
/// 0 whose clock starts at zero; that is how openraft's own suites run.
#[derive(Debug)]
pub struct Stepped {
    executor: Executor,
}

impl AsyncRuntime for Stepped {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Xoshiro256PlusPlus;
    type Mpsc = Channel;
    type Watch = Watch;
    type Oneshot = Oneshot;
    type Mutex<T: OptionalSend + 'static> = Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        // Outside the borrow: an executor being dropped drops the future at once.
        let current = with_current(Rc::clone);
        current.spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        with_current(|current| Sleep::new(&current.clock, current.clock.now() + duration))
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        with_current(|current| Sleep::new(&current.clock, deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(future, Self::sleep(duration))
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Instant,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(future, Self::sleep_until(deadline))
    }

    fn is_panic(join_error: &JoinError) -> bool {
        *join_error == JoinError::Panicked
    }

    /// A generator of its own, seeded with the executor's next random number.
    fn thread_rng() -> Xoshiro256PlusPlus {
        with_current(|current| {
            Xoshiro256PlusPlus::seed_from_u64(current.rng.borrow_mut().next_u64())
        })
    }

    /// An executor of its own; there are no threads, so their number is ignored.
    fn new(_threads: usize) -> Self {
        Self {
            executor: Executor::new(0, Duration::ZERO),
        }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.executor.block_on(future)
    }

    /// Calls `f` at once, in place: the core has no thread to give it to.
    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        std::future::ready(Ok(f()))
    }
}

/// What an executor is made of, shared with the thread's notion of the current one.
struct Inner {
    queue: QueueKey,
    tasks: RefCell<Tasks>,
    /// Set when the executor is being dropped: what is spawned from then on is cancelled at once.
    closed: Cell<bool>,
    clock: Rc<Clock>,
    rng: RefCell<Xoshiro256PlusPlus>,
}

impl Inner {
    fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (body, handle) = task::joinable(future);
        if !self.closed.get() {
            self.insert(Box::pin(body));
        }
        handle
    }

    fn insert(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let index = u32::try_from(entry.key()).expect("an executor never holds four billion tasks");
        assert_ne!(
            index,
            wake::ROOT,
            "an executor never holds four billion tasks"
        );
        let flag = TaskWaker::queued(&self.queue, index);
        let waker: Waker = flag.waker();
        entry.insert(Slot::Waiting(Task {
            future,
            waker,
            flag,
        }));
    }

    fn poll_task(&self, index: u32) {
        let Some(mut polling) = task::Polling::start(&self.tasks, index) else {
            return;
        };
        if polling.poll().is_pending() {
            polling.wait_again();
        }
        // Dropping `polling` frees the slot unless the task waits again: on completion and on a panic alike.
    }
}

/// Keeps an executor current; dropping it restores the one before.
struct Entered {
    previous: Option<Rc<Inner>>,
}

impl Entered {
    fn new(inner: &Rc<Inner>) -> Self {
        Self {
            previous: CURRENT.replace(Some(Rc::clone(inner))),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.previous.take());
    }
}

/// Hands the current executor to `f`, which must not run code of a caller's making.
fn with_current<R>(f: impl FnOnce(&Rc<Inner>) -> R) -> R {
    CURRENT.with_borrow(|current| {
        let inner = current
            .as_ref()
            .expect("an executor is entered on this thread before its runtime is used");
        f(inner)
    })
}

fn count_poll(polls: &mut u64) {
    *polls += 1;
    assert!(
        *polls <= POLLS_PER_STEP_MAX,
        "livelock: {POLLS_PER_STEP_MAX} polls in one step and tasks are still ready"
    );
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

/// Polls in one step after which tasks that keep waking each other count as a livelock.
pub const POLLS_PER_STEP_MAX: u64 = 10_000_000;

/// Jumps of the clock in one [`Executor::block_on`] after which its future counts as never completing.
pub const JUMPS_PER_BLOCK_ON_MAX: u64 = 10_000_000;

#[cfg(test)]
mod tests;
