//! What a run looked like, for people and for machines.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::json;

use crate::measurement::{Figure, Measurement};
use crate::process::Usage;

/// A measurement with its name, ready to be shown.
pub(crate) struct Report<'a> {
    pub(crate) name: &'a str,
    pub(crate) measurement: &'a Measurement,
}

impl Measurement {
    /// Successful requests per second.
    pub(crate) fn throughput(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let succeeded = self.succeeded as f64;
        if self.elapsed.is_zero() {
            0.0
        } else {
            succeeded / self.elapsed.as_secs_f64()
        }
    }

    /// How many requests failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Consumption of all server processes together, before and after.
    fn server(&self) -> Option<(Usage, Usage)> {
        let sum = |place: fn(&(Usage, Usage)) -> Usage| self.servers.iter().map(place).sum();
        (!self.servers.is_empty()).then(|| (sum(|usages| usages.0), sum(|usages| usages.1)))
    }

    /// Processor time of all server processes together per successful request, µs.
    pub(crate) fn server_cpu_us(&self) -> Option<f64> {
        self.server().map(|usages| self.cpu_us(usages))
    }

    /// Processor time that a server process used, given its consumption before and after, per successful request, µs.
    pub(crate) fn cpu_us(&self, (before, after): (Usage, Usage)) -> f64 {
        self.per_request_us(after.cpu.saturating_sub(before.cpu))
    }

    /// Processor time of the load generator per successful request, µs.
    pub(crate) fn own_cpu_us(&self) -> f64 {
        self.per_request_us(self.own_cpu)
    }

    /// Mean length of a successful response message with its prefix.
    pub(crate) fn response_bytes_mean(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let bytes = self.response_bytes as f64;
        bytes / self.divisor()
    }

    fn per_request_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.divisor()
    }

    #[allow(clippy::cast_precision_loss)]
    fn divisor(&self) -> f64 {
        self.succeeded.max(1) as f64
    }
}

impl Report<'_> {
    /// The report as one line of JSON.
    pub(crate) fn json(&self) -> String {
        let run = self.measurement;
        let failures: Vec<_> = run
            .failures
            .iter()
            .map(|(failure, count)| json!({"failure": failure.to_string(), "count": count}))
            .collect();
        let us = |quantile| micros(run.latency.quantile(quantile));
        let memory = |usage: Usage| json!({"rss": usage.rss_bytes, "anonymous": usage.anonymous_bytes, "rss_peak": usage.rss_peak_bytes});
        let figures: serde_json::Map<_, _> = run
            .figures
            .iter()
            .map(|figure| {
                (
                    format!("{}, {}", figure.name, figure.unit),
                    json!(figure.value),
                )
            })
            .collect();
        json!({
            "name": self.name,
            "succeeded": run.succeeded,
            "failed": run.failed(),
            "failures": failures,
            "missed": run.missed,
            "elapsed_s": run.elapsed.as_secs_f64(),
            "per_second": run.throughput(),
            "latency_us": {
                "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p99.9": us(0.999), "max": micros(run.latency.max()),
            },
            "response_bytes_mean": run.response_bytes_mean(),
            "own_cpu_us": run.own_cpu_us(),
            "server_cpu_us": run.server_cpu_us(),
            "server_memory_bytes": run.server().map(|(before, after)| json!({
                "before": memory(before), "after": memory(after),
            })),
            "figures": figures,
        })
        .to_string()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.measurement;
        let seconds = run.elapsed.as_secs_f64();
        let each = run.counts.each;
        writeln!(
            f,
            "{}: {} {} in {seconds:.3} s, {:.0}/s",
            self.name,
            run.succeeded,
            run.counts.done,
            run.throughput()
        )?;
        let mut line = String::new();
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            write!(line, "{name} {}  ", shown(run.latency.quantile(quantile)))?;
        }
        writeln!(f, "  latency     {line}max {}", shown(run.latency.max()))?;
        writeln!(
            f,
            "  response    {:.0} bytes on average",
            run.response_bytes_mean()
        )?;
        writeln!(
            f,
            "  generator   {:.2} µs of processor per {each}",
            run.own_cpu_us()
        )?;
        if let (Some((before, after)), Some(cpu)) = (run.server(), run.server_cpu_us()) {
            let mib = |bytes: u64| bytes >> 20;
            let (rss, rss_before) = (mib(after.rss_bytes), mib(before.rss_bytes));
            let (anonymous, peak) = (mib(after.anonymous_bytes), mib(after.rss_peak_bytes));
            writeln!(
                f,
                "  server      {cpu:.2} µs of processor per {each}, \
                 resident {rss} MiB (before {rss_before}, anonymous {anonymous}, peak {peak})"
            )?;
        }
        if run.missed > 0 {
            writeln!(
                f,
                "  too slow    {} requests were due but never sent; their waits are in the latency",
                run.missed
            )?;
        }
        for figure in &run.figures {
            let Figure { name, unit, value } = figure;
            writeln!(f, "  {name}: {} {unit}", significant(*value))?;
        }
        for (failure, count) in &run.failures {
            writeln!(f, "  FAILED      {count} × {failure}")?;
        }
        Ok(())
    }
}

