//! Reads the command line by the rules of Go's flag package.

use std::ffi::OsString;

use super::error::{ConfigError, Origin};
use super::flag_table;
use super::value::Settings;

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum CommandLine {
    /// `-h` or `--help`, with nothing wrong before it.
    Help,
    /// To run with these flags (or to print the version, if that one is among them).
    Flags(Settings),
}

/// Reads the arguments after the program's name, left to right; the first fault or help ends it.
pub(super) fn read(args: impl Iterator<Item = OsString>) -> Result<CommandLine, ConfigError> {
    let mut args = args.map(|arg| {
        arg.into_string()
            .map_err(|arg| ConfigError::NotUtf8(arg.to_string_lossy().into_owned()))
    });
    let mut settings = Settings::default();
    while let Some(arg) = args.next().transpose()? {
        let Some(undashed) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return Err(ConfigError::NotAFlag(arg));
        };
        let body = undashed.strip_prefix('-').unwrap_or(undashed);
        if body.is_empty() {
            // `--` ends the flags: whatever follows is not one.
            return match args.next().transpose()? {
                Some(positional) => Err(ConfigError::NotAFlag(positional)),
                None => Ok(CommandLine::Flags(settings)),
            };
        }
        if body.starts_with(['-', '=']) {
            return Err(ConfigError::BadFlagSyntax(arg));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = flag_table::find(name) else {
            if name == "help" || name == "h" {
                return Ok(CommandLine::Help);
            }
            return Err(ConfigError::UnknownFlag(name.to_owned()));
        };
        let value = match value {
            Some(value) => value,
            None if flag.is_boolean() => "true".to_owned(),
            None => args
                .next()
                .transpose()?
                .ok_or(ConfigError::MissingArgument(flag.name))?,
        };
        settings.set(flag, &value, Origin::CommandLine)?;
    }
    Ok(CommandLine::Flags(settings))
}
