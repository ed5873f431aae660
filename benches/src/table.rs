//! The tables of a comparison, in Markdown.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::measurement::Measurement;
use crate::report::{shown, significant};

/// Everything a comparison found; the values of every row are kept per side, in the order of `sides`.
pub(crate) struct Results {
    pub(crate) sides: Vec<&'static str>,
    /// The circumstances.
    pub(crate) notes: Vec<String>,
    /// Workloads: the turns of each side.
    pub(crate) rows: Vec<(&'static str, Vec<Vec<Turn>>)>,
    /// Single values, such as memory and times of start.
    pub(crate) gauges: Vec<Gauge>,
    /// Requests that failed, with side and row.
    pub(crate) failures: Vec<String>,
}

/// One turn of one server with one workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) server_cpu_us: f64,
    pub(crate) own_cpu_us: f64,
    pub(crate) response_bytes: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

/// A value that is not one of a workload, measured once or several times.
pub(crate) struct Gauge {
    pub(crate) name: String,
    unit: &'static str,
    pub(crate) values: Vec<Vec<f64>>,
}

impl From<&Measurement> for Turn {
    fn from(measurement: &Measurement) -> Self {
        Self {
            per_second: measurement.throughput(),
            server_cpu_us: measurement.server_cpu_us().unwrap_or(f64::NAN),
            own_cpu_us: measurement.own_cpu_us(),
            response_bytes: measurement.response_bytes_mean(),
            p50: measurement.latency.quantile(0.5),
            p99: measurement.latency.quantile(0.99),
            p999: measurement.latency.quantile(0.999),
        }
    }
}

impl Gauge {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, sides: usize) -> Self {
        Self {
            name: name.into(),
            unit,
            values: vec![Vec::new(); sides],
        }
    }
}

impl Results {
    pub(crate) fn new(sides: Vec<&'static str>) -> Self {
        Self {
            sides,
            notes: Vec::new(),
            rows: Vec::new(),
            gauges: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn workloads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = vec!["workload".to_owned()];
        head.extend(self.sides.iter().map(|side| format!("{side} /s")));
        head.extend(self.ratio_head());
        head.extend(self.sides.iter().map(|side| format!("{side} CPU µs/op")));
        head.extend(self.ratio_head());
        head.extend(
            self.sides
                .iter()
                .map(|side| format!("{side} p50 / p99 / p99.9")),
        );
        head.push("generator CPU µs/op".to_owned());
        line(f, &head)?;
        rule(f, head.len())?;
        for (name, turns) in &self.rows {
            let medians = |value: fn(&Turn) -> f64| -> Vec<f64> {
                turns
                    .iter()
                    .map(|turns| median(turns.iter().map(value).collect()))
                    .collect()
            };
            let mut cells = vec![(*name).to_owned()];
            let rates = medians(|turn| turn.per_second);
            cells.extend(rates.iter().map(|rate| format!("{rate:.0}")));
            cells.extend(ratio(&rates));
            let cpu = medians(|turn| turn.server_cpu_us);
            cells.extend(cpu.iter().map(|cpu| format!("{cpu:.1}")));
            cells.extend(ratio(&cpu));
            let latencies = [
                medians(|turn| turn.p50.as_secs_f64()),
                medians(|turn| turn.p99.as_secs_f64()),
                medians(|turn| turn.p999.as_secs_f64()),
            ];
            for side in 0..turns.len() {
                let shown: Vec<String> = latencies
                    .iter()
                    .map(|values| shown(Duration::from_secs_f64(values[side])))
                    .collect();
                cells.push(shown.join(" / "));
            }
            let own = medians(|turn| turn.own_cpu_us);
            cells.push(format!("{:.1}", own.into_iter().fold(0.0, f64::max)));
            line(f, &cells)?;
        }
        Ok(())
    }

    fn values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = vec!["value".to_owned(), "unit".to_owned()];
        head.extend(self.sides.iter().map(|side| (*side).to_owned()));
        head.extend(self.ratio_head());
        line(f, &head)?;
        rule(f, head.len())?;
        for gauge in &self.gauges {
            let medians: Vec<f64> = gauge
                .values
                .iter()
                .map(|values| median(values.clone()))
                .collect();
            let mut cells = vec![gauge.name.clone(), gauge.unit.to_owned()];
            cells.extend(medians.iter().map(|value| significant(*value)));
            cells.extend(ratio(&medians));
            line(f, &cells)?;
        }
        Ok(())
    }

