//! Wake-ups: from a waker, which must be `Send`, to the ready queue of an executor, which is not.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

use slab::Slab;

/// An executor's ready queue.
///
/// Wakers are `Send` by type and can hold no `Rc`, so the queues live in a thread-local and a waker
/// names its queue by slot and serial number.
pub(super) struct QueueKey {
    address: Address,
    /// Taken off the shared queue as a whole, older than everything now in it.
    batch: RefCell<VecDeque<u32>>,
}

impl QueueKey {
    pub(super) fn register() -> Self {
        let serial = SERIAL_NEXT.fetch_add(1, Ordering::Relaxed);
        let queue = Queue {
            serial,
            tasks: VecDeque::new(),
        };
        let slot = QUEUES.with_borrow_mut(|queues| queues.insert(queue));
        let address = Address {
            slot,
            serial,
            thread: thread::current().id(),
        };
        Self {
            address,
            batch: RefCell::default(),
        }
    }

    /// Takes the task that has been ready for longest.
    pub(super) fn pop(&self) -> Option<u32> {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            QUEUES.with_borrow_mut(|queues| {
                std::mem::swap(&mut *batch, &mut queues[self.address.slot].tasks);
            });
        }
        batch.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.borrow().is_empty()
            && QUEUES.with_borrow(|queues| queues[self.address.slot].tasks.is_empty())
    }

    /// Forgets the queue; wake-ups that still come for it are ignored.
    pub(super) fn unregister(&self) {
        // Fails only while the thread ends, and then the queue is gone already.
        let _ = QUEUES.try_with(|queues| {
            let queue = queues.borrow_mut().remove(self.address.slot);
            assert_eq!(
                queue.serial, self.address.serial,
                "a queue's slot is its own until it unregisters"
            );
        });
    }
}

/// Wakes one task: puts it into its executor's ready queue unless it waits there already.
pub(super) struct TaskWaker {
    address: Address,
    task: u32,
    /// Whether the task is in the queue, or finished and beyond waking. An atomic only because wakers
    /// are `Sync` by type: all accesses come from one thread, so no ordering is asked of it.
    queued: AtomicBool,
}

impl TaskWaker {
    /// A waker for a task of `queue`, which is put into the queue right away.
    pub(super) fn queued(queue: &QueueKey, task: u32) -> Arc<Self> {
        let waker = Arc::new(Self {
            address: queue.address,
            task,
            queued: AtomicBool::new(false),
        });
        waker.wake_by_ref();
        waker
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// The task was taken from the queue: the next wake-up counts again.
    pub(super) fn unqueue(&self) {
        assert!(
            self.queued.load(Ordering::Relaxed),
            "a task that is polled was in the queue"
        );
        self.queued.store(false, Ordering::Relaxed);
    }

    /// The task is finished: no wake-up counts any more. Returns whether it is in the queue once more.
    pub(super) fn retire(&self) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        self.queued.store(true, Ordering::Relaxed);
        queued
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.load(Ordering::Relaxed) {
            self.address.push(self.task);
            self.queued.store(true, Ordering::Relaxed);
        }
    }
}

/// Which queue of which thread.
#[derive(Clone, Copy)]
struct Address {
    slot: usize,
    /// Unique in the process, so that neither a later queue in the slot nor another thread's is mistaken for this one.
    serial: u64,
    thread: ThreadId,
}

impl Address {
    fn push(&self, task: u32) {
        // Fails only while the thread ends, when nothing will run any more.
        let pushed = QUEUES.try_with(|queues| match queues.borrow_mut().get_mut(self.slot) {
            Some(queue) if queue.serial == self.serial => {
                queue.tasks.push_back(task);
                true
            }
            _ => false,
        });
        if pushed == Ok(false) {
            assert_eq!(
                thread::current().id(),
                self.thread,
                "a task is woken only on the thread of its executor"
            );
            // The executor was dropped, and the task with it.
        }
    }
}

struct Queue {
    serial: u64,
    tasks: VecDeque<u32>,
}

thread_local! {
    static QUEUES: RefCell<Slab<Queue>> = const { RefCell::new(Slab::new()) };
}

/// Identity only: no behaviour depends on the number.
static SERIAL_NEXT: AtomicU64 = AtomicU64::new(0);

/// Stands in the queue for the future given to `block_on`.
pub(super) const ROOT: u32 = u32::MAX;
