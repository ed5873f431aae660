//! Virtual time: instants, the clock with its sleepers, and futures that wait for a deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;

/// A point in an executor's virtual time, in nanoseconds.
///
/// It reaches 292 years to either side of the epoch; arithmetic stops at the ends, so a deadline
/// that far away never comes. Instants before the epoch exist because openraft subtracts lease
/// lengths from the current time, also when the clock has only just started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(i64);

impl Instant {
    /// The instant `elapsed` after the epoch.
    pub fn since_epoch(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// How long after the epoch this is; zero before it.
    pub fn to_epoch(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl openraft::rt::Instant for Instant {
    /// The time of the current executor; panics when none is entered.
    fn now() -> Self {
        super::with_current(|current| current.clock.now())
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to this instant; zero when `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        if self > earlier {
            Duration::from_nanos(self.0.abs_diff(earlier.0))
        } else {
            Duration::ZERO
        }
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(
            f,
            "t={sign}{:?}",
            Duration::from_nanos(self.0.unsigned_abs())
        )
    }
}

/// Completes when its executor's clock has reached a deadline; at once when it has passed.
///
/// It registers with the clock when first polled and leaves it when dropped.
pub struct Sleep {
    deadline: Instant,
    clock: Rc<Clock>,
    registered: Option<u64>,
}

impl Sleep {
    pub(super) fn new(clock: &Rc<Clock>, deadline: Instant) -> Self {
        Self {
            deadline,
            clock: Rc::clone(clock),
            registered: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.deadline {
            return Poll::Ready(());
        }
        match self.registered {
            Some(order) => self.clock.update((self.deadline, order), cx.waker()),
            None => self.registered = Some(self.clock.register(self.deadline, cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(order) = self.registered {
            self.clock.cancel((self.deadline, order));
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// A future and the time it has; the future is asked first, so one that is ready at the deadline wins.
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    pub(super) fn new(future: F, sleep: Sleep) -> Self {
        Self { future, sleep }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed))
    }
}

/// The deadline of a [`Timeout`] came before its future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

/// The virtual time of one executor and everybody who waits for a later one.
///
/// Sleepers are ordered by deadline, then by the order they registered in. Whoever stops waiting is
/// taken out at once, so their number is that of the sleeps alive.
pub(super) struct Clock {
    now: Cell<Instant>,
    sleepers: RefCell<BTreeMap<TimerKey, Waker>>,
    order_next: Cell<u64>,
}

type TimerKey = (Instant, u64);

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now: Cell::new(now),
            sleepers: RefCell::default(),
            order_next: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.sleepers
            .borrow()
            .first_key_value()
            .map(|((deadline, _), _)| *deadline)
    }

    pub(super) fn timer_count(&self) -> usize {
        self.sleepers.borrow().len()
    }

    /// Sets the time, then wakes in order those whose deadline has come.
    pub(super) fn advance(&self, now: Instant) {
        let before = self.now.replace(now);
        assert!(
            before <= now,
            "time never goes backwards: from {before:?} to {now:?}"
        );
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Waker> {
        let mut sleepers = self.sleepers.borrow_mut();
        let first = sleepers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn register(&self, deadline: Instant, waker: &Waker) -> u64 {
        let order = self.order_next.get();
        self.order_next.set(order + 1);
        self.sleepers
            .borrow_mut()
            .insert((deadline, order), waker.clone());
        order
    }

    fn update(&self, key: TimerKey, waker: &Waker) {
        let mut sleepers = self.sleepers.borrow_mut();
        let kept = sleepers
            .get_mut(&key)
            .expect("a sleeper before its deadline is registered");
        kept.clone_from(waker);
    }

    /// Forgets a sleeper, who may have been woken already.
    fn cancel(&self, key: TimerKey) {
        let waker = self.sleepers.borrow_mut().remove(&key);
        drop(waker);
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
