//! Fairness: while many leases end at once, nobody else waits for long.

use std::time::Duration;

use super::Failure;
use crate::history::Record;

/// Judges what was asked for within a time, in which nothing was broken: no answer may have taken longer than this.
pub fn judge(
    history: &[Record],
    (from, to): (Duration, Duration),
    longest: Duration,
) -> Result<(), Failure> {
    let within = history
        .iter()
        .filter(|record| (from..=to).contains(&record.begun.time));
    for record in within {
        let Some((ended, _)) = &record.ended else {
            continue;
        };
        let took = ended.time - record.begun.time;
        if took > longest {
            let story = format!("{record}\n  took {:.3}s", took.as_secs_f64());
            return Err(Failure::new("fairness", story));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ending, Moment};
    use crate::model::Op;

    #[test]
    fn an_answer_that_took_long_is_noticed_within_the_time() {
        let at = |ordinal, seconds| Moment {
            ordinal,
            time: Duration::from_secs(seconds),
        };
        let record = Record {
            client: 1,
            op: Op::read(b"k".to_vec(), Vec::new()),
            begun: at(1, 5),
            ended: Some((at(2, 8), Ending::Lost)),
        };
        let verdict = |from, to| {
            let window = (Duration::from_secs(from), Duration::from_secs(to));
            let judged = judge(
                std::slice::from_ref(&record),
                window,
                Duration::from_secs(1),
            );
            judged.map_err(|failure| failure.judge)
        };
        assert_eq!(verdict(5, 6), Err("fairness"));
        assert_eq!(verdict(6, 9), Ok(()));
    }
}
