//! Queues are bounded: the log in memory, and the proposals under way.

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

const PURGE_ENTRIES: u64 = 256;
/// The longest value a client writes, with its key and frame.
const ENTRY_BYTES_MAX: u64 = 3400;

#[cfg(test)]
mod tests {
    use super::*;

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
