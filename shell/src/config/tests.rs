//! The configuration as its users give it: every case runs through `parse`.

mod config_file;
mod flags;
mod refusals;
mod values;

use super::*;

/// Arguments separated by spaces, variables as `NAME=value`, and the one file there is.
fn run_with_file(args: &str, env: &[&str], file: Option<&str>) -> Result<Startup, ConfigError> {
    let args = args
        .split(' ')
        .filter(|arg| !arg.is_empty())
        .map(OsString::from);
    let env = env.iter().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    parse(args, env, |path| match file {
        Some(text) if path == Path::new("conf.yml") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn run(args: &str, env: &[&str]) -> Result<Startup, ConfigError> {
    run_with_file(args, env, None)
}

/// The configuration and the warnings of a start that works.
fn started(startup: Result<Startup, ConfigError>) -> (Config, Vec<String>) {
    match startup {
        Ok(Startup {
            action: Action::Run(config),
            warnings,
        }) => (*config, warnings),
        other => panic!("expected a start: {other:?}"),
    }
}

fn config(args: &str) -> Config {
    started(run(args, &[])).0
}

fn warnings(args: &str) -> Vec<String> {
    started(run(args, &[])).1
}

/// The error's line and its exit code.
fn fault(startup: Result<Startup, ConfigError>) -> (String, u8) {
    let error = startup.map(|startup| format!("{startup:?}")).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n'), "an error is one line: {text:?}");
    (text, error.exit_code())
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}
