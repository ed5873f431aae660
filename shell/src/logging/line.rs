//! One event as one line of the log.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use super::timestamp;
use crate::config::LogFormat;

/// The event's line with its line end.
pub(super) fn format(format: LogFormat, time: SystemTime, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let level = level_name(*metadata.level());
    let ts = timestamp::format(time);
    let caller = caller(metadata);
    match format {
        LogFormat::Json => {
            let start = [
                ("level", level.to_owned()),
                ("ts", ts),
                ("caller", caller),
                ("msg", fields.message),
            ];
            let mut line = String::from("{");
            for (key, text) in start {
                push_entry(&mut line, key, &Value::String(text));
            }
            for (key, value) in &fields.rest {
                push_entry(&mut line, key, value);
            }
            line.push_str("}\n");
            line
        }
        LogFormat::Console => {
            let message = one_line(&fields.message);
            let mut line = format!("{ts}\t{level}\t{caller}\t{message}");
            if !fields.rest.is_empty() {
                let rest: Map<String, Value> = fields.rest.into_iter().collect();
                line.push('\t');
                line.push_str(&Value::Object(rest).to_string());
            }
            line.push('\n');
            line
        }
    }
}

fn push_entry(line: &mut String, key: &str, value: &Value) {
    if line.len() > 1 {
        line.push(',');
    }
    // Printing a JSON value escapes line ends, so an event stays one line whatever it holds.
    line.push_str(&Value::from(key).to_string());
    line.push(':');
    line.push_str(&value.to_string());
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

/// There is no level below debug in the log.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// `folder/file.rs:line` of the source.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or("unknown");
    let start = file
        .rmatch_indices(['/', '\\'])
        .nth(1)
        .map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[start..], metadata.line().unwrap_or(0))
}

/// The message and the fields of an event, in the order they were written.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(String, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        let key = match field.name() {
            "message" => {
                self.message = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                return;
            }
            // Keys of the line itself must stay unique.
            name @ ("level" | "ts" | "caller" | "msg") => format!("field_{name}"),
            name => name.strip_prefix("r#").unwrap_or(name).to_owned(),
        };
        self.rest.push((key, value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        let number = serde_json::Number::from_f64(value);
        self.push(
            field,
            number.map_or_else(|| Value::from(value.to_string()), Value::Number),
        );
    }

    /// The error with its causes, under `error` whatever the field is called.
    fn record_error(&mut self, _: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            // Some errors print their cause themselves.
            if !text.ends_with(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        self.rest.push(("error".to_owned(), Value::from(text)));
    }
}
