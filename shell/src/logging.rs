//! The log in etcd's shape: one line per event, JSON or columns, to any number of outputs.
//!
//! A JSON line has the keys `level`, `ts` (UTC, microseconds), `caller` and `msg`, then the event's fields; an error
//! is under `error`. Writing a line never fails and never panics: what an output does not take is lost.

mod line;
mod timestamp;

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A log file cannot be opened for appending.
    #[error("--log-outputs: cannot open {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// From the system.
        error: io::Error,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    SecondTime(#[from] SetGlobalDefaultError),
}

/// Opens the outputs and makes them the log of the whole process. To be called once.
///
/// # Errors
/// A file that cannot be opened, or a second call.
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    let outputs = config
        .outputs
        .iter()
        .map(Sink::open)
        .collect::<Result<Vec<_>, _>>()?;
    tracing::subscriber::set_global_default(subscriber(config, outputs))?;
    Ok(())
}

fn subscriber(config: &LogConfig, sinks: Vec<Sink>) -> impl Subscriber + Send + Sync + use<> {
    let lines = Lines {
        format: config.format,
        sinks,
    };
    Registry::default().with(lines.with_filter(filter(config.level)))
}

/// Our own events from the level on; those of libraries only if something is wrong, or when debugging.
fn filter(level: LogLevel) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        // What ends the process is printed by whoever ends it; no event has these levels.
        LogLevel::Panic | LogLevel::Fatal => (LevelFilter::OFF, LevelFilter::OFF),
    };
    Targets::new()
        .with_default(libraries)
        .with_target("metastore", own)
}

/// One place where lines go.
enum Sink {
    Stderr,
    Stdout,
    File(Mutex<File>),
    #[cfg(test)]
    Writer(Mutex<Box<dyn Write + Send>>),
}

impl Sink {
    fn open(output: &LogOutput) -> Result<Sink, LoggingError> {
        match output {
            LogOutput::Stderr => Ok(Sink::Stderr),
            LogOutput::Stdout => Ok(Sink::Stdout),
            LogOutput::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(|file| Sink::File(Mutex::new(file)))
                .map_err(|error| LoggingError::File {
                    path: path.clone(),
                    error,
                }),
        }
    }

    /// One write for the whole line, so that lines of several threads do not mix.
    fn write(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stderr => io::stderr().lock().write_all(line),
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
            Sink::File(file) => file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(line),
            #[cfg(test)]
            Sink::Writer(writer) => writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(line),
        }
    }
}

/// Formats each event once and writes it to all sinks.
struct Lines {
    format: LogFormat,
    sinks: Vec<Sink>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line::format(self.format, SystemTime::now(), event);
        for sink in &self.sinks {
            // There is nowhere left to complain to, and a full or closed log must not stop the member.
            let _ = sink.write(line.as_bytes());
        }
    }
}
