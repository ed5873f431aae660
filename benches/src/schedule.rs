//! When the next request is due: at once while there is a free client, or at fixed times.

use std::time::{Duration, Instant};

/// The times of the requests of one run.
///
/// With a rate, request `i` is due at `start + i / rate` whether or not earlier ones have been answered, and its
/// latency counts from then: a server that stalls is charged for every request that had to wait.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start: Instant,
    rate: Option<f64>,
    until: Until,
    issued: u64,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Until {
    /// After this many requests.
    Total(u64),
    /// With the last request due before this time has passed.
    Elapsed(Duration),
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send the next request; its latency counts from this time.
    Now(Instant),
    /// Nothing is due before this time.
    At(Instant),
    /// No request is left to send.
    Over,
}

impl Schedule {
    /// A schedule that begins at `start`; `rate` in requests per second, above zero.
    pub(crate) fn new(start: Instant, rate: Option<f64>, until: Until) -> Self {
        assert!(
            rate.is_none_or(|rate| rate.is_finite() && rate > 0.0),
            "a rate is above zero"
        );
        Self {
            start,
            rate,
            until,
            issued: 0,
        }
    }

    /// What is due at `now`.
    pub(crate) fn due(&self, now: Instant) -> Due {
        match self.until {
            Until::Total(total) if self.issued >= total => return Due::Over,
            Until::Elapsed(limit) if now >= self.start + limit => return Due::Over,
            _ => {}
        }
        let intended = self.intended(self.issued).unwrap_or(now);
        match self.until {
            Until::Elapsed(limit) if intended >= self.start + limit => Due::Over,
            _ if intended <= now => Due::Now(intended),
            _ => Due::At(intended),
        }
    }

    /// Tells that the request that was due has been sent.
    pub(crate) fn issue(&mut self) {
        self.issued += 1;
    }

    /// Ends the run at `now`, if it has not ended before.
    pub(crate) fn close(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start);
        self.until = match self.until {
            Until::Elapsed(limit) if limit <= elapsed => return,
            Until::Total(total) if total <= self.issued => return,
            _ => Until::Elapsed(elapsed),
        };
    }

    /// The times of requests that were due before the end of the run but found no free client until then.
    ///
    /// Empty but for a rate that the server did not keep up with.
    pub(crate) fn missed(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let end = match self.until {
            Until::Total(_) => self.start,
            Until::Elapsed(limit) => (self.start + limit).min(now),
        };
        (self.issued..)
            .map_while(|request| self.intended(request))
            .take_while(move |intended| *intended < end)
    }

    fn intended(&self, request: u64) -> Option<Instant> {
        #[allow(clippy::cast_precision_loss)]
        self.rate
            .map(|rate| self.start + Duration::from_secs_f64(request as f64 / rate))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Due, Schedule, Until};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_rate_requests_are_due_at_once_until_the_total() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, None, Until::Total(2));
        for now in [start, start + MS] {
            assert_eq!(schedule.due(now), Due::Now(now));
            schedule.issue();
        }
        assert_eq!(schedule.due(start + MS), Due::Over);
    }

    #[test]
    fn without_a_rate_nothing_is_due_after_the_time_is_over() {
        let start = Instant::now();
        let schedule = Schedule::new(start, None, Until::Elapsed(10 * MS));
        assert_eq!(schedule.due(start + 9 * MS), Due::Now(start + 9 * MS));
        assert_eq!(schedule.due(start + 10 * MS), Due::Over);
        assert_eq!(schedule.missed(start + 10 * MS).count(), 0);
    }

    #[test]
    fn a_rate_spreads_requests_evenly() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Some(500.0), Until::Total(3));
        assert_eq!(schedule.due(start), Due::Now(start));
        schedule.issue();
        assert_eq!(schedule.due(start), Due::At(start + 2 * MS));
        assert_eq!(schedule.due(start + 2 * MS), Due::Now(start + 2 * MS));
    }

    #[test]
    fn a_late_request_counts_from_the_time_it_was_due() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Some(1000.0), Until::Total(100));
        for request in 0..50 {
            assert_eq!(
                schedule.due(start + 50 * MS),
                Due::Now(start + request * MS)
            );
            schedule.issue();
        }
        assert_eq!(schedule.due(start + 49 * MS), Due::At(start + 50 * MS));
    }

    #[test]
    fn requests_due_but_never_sent_are_missed_not_forgotten() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Some(1000.0), Until::Elapsed(10 * MS));
        (0..4).for_each(|_| schedule.issue());
        assert_eq!(schedule.due(start + 20 * MS), Due::Over);
        let missed: Vec<Instant> = schedule.missed(start + 20 * MS).collect();
        assert_eq!(
            missed,
            (4..10)
                .map(|request| start + request * MS)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_closed_schedule_is_over_and_misses_what_was_due_before() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Some(1000.0), Until::Elapsed(100 * MS));
        schedule.issue();
        schedule.close(start + 3 * MS);
        // A run ends once.
        schedule.close(start + 50 * MS);
        assert_eq!(schedule.due(start + 50 * MS), Due::Over);
        assert_eq!(schedule.missed(start + 50 * MS).count(), 2);
    }

    #[test]
    fn a_rate_ends_with_the_last_request_due_in_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, Some(1000.0), Until::Elapsed(2 * MS));
        (0..2).for_each(|_| schedule.issue());
        assert_eq!(schedule.due(start + MS), Due::Over);
    }
}
