//! The trace: what happened, each line with its ordinal and its virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::time::Duration;

use madsim::time::TimeHandle;

/// All lines go out in full mode; the last of those that make a story are kept in any case.
pub(crate) struct Trace(RefCell<Inner>);

struct Inner {
    out: Option<BufWriter<Stdout>>,
    ordinal: u64,
    last: VecDeque<String>,
}

impl Trace {
    /// A trace that is printed in full, or only remembered.
    pub(crate) fn new(full: bool) -> Self {
        Self(RefCell::new(Inner {
            out: full.then(|| BufWriter::new(io::stdout())),
            ordinal: 0,
            last: VecDeque::new(),
        }))
    }

    /// Notes one event that belongs in a story and answers its ordinal.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) -> u64 {
        let ordinal = self.count();
        let mut inner = self.0.borrow_mut();
        let line = line(ordinal, event);
        if let Some(out) = &mut inner.out {
            writeln!(out, "{line}").expect("standard output takes the trace");
        }
        if inner.last.len() == STORY_LINES {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
        ordinal
    }

    /// Notes one of the many events that only the full trace shows, and answers its ordinal. Putting every letter into
    /// words would take longer than to send it.
    pub(crate) fn detail(&self, event: fmt::Arguments<'_>) -> u64 {
        let ordinal = self.count();
        if let Some(out) = &mut self.0.borrow_mut().out {
            let line = line(ordinal, event);
            writeln!(out, "{line}").expect("standard output takes the trace");
        }
        ordinal
    }

    fn count(&self) -> u64 {
        let mut inner = self.0.borrow_mut();
        inner.ordinal += 1;
        inner.ordinal
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.0.borrow().ordinal
    }

    /// The last events that make a story, oldest first.
    pub(crate) fn story(&self) -> Vec<String> {
        self.0.borrow().last.iter().cloned().collect()
    }

    /// Writes out what is still buffered.
    pub(crate) fn flush(&self) {
        if let Some(out) = &mut self.0.borrow_mut().out {
            out.flush().expect("standard output takes the trace");
        }
    }
}

fn line(ordinal: u64, event: fmt::Arguments<'_>) -> String {
    format!("#{ordinal:06} t={:.6}s {event}", now().as_secs_f64())
}

thread_local! {
    /// The clock of the run on this thread. To ask the runtime for it at each look took a twentieth of a run.
    static CLOCK: RefCell<Option<TimeHandle>> = const { RefCell::new(None) };
}

/// Has [`now`] tell the time of the present runtime on this thread.
pub(crate) fn follow_clock() {
    CLOCK.set(TimeHandle::try_current());
}

/// The virtual time since the beginning of the run; none has passed where there is no run.
pub(crate) fn now() -> Duration {
    CLOCK.with_borrow(|clock| clock.as_ref().map_or(Duration::ZERO, TimeHandle::elapsed))
}

const STORY_LINES: usize = 14;
