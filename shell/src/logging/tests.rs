//! Log lines, read back as their readers do.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

/// A sink whose bytes a test can read.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that is closed.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn config(level: LogLevel, format: LogFormat) -> LogConfig {
    LogConfig {
        level,
        format,
        outputs: vec![LogOutput::Stderr],
    }
}

/// The lines that `log` writes.
fn lines(level: LogLevel, format: LogFormat, log: impl FnOnce()) -> Vec<String> {
    let captured = Captured::default();
    let sinks = vec![
        Sink::Writer(Mutex::new(Box::new(Closed))),
        Sink::Writer(Mutex::new(Box::new(captured.clone()))),
    ];
    tracing::subscriber::with_default(subscriber(&config(level, format), sinks), log);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_json_line_starts_with_level_ts_caller_and_msg() {
    let lines = lines(LogLevel::Info, LogFormat::Json, || {
        tracing::info!("ready to serve client requests")
    });
    assert_eq!(lines.len(), 1);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "info");
    assert_eq!(line["msg"], "ready to serve client requests");
    let ts = line["ts"].as_str().unwrap();
    assert_eq!(
        (ts.len(), &ts[10..11], &ts[19..20], &ts[26..]),
        (27, "T", ".", "Z")
    );
    let caller = line["caller"].as_str().unwrap();
    assert!(caller.starts_with("logging/tests.rs:"), "{caller}");
    let order = ["{\"level\":", ",\"ts\":", ",\"caller\":", ",\"msg\":"]
        .map(|key| lines[0].find(key).unwrap());
    assert!(order.is_sorted(), "{}", lines[0]);
}

#[test]
fn fields_keep_their_types_and_their_order() {
    let lines = lines(LogLevel::Info, LogFormat::Json, || {
        tracing::warn!(
            zone = "b",
            count = 3_u64,
            delta = -4_i64,
            ratio = 0.5,
            nan = f64::NAN,
            secure = false,
            path = ?Some(1),
            address = %"127.0.0.1:2379",
            level = "mine",
            "now serving client"
        );
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "warn");
    assert_eq!(line["field_level"], "mine");
    assert_eq!(line["count"], 3);
    assert_eq!(line["delta"], -4);
    assert_eq!(line["ratio"], 0.5);
    assert_eq!(line["nan"], "NaN");
    assert_eq!(line["secure"], false);
    assert_eq!(line["path"], "Some(1)");
    assert_eq!(line["address"], "127.0.0.1:2379");
    assert!(
        lines[0].find("\"zone\"") < lines[0].find("\"count\""),
        "{}",
        lines[0]
    );
}

#[test]
fn errors_are_under_error_with_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot append")]
    struct Outer(#[source] io::Error);

    let lines = lines(LogLevel::Info, LogFormat::Json, || {
        let fault = Outer(io::Error::other("disk is gone"));
        tracing::error!(err = &fault as &dyn std::error::Error, "stopped");
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["error"], "cannot append: disk is gone");
    assert_eq!(line["level"], "error");
}

#[test]
fn whatever_a_message_holds_it_stays_one_line() {
    for format in [LogFormat::Json, LogFormat::Console] {
        let lines = lines(LogLevel::Info, format, || {
            tracing::info!(key = "a\nb\"", "first\nsecond\r\t\"quoted\" \u{1}")
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    let lines = lines(LogLevel::Info, LogFormat::Json, || {
        tracing::info!("first\nsecond")
    });
    assert_eq!(
        serde_json::from_str::<Value>(&lines[0]).unwrap()["msg"],
        "first\nsecond"
    );
}

#[test]
fn a_console_line_has_columns_and_its_fields_as_json() {
    let lines = lines(LogLevel::Info, LogFormat::Console, || {
        tracing::info!(signal = "terminated", "received signal; shutting down")
    });
    let columns: Vec<&str> = lines[0].split('\t').collect();
    assert_eq!(columns.len(), 5, "{columns:?}");
    assert_eq!(
        (columns[1], columns[3]),
        ("info", "received signal; shutting down")
    );
    assert_eq!(
        serde_json::from_str::<Value>(columns[4]).unwrap()["signal"],
        "terminated"
    );
}

#[test]
fn events_below_the_level_are_not_logged() {
    let logged = |level| {
        let lines = lines(level, LogFormat::Json, || {
            tracing::debug!("d");
            tracing::info!("i");
            tracing::warn!("w");
            tracing::error!("e");
        });
        lines
            .iter()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["msg"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect::<String>()
    };
    assert_eq!(logged(LogLevel::Debug), "diwe");
    assert_eq!(logged(LogLevel::Info), "iwe");
    assert_eq!(logged(LogLevel::Warn), "we");
    assert_eq!(logged(LogLevel::Error), "e");
    assert_eq!(logged(LogLevel::Fatal), "");
}

#[test]
fn libraries_are_quiet_unless_something_is_wrong() {
    let logged = lines(LogLevel::Info, LogFormat::Json, || {
        tracing::info!(target: "h2::proto", "chatter");
        tracing::warn!(target: "h2::proto", "trouble");
        tracing::info!(target: "metastore_core::raft", "elected");
    });
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged[0].contains("trouble") && logged[1].contains("elected"));
}

#[test]
fn files_are_appended_to_and_a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("member.log");
    for _ in 0..2 {
        let sink = Sink::open(&LogOutput::File(path.clone())).ok().unwrap();
        let subscriber = subscriber(&config(LogLevel::Info, LogFormat::Json), vec![sink]);
        tracing::subscriber::with_default(subscriber, || tracing::info!("started"));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);

    let missing = folder.path().join("absent").join("member.log");
    let error = Sink::open(&LogOutput::File(missing))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("--log-outputs: cannot open ") && error.contains("absent"),
        "{error}"
    );
}