/// A duration with three digits that matter.
pub(crate) fn shown(duration: Duration) -> String {
    let us = micros(duration);
    match us {
        _ if us < 1_000.0 => format!("{us:.0} µs"),
        _ if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        _ if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        _ if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// A value with the digits that matter.
pub(crate) fn significant(value: f64) -> String {
    let digits = match value.abs() {
        whole if whole.fract() == 0.0 => 0,
        below if below < 1.0 => 3,
        below if below < 100.0 => 2,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Report, shown};
    use crate::histogram::Histogram;
    use crate::measurement::{Counts, Figure, Measurement};
    use crate::process::Usage;
    use crate::status::Failure;

    fn measurement() -> Measurement {
        let mut latency = Histogram::new();
        (0..1000).for_each(|_| latency.record(Duration::from_micros(100)));
        let usage = |cpu| Usage {
            cpu: Duration::from_millis(cpu),
            ..Usage::default()
        };
        let (before, after) = (usage(10), usage(30));
        Measurement {
            counts: Counts::REQUESTS,
            succeeded: 1000,
            failures: BTreeMap::from([(
                Failure::Status {
                    code: 14,
                    message: "lost".into(),
                },
                2,
            )]),
            latency,
            missed: 0,
            elapsed: Duration::from_millis(500),
            own_cpu: Duration::from_millis(2),
            servers: vec![(before, after), (before, before)],
            response_bytes: 33_000,
            figures: vec![Figure::new("things done", "things", 12.5)],
        }
    }

    #[test]
    fn a_report_names_every_failure_with_its_code_and_message() {
        let measurement = measurement();
        let text = Report {
            name: "put",
            measurement: &measurement,
        }
        .to_string();
        assert!(
            text.contains("put: 1000 answered in 0.500 s, 2000/s"),
            "{text}"
        );
        assert!(text.contains("2 × grpc-status 14: lost"), "{text}");
        assert!(text.contains("20.00 µs of processor per request"), "{text}");
        assert!(text.contains("things done: 12.50 things"), "{text}");
    }

    #[test]
    fn the_line_for_machines_is_json_with_the_same_numbers() {
        let measurement = measurement();
        let line = Report {
            name: "put",
            measurement: &measurement,
        }
        .json();
        let value: serde_json::Value = serde_json::from_str(&line).expect("the line is JSON");
        assert_eq!(value["per_second"], 2000.0);
        assert_eq!(value["failed"], 2);
        assert_eq!(value["own_cpu_us"], 2.0);
        assert_eq!(value["server_cpu_us"], 20.0);
        assert_eq!(value["latency_us"]["max"], 100.0);
        assert_eq!(value["response_bytes_mean"], 33.0);
        assert_eq!(value["figures"]["things done, things"], 12.5);
    }

    #[test]
    fn durations_show_three_digits_that_matter() {
        assert_eq!(shown(Duration::from_micros(431)), "431 µs");
        assert_eq!(shown(Duration::from_micros(2345)), "2.35 ms");
        assert_eq!(shown(Duration::from_millis(23)), "23.0 ms");
        assert_eq!(shown(Duration::from_millis(2300)), "2.30 s");
    }
}
