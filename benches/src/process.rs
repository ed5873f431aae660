//! What a process has used: its processor time and memory as the kernel counts them, and how to end it.

use std::io;
use std::iter::Sum;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::time::ClockId;

/// Consumption of a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of all its threads, in steps of the kernel's tick, commonly 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory, bytes.
    pub(crate) rss_bytes: u64,
    /// The part of it that is not backed by files, bytes.
    pub(crate) anonymous_bytes: u64,
    /// The most resident memory there ever was, bytes.
    pub(crate) rss_peak_bytes: u64,
}

impl Sum for Usage {
    /// What several processes have used together; the peak is the sum of their peaks, whenever each had its own.
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |sum, usage| Self {
            cpu: sum.cpu + usage.cpu,
            rss_bytes: sum.rss_bytes + usage.rss_bytes,
            anonymous_bytes: sum.anonymous_bytes + usage.anonymous_bytes,
            rss_peak_bytes: sum.rss_peak_bytes + usage.rss_peak_bytes,
        })
    }
}

/// Reads the consumption of the process `pid`.
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}: not as expected"),
        )
    };
    let ticks = cpu_ticks(&stat).ok_or_else(malformed)?;
    Ok(Usage {
        cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()),
        rss_bytes: memory_bytes(&status, "VmRSS:").ok_or_else(malformed)?,
        anonymous_bytes: memory_bytes(&status, "RssAnon:").ok_or_else(malformed)?,
        rss_peak_bytes: memory_bytes(&status, "VmHWM:").ok_or_else(malformed)?,
    })
}

/// Processor time of the calling thread, exactly.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("processor time is not negative")
}

/// While it lives, the thread that made it waits its turn instead of taking the processor from whoever runs when
/// an answer arrives.
///
/// Where server and load generator share processors, this keeps the load from interrupting the work it measures,
/// and lets answers come in groups. A server must not be started meanwhile: it would inherit the policy.
pub(crate) struct Yielding(());

impl Yielding {
    pub(crate) fn begin() -> io::Result<Self> {
        schedule_as(libc::SCHED_BATCH)?;
        Ok(Self(()))
    }
}

impl Drop for Yielding {
    fn drop(&mut self) {
        schedule_as(libc::SCHED_OTHER).expect("a thread may always return to the default policy");
    }
}

fn schedule_as(policy: i32) -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter is a whole structure that outlives the call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks the process to end, or with `force` ends it.
pub(crate) fn end(pid: u32, force: bool) -> io::Result<()> {
    let signal = if force { Signal::KILL } else { Signal::TERM };
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process has a positive number");
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// User plus system ticks. The name before them is in parentheses and may itself hold spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

fn memory_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim();
    Some(kibibytes.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::{Yielding, cpu_ticks, memory_bytes, own_cpu, usage};

    #[test]
    fn processor_ticks_are_found_behind_a_name_with_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 5 0 0 0 70 30 0 0 20 0 1 0 99 1000 10";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(memory_bytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(memory_bytes(status, "RssAnon:"), None);
    }

    #[test]
    fn this_process_uses_memory_and_its_peak_is_no_less() {
        let usage = usage(std::process::id()).expect("this process is there");
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes);
        assert!(usage.anonymous_bytes < usage.rss_bytes);
    }

    #[test]
    fn yielding_ends_with_its_guard() {
        let policy = || {
            let stat =
                std::fs::read_to_string("/proc/thread-self/stat").expect("this thread is there");
            let after_name = stat.rsplit_once(')').expect("a stat has a name").1;
            after_name
                .split_whitespace()
                .nth(38)
                .expect("a stat has a policy")
                .parse::<i32>()
        };
        let yielding = Yielding::begin().expect("a thread may always ask for less");
        assert_eq!(policy(), Ok(libc::SCHED_BATCH));
        drop(yielding);
        assert_eq!(policy(), Ok(libc::SCHED_OTHER));
    }

    #[test]
    fn own_processor_time_grows_with_work() {
        let before = own_cpu();
        let mut random = crate::random::Random::new(1);
        let sum = (0..1_000_000).fold(0, |sum: u64, _| sum.wrapping_add(random.next()));
        assert!(own_cpu() > before, "the work was not for nothing: {sum}");
    }
}
