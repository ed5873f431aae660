//! The `metastore` binary: flags, start, stop.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use metastore::config::{self, Action, Config};
use metastore::logging;
use metastore::server::{Server, Stopped};
use metastore::signals;
use sd_notify::NotifyState;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let startup = match config::parse(env::args_os().skip(1), variables, |path| {
        fs::read_to_string(path)
    }) {
        Ok(startup) => startup,
        Err(error) => {
            complain(&error.to_string());
            if error.wants_usage() {
                complain(&config::usage());
            }
            return ExitCode::from(error.exit_code());
        }
    };
    match startup.action {
        Action::Help(text) | Action::Version(text) => {
            // A reader that has gone away has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Action::Run(config) => serve(&config, &startup.warnings),
    }
}

fn serve(config: &Config, warnings: &[String]) -> ExitCode {
    if let Err(error) = take_file_size_signal() {
        complain(&format!("cannot handle signals: {error}"));
        return ExitCode::FAILURE;
    }
    if let Err(error) = logging::init(&config.log) {
        complain(&error.to_string());
        return ExitCode::FAILURE;
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(name = config.name, data_dir = %config.data_dir.display(), "starting an etcd server");
    let server = match Server::start(config) {
        Ok(server) => server,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    announce(config);
    match server.run() {
        Stopped::Signal(signal) => {
            if let Err(error) = signals::end_by(signal) {
                complain(&format!("cannot end by signal {signal}: {error}"));
            }
            ExitCode::SUCCESS
        }
        // As etcd does: whoever removed it wanted it to end.
        Stopped::Removed => ExitCode::SUCCESS,
        Stopped::DiskFailed(reason) => {
            complain(&format!("the disk failed: {reason}"));
            ExitCode::FAILURE
        }
        Stopped::Panicked => {
            complain("the member thread panicked, for the reason above; please report it");
            ExitCode::FAILURE
        }
    }
}

/// Says that clients are served: a line for each of their listeners, in the words that scripts wait for, and a word to
/// whoever started the process and asked for one.
fn announce(config: &Config) {
    let split = !config.listen_client_http_urls.is_empty();
    let grpc = if split { "grpc" } else { "grpc+http" };
    let clients = config.listen_client_urls.iter().map(|url| (grpc, url));
    let http = config.listen_client_http_urls.iter();
    for (traffic, url) in clients.chain(http.map(|url| ("http", url))) {
        tracing::info!("ready to serve client requests");
        tracing::warn!(traffic, address = %url, "serving client traffic insecurely; this is strongly discouraged!");
    }
    if env::var_os("NOTIFY_SOCKET").is_some() {
        match sd_notify::notify(&[NotifyState::Ready]) {
            Ok(()) => tracing::info!("successfully notified init daemon"),
            Err(error) => {
                tracing::error!(%error, "failed to notify init daemon; check the socket that NOTIFY_SOCKET names");
            }
        }
    }
}

/// A write beyond what `ulimit -f` allows brings a signal that ends a process without a word. Where it is taken the
/// write fails instead, and that is dealt with as with a full disk.
fn take_file_size_signal() -> io::Result<()> {
    let nobody_looks = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, nobody_looks)?;
    Ok(())
}

/// One line on standard error, whatever the log does.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "metastore: {line}");
}
