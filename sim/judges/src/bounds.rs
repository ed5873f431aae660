//! Queues are bounded: the log in memory, and the proposals under way.

use std::time::Duration;

use super::Failure;

/// What is under way in one member.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes of the log entries in memory.
    pub log_bytes: usize,
    /// Proposals, reads and questions that wait.
    pub waiting: usize,
}

/// What may be under way at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    log_bytes_max: usize,
    waiting_max: usize,
}

impl Bounds {
    /// For a member that keeps so many entries in memory, and so many clients with one request each.
    pub fn new(snapshot_entries: u64, catch_up_entries: u64, clients: u64) -> Self {
        // A snapshot is taken and the log cut a while after it is due, and a purge goes in batches.
        let entries = 4 * (snapshot_entries + catch_up_entries) + 2 * PURGE_ENTRIES;
        Self {
            log_bytes_max: usize::try_from(entries * ENTRY_BYTES_MAX).unwrap_or(usize::MAX),
            // A member that was restarted hears of the same client again.
            waiting_max: usize::try_from(2 * clients + 2).unwrap_or(usize::MAX),
        }
    }

    /// Holds a member's load against them.
    pub fn hold(&self, load: Load) -> Result<(), Failure> {
        if load.log_bytes <= self.log_bytes_max && load.waiting <= self.waiting_max {
            return Ok(());
        }
        Err(Failure::new("bounds", format!("{load:?} exceeds {self:?}")))
    }
}

/// How often a member's alarm rang in a row within a second, without anything else having come: one that is set again and
/// again for at once keeps a whole core busy.
#[derive(Debug, Default)]
pub struct Rings {
    since: Duration,
    count: u64,
}

impl Rings {
    /// The member goes on at a time, alone or because something came.
    ///
    /// # Errors
    /// When it does nothing but go on.
    pub fn ring(&mut self, at: Duration, alone: bool) -> Result<(), Failure> {
        if alone && at < self.since + Duration::from_secs(1) {
            self.count += 1;
        } else {
            *self = Self {
                since: at,
                count: 0,
            };
        }
        match self.count > RINGS_MAX {
            true => Err(Failure::new("bounds", "an alarm rings without end")),
            false => Ok(()),
        }
    }
}

/// What waits for the reader of one stream of watches stays below its bound and one response, however slowly it reads.
pub fn waits(bytes: usize, kept: usize) -> Result<(), Failure> {
    match bytes > kept + RESPONSE_BYTES_MAX {
        true => {
            let story = format!("{bytes} bytes wait for one reader, and {kept} are to be kept");
            Err(Failure::new("bounds", story))
        }
        false => Ok(()),
    }
}

/// Far more than a member needs, which goes on with a sweep two thousand times a second.
const RINGS_MAX: u64 = 10_000;
const PURGE_ENTRIES: u64 = 256;
/// The longest value a client writes, with its key and frame.
const ENTRY_BYTES_MAX: u64 = 3400;
/// The events of one revision, with what was before: no client changes more at once.
const RESPONSE_BYTES_MAX: usize = 96 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_rings_without_end_is_heard() {
        let mut rings = Rings::default();
        let moment = Duration::from_secs(1);
        let mut ring = |at, alone, times: u64| {
            let mut rung = (0..times).map(|_| rings.ring(at, alone));
            rung.find(Result::is_err).map(|_| "bounds")
        };
        assert_eq!(ring(moment, true, RINGS_MAX), None);
        assert_eq!(ring(moment, false, 1), None);
        assert_eq!(ring(moment, true, RINGS_MAX), None);
        assert_eq!(ring(moment * 2, true, RINGS_MAX), None);
        assert_eq!(ring(moment * 2, true, 2), Some("bounds"));
    }

    #[test]
    fn a_stream_that_keeps_everything_exceeds_its_bound() {
        let verdict = |bytes| waits(bytes, 8192).map_err(|it| it.judge);
        assert_eq!(verdict(10_000), Ok(()));
        assert_eq!(verdict(1 << 20), Err("bounds"));
    }

    #[test]
    fn a_log_that_is_never_cut_exceeds_its_bound() {
        let bounds = Bounds::new(20, 5, 3);
        let load = |log_bytes, waiting| Load { log_bytes, waiting };
        let verdict = |load| bounds.hold(load).map_err(|it| it.judge);
        assert_eq!(verdict(load(1 << 20, 3)), Ok(()));
        assert_eq!(verdict(load(1 << 24, 3)), Err("bounds"));
        assert_eq!(verdict(load(0, 9)), Err("bounds"));
    }
}
