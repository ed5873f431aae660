//! One run in a process of its own, which must come to an end, and to a verdict that its exit code agrees with.

use std::env;
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A run that ended, or was ended.
pub(crate) struct Ran {
    /// What it printed. Without a verdict that can be believed it begins with one that says so.
    pub(crate) text: String,
    /// What it complained of.
    pub(crate) errors: String,
    pub(crate) status: ExitStatus,
}

/// Makes one run. It is ended when it takes far longer than any run does.
pub(crate) fn run(words: &[String]) -> io::Result<Ran> {
    let mut command = Command::new(env::current_exe()?);
    command.args(words);
    end(command, patience(words))
}

/// The judge that objected; none if all was well. A process that ended without a verdict is its own judge.
pub(crate) fn judge_of(report: &str) -> Option<&str> {
    let verdict = |line: &str| line.starts_with("FAILED ") || line.starts_with("ok ");
    match report.lines().find(|line| verdict(line)) {
        Some(line) if line.starts_with("ok ") => None,
        Some(line) => line.split_whitespace().nth(1),
        None => Some(NO_VERDICT),
    }
}

fn end(mut command: Command, patience: Duration) -> io::Result<Ran> {
    command.stdin(Stdio::null());
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (output, complaints) = (process.stdout.take(), process.stderr.take());
    let complaints = thread::spawn(move || all_of(complaints));
    let (done, printed) = mpsc::channel();
    thread::spawn(move || done.send(all_of(output)));
    let (text, late) = match printed.recv_timeout(patience) {
        Ok(text) => (text, false),
        Err(_) => {
            process.kill()?;
            (printed.recv().unwrap_or_default(), true)
        }
    };
    let status = process.wait()?;
    let errors = complaints.join().unwrap_or_default();
    let disagrees = match judge_of(&text) {
        None => !status.success(),
        Some(judge) => judge == NO_VERDICT || status.success(),
    };
    let text = match late || disagrees {
        false => text,
        true => {
            let late = match late {
                true => format!(" without an end within {}s,", patience.as_secs()),
                false => String::new(),
            };
            format!("FAILED {NO_VERDICT}{late} it ended with {status}\n{text}")
        }
    };
    Ok(Ran {
        text,
        errors,
        status,
    })
}

fn all_of(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What cannot be read any more was not printed.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Many times what a run takes that is alone on its processor.
fn patience(words: &[String]) -> Duration {
    let hours = words.iter().skip_while(|word| *word != "--hours").nth(1);
    let hours: u64 = hours.and_then(|hours| hours.parse().ok()).unwrap_or(0);
    PATIENCE + PATIENCE_PER_HOUR * u32::try_from(hours).unwrap_or(u32::MAX)
}

/// What stands for the judge of a run that came to no verdict.
pub(crate) const NO_VERDICT: &str = "no-verdict";
const PATIENCE: Duration = Duration::from_secs(300);
/// For each hour of virtual time.
const PATIENCE_PER_HOUR: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Ran {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        end(command, patience).expect("there is a shell")
    }

    #[test]
    fn a_verdict_counts_if_the_exit_code_says_the_same() {
        let judge = |script| {
            let ran = shell(script, PATIENCE);
            judge_of(&ran.text).map(str::to_owned)
        };
        assert_eq!(judge("echo ok seed=1"), None);
        let failed = judge("echo world; echo FAILED sum seed=1; exit 1");
        assert_eq!(failed.as_deref(), Some("sum"));
        for wrong in [
            "echo ok seed=1; exit 3",
            "echo ok seed=1; kill -ABRT $$",
            "echo FAILED sum seed=1",
            "echo world",
            "exit 1",
        ] {
            assert_eq!(judge(wrong).as_deref(), Some(NO_VERDICT), "{wrong}");
        }
    }

    #[test]
    fn a_run_without_end_is_ended_and_is_no_good_run() {
        let ran = shell("echo ok seed=1; exec sleep 60", Duration::from_millis(200));
        assert_eq!(judge_of(&ran.text), Some(NO_VERDICT));
        assert!(ran.text.contains("without an end"), "{}", ran.text);
        assert!(!ran.status.success());
    }

    #[test]
    fn long_runs_have_more_time() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            patience(&words)
        };
        assert_eq!(of(&["7"]), PATIENCE);
        assert_eq!(of(&["7", "--hours", "2"]), 3 * PATIENCE);
    }

    #[test]
    fn a_report_names_its_judge_and_one_without_a_verdict_is_a_failure() {
        let verdict = "FAILED durable seed=1 t=2s";
        assert_eq!(judge_of(&format!("world\n{verdict}\n")), Some("durable"));
        assert_eq!(judge_of("world\nok seed=1"), None);
        assert_eq!(judge_of("world\n"), Some(NO_VERDICT));
    }
}