    /// Rows whose answers differ in length: then the servers did not do the same work.
    fn unequal_answers(&self) -> Vec<String> {
        let mut unequal = Vec::new();
        for (name, turns) in &self.rows {
            let bytes: Vec<f64> = turns
                .iter()
                .map(|turns| median(turns.iter().map(|turn| turn.response_bytes).collect()))
                .collect();
            if let [a, b] = bytes[..]
                && (a - b).abs() > HEADER_DIFFERENCE_BYTES + a.max(b) * 0.05
            {
                unequal.push(format!(
                    "{name}: {} answers {a:.0} bytes, {} {b:.0}",
                    self.sides[0], self.sides[1]
                ));
            }
        }
        unequal
    }

    fn ratio_head(&self) -> Option<String> {
        (self.sides.len() == 2).then(|| format!("{} : {}", self.sides[1], self.sides[0]))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        if !self.rows.is_empty() {
            writeln!(f)?;
            self.workloads(f)?;
        }
        if !self.gauges.is_empty() {
            writeln!(f)?;
            self.values(f)?;
        }
        for unequal in self.unequal_answers() {
            writeln!(f, "\nUNEQUAL ANSWERS  {unequal}")?;
        }
        for failure in &self.failures {
            writeln!(f, "\nFAILED  {failure}")?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, cells: &[String]) -> fmt::Result {
    let mut text = String::from("|");
    for cell in cells {
        write!(text, " {cell} |")?;
    }
    writeln!(f, "{text}")
}

fn rule(f: &mut fmt::Formatter<'_>, columns: usize) -> fmt::Result {
    writeln!(f, "|---|{}", "---:|".repeat(columns - 1))
}

/// The second value as a multiple of the first, if there are two and the first is not zero.
fn ratio(values: &[f64]) -> Option<String> {
    match *values {
        [first, second] if first > 0.0 => Some(format!("{:.2}", second / first)),
        [_, _] => Some("–".to_owned()),
        _ => None,
    }
}

/// The middle value, or the mean of the two in the middle; not a number when there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Ids and revisions in the response header take one to ten bytes each.
const HEADER_DIFFERENCE_BYTES: f64 = 24.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Gauge, Results, Turn, median};

    fn turn(per_second: f64, response_bytes: f64) -> Turn {
        let ms = Duration::from_millis;
        let (p50, p99, p999) = (ms(1), ms(2), ms(3));
        Turn {
            per_second,
            server_cpu_us: 40.0,
            own_cpu_us: 2.5,
            response_bytes,
            p50,
            p99,
            p999,
        }
    }

    fn results(sides: Vec<&'static str>, response_bytes: f64) -> Results {
        let mut results = Results::new(sides);
        let turns = [
            vec![turn(100.0, 33.0), turn(300.0, 33.0), turn(200.0, 33.0)],
            vec![turn(800.0, response_bytes)],
        ];
        let mut gauge = Gauge::new("start", "ms", results.sides.len());
        gauge.values[0] = vec![250.0];
        if let Some(second) = gauge.values.get_mut(1) {
            *second = vec![5.0];
        }
        results.gauges = vec![gauge];
        results.rows = vec![("put", turns.into_iter().take(results.sides.len()).collect())];
        results
    }

    #[test]
    fn two_sides_are_shown_with_medians_and_ratios() {
        let text = results(vec!["etcd", "metastore"], 30.0).to_string();
        let expect = "| put | 200 | 800 | 4.00 | 40.0 | 40.0 | 1.00 | \
                      1.00 ms / 2.00 ms / 3.00 ms | 1.00 ms / 2.00 ms / 3.00 ms | 2.5 |";
        assert!(text.contains(expect), "{text}");
        assert!(text.contains("| start | ms | 250 | 5 | 0.02 |"), "{text}");
        assert!(!text.contains("UNEQUAL"), "{text}");
    }

    #[test]
    fn every_line_of_a_table_has_the_columns_of_its_head() {
        for sides in [vec!["etcd"], vec!["etcd", "metastore"]] {
            let text = results(sides, 33.0).to_string();
            for table in text.split("\n\n") {
                let columns: Vec<usize> = table
                    .trim()
                    .lines()
                    .map(|line| line.matches('|').count())
                    .collect();
                assert!(
                    columns.len() >= 3 && columns.iter().all(|count| *count == columns[0]),
                    "{table}"
                );
            }
        }
    }

    #[test]
    fn answers_of_different_length_are_pointed_out() {
        let text = results(vec!["etcd", "metastore"], 330.0).to_string();
        assert!(
            text.contains("UNEQUAL ANSWERS  put: etcd answers 33 bytes, metastore 330"),
            "{text}"
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }
}
