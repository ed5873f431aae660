//! What a flag was given, parsed by its kind; and the settings from which a configuration is assembled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::LogOutput;
use super::duration;
use super::error::{ConfigError, Origin, Setting};
use super::feature_gates::FeatureGates;
use super::flag_table::{self, Flag, Kind};
use super::url::{self, Url};

/// A parsed value; which variant follows from the flag's kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    Urls(Vec<Url>),
    Cluster(BTreeMap<String, Vec<Url>>),
    List(Vec<String>),
    FeatureGates(FeatureGates),
    LogOutputs(Vec<LogOutput>),
}

/// Parses a text of the command line or the environment. The error says what was expected.
pub(super) fn parse(flag: &Flag, text: &str) -> Result<Value, String> {
    match flag.kind {
        Kind::Text | Kind::Ignored => Ok(Value::Text(text.to_owned())),
        Kind::Bool => parse_bool(text).map(Value::Bool),
        Kind::Integer(min, max) => parse_integer(text, min, max).map(Value::Integer),
        Kind::Duration => {
            let nanoseconds =
                duration::parse_nanoseconds(text).map_err(|error| error.to_string())?;
            from_nanoseconds(nanoseconds)
        }
        Kind::ListenUrls | Kind::AdvertiseUrls => url::parse_list(text)
            .map(Value::Urls)
            .map_err(|(item, error)| format!("{error} (at {item:?})")),
        Kind::Cluster => parse_cluster(text).map(Value::Cluster),
        Kind::List => Ok(Value::List(split_list(text).map(str::to_owned).collect())),
        Kind::Choice(words) => parse_choice(text, words).map(Value::Text),
        Kind::AuthToken => parse_auth_token(text).map(Value::Text),
        Kind::Retention => parse_retention(text).map(Value::Text),
        Kind::FeatureGates => FeatureGates::parse(text).map(Value::FeatureGates),
        Kind::LogOutputs => parse_log_outputs(split_list(text)).map(Value::LogOutputs),
    }
}

/// A duration from nanoseconds, as the configuration file writes it.
pub(super) fn from_nanoseconds(nanoseconds: i64) -> Result<Value, String> {
    u64::try_from(nanoseconds)
        .map(|nanoseconds| Value::Duration(Duration::from_nanos(nanoseconds)))
        .map_err(|_| "a duration must not be negative here".to_owned())
}

/// Checks a number against the bounds of its flag.
pub(super) fn check_bounds(number: i64, min: i64, max: i64) -> Result<i64, String> {
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(expected_number(min, max))
    }
}

/// The settings that were given, by flag, from all sources; the defaults stand behind them.
#[derive(Debug, Default)]
pub(super) struct Settings {
    given: BTreeMap<&'static str, (Value, Origin)>,
}

impl Settings {
    /// Parses and keeps a value; a later one replaces an earlier one, and an empty one unsets it.
    pub(super) fn set(
        &mut self,
        flag: &'static Flag,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        if text.is_empty()
            && !flag.is_boolean()
            && !matches!(flag.kind, Kind::Integer(..) | Kind::Duration)
        {
            self.given.remove(flag.name);
            return Ok(());
        }
        match parse(flag, text) {
            Ok(value) => {
                self.keep(flag, value, origin);
                Ok(())
            }
            Err(reason) => Err(invalid(flag, text, reason, origin)),
        }
    }

    /// Keeps a value that is parsed already.
    pub(super) fn keep(&mut self, flag: &'static Flag, value: Value, origin: Origin) {
        self.given.insert(flag.name, (value, origin));
    }

    /// What was given, in the order of names.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static Flag, &Value, &Origin)> {
        self.given
            .iter()
            .map(|(name, (value, origin))| (row(name), value, origin))
    }

    /// Whether the flag was given at all, be it with its default.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The setting as errors name it.
    pub(super) fn setting(&self, name: &str) -> Setting {
        let origin = self
            .given
            .get(name)
            .map_or(Origin::CommandLine, |(_, origin)| origin.clone());
        Setting {
            flag: row(name).name,
            origin,
        }
    }

    /// An error about the value of a flag.
    pub(super) fn invalid(&self, name: &str, value: String, reason: String) -> ConfigError {
        ConfigError::InvalidValue {
            setting: self.setting(name),
            value,
            reason,
        }
    }

    pub(super) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => unexpected(name, &other),
        }
    }

    /// A path, `None` if empty.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => value,
            other => unexpected(name, &other),
        }
    }

    pub(super) fn signed(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Integer(value) => value,
            other => unexpected(name, &other),
        }
    }

    /// A number whose flag's lower bound keeps it from being negative.
    pub(super) fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.signed(name))
            .expect("the flag table bounds this number from below by zero")
    }

    /// A number whose flag's bounds keep it within 32 bits.
    pub(super) fn unsigned_32(&self, name: &str) -> u32 {
        u32::try_from(self.signed(name)).expect("the flag table bounds this number to 32 bits")
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Duration(value) => value,
            other => unexpected(name, &other),
        }
    }

    pub(super) fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unexpected(name, &other),
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(items) => items,
            other => unexpected(name, &other),
        }
    }

    /// The value that holds: the given one, else the default.
    pub(super) fn value(&self, name: &str) -> Value {
        match self.given.get(name) {
            Some((value, _)) => value.clone(),
            None => default_value(row(name)),
        }
    }
}

/// The parsed default of a flag; an empty text for a choice that has none.
pub(super) fn default_value(flag: &Flag) -> Value {
    if flag.default.is_empty() && matches!(flag.kind, Kind::Choice(_)) {
        return Value::Text(String::new());
    }
    match parse(flag, flag.default) {
        Ok(value) => value,
        Err(reason) => panic!(
            "the flag table's default of --{} does not parse: {reason}",
            flag.name
        ),
    }
}

/// The error for a value that does not fit its flag.
pub(super) fn invalid(flag: &Flag, value: &str, reason: String, origin: Origin) -> ConfigError {
    ConfigError::InvalidValue {
        setting: Setting {
            flag: row(flag.name).name,
            origin,
        },
        value: value.to_owned(),
        reason,
    }
}

fn row(name: &str) -> &'static Flag {
    flag_table::find(name).unwrap_or_else(|| panic!("--{name} is not in the flag table"))
}

fn unexpected(name: &str, value: &Value) -> ! {
    panic!("--{name} is asked for as another kind than the flag table gives it: {value:?}")
}

/// The texts of a comma-separated list without the empty ones.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Where the log goes, from its names.
pub(super) fn parse_log_outputs<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<LogOutput>, String> {
    let names: Vec<&str> = names.collect();
    if names.len() > 1 && names.contains(&"default") {
        return Err(
            "default cannot be combined with other outputs; write stderr instead".to_owned(),
        );
    }
    let mut outputs = Vec::new();
    for name in names {
        let output = match name {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return Err(
                    "the journal is not supported yet; use stderr, which systemd collects"
                        .to_owned(),
                );
            }
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        return Err("expected default, stderr, stdout or a file path".to_owned());
    }
    Ok(outputs)
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let number = text.parse().map_err(|_| expected_number(min, max))?;
    check_bounds(number, min, max)
}

fn expected_number(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, _) => "expected a whole number".to_owned(),
        (_, i64::MAX) => format!("expected a whole number of at least {min}"),
        _ => format!("expected a whole number from {min} to {max}"),
    }
}

fn parse_choice(text: &str, words: &[&str]) -> Result<String, String> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected {}", words.join(" or ")))
}

fn parse_auth_token(text: &str) -> Result<String, String> {
    if text == "simple" || text == "jwt" || text.starts_with("jwt,") {
        return Ok(text.to_owned());
    }
    Err("expected simple, or jwt with its options".to_owned())
}

/// A retention of any zero length is the text `0`: off in both modes.
fn parse_retention(text: &str) -> Result<String, String> {
    let is_zero = match text.parse::<u64>() {
        Ok(number) => number == 0,
        Err(_) => match duration::parse_nanoseconds(text) {
            Ok(nanoseconds) if nanoseconds < 0 => {
                return Err("a retention must not be negative".to_owned());
            }
            Ok(nanoseconds) => nanoseconds == 0,
            Err(error) => return Err(error.to_string()),
        },
    };
    Ok(if is_zero {
        "0".to_owned()
    } else {
        text.to_owned()
    })
}

fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for item in split_list(text) {
        let (name, url) = item
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("expected name=url (at {item:?})"))?;
        let url = url
            .parse::<Url>()
            .map_err(|error| format!("{error} (at {item:?})"))?;
        members.entry(name.to_owned()).or_default().push(url);
    }
    for urls in members.values_mut() {
        urls.sort();
        urls.dedup();
    }
    Ok(members)
}
