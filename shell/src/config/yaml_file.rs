//! Reads the YAML configuration file, which replaces flags and variables altogether.
//!
//! Keys are the flags' names, except for the nested sections; durations are whole nanoseconds. Unknown keys are
//! ignored with a warning.

use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use super::error::{ConfigError, Origin};
use super::flag_table::{self, Flag, Kind};
use super::value::{self, Settings, Value};

/// The settings of a file's text. `path` only names it in errors.
pub(super) fn read(
    text: &str,
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Settings, ConfigError> {
    let malformed = |fault: String| ConfigError::FileMalformed {
        path: path.to_owned(),
        fault,
    };
    let documents =
        YamlLoader::load_from_str(text).map_err(|error| malformed(one_line(&error.to_string())))?;
    let mut reading = Reading {
        settings: Settings::default(),
        warnings,
    };
    match documents.first() {
        None | Some(Yaml::Null) => {}
        Some(Yaml::Hash(entries)) => {
            for (key, node) in entries {
                reading.top_level(&key_name(key), node)?;
            }
        }
        Some(_) => {
            return Err(malformed(
                "expected a mapping of settings, such as \"name: default\"".to_owned(),
            ));
        }
    }
    if documents.len() > 1 {
        reading
            .warnings
            .push("only the first document of the configuration file is read".to_owned());
    }
    Ok(reading.settings)
}

struct Reading<'a> {
    settings: Settings,
    warnings: &'a mut Vec<String>,
}

impl Reading<'_> {
    fn top_level(&mut self, key: &str, node: &Yaml) -> Result<(), ConfigError> {
        match key {
            "client-transport-security" => self.section(key, CLIENT_SECURITY, node),
            "peer-transport-security" => self.section(key, PEER_SECURITY, node),
            "socket-options" => self.section(key, SOCKET_OPTIONS, node),
            "discovery-config" => self.discovery(key, node),
            "config-file" | "version" => {
                self.ignored(key);
                Ok(())
            }
            _ => match flag_table::find(key) {
                Some(flag) => self.set(flag, key, node),
                None => {
                    self.ignored(key);
                    Ok(())
                }
            },
        }
    }

    fn section(
        &mut self,
        section: &str,
        keys: &[(&str, &str)],
        node: &Yaml,
    ) -> Result<(), ConfigError> {
        let entries = match node {
            Yaml::Null => return Ok(()),
            Yaml::Hash(entries) => entries,
            _ => {
                let flag = flag_table::find(keys[0].1).expect("sections name flags of the table");
                let reason = format!("expected a mapping under {section}");
                return Err(value::invalid(
                    flag,
                    &scalar(node).unwrap_or_default(),
                    reason,
                    Origin::File(section.to_owned()),
                ));
            }
        };
        for (key, node) in entries {
            let key = key_name(key);
            let path = format!("{section}.{key}");
            match keys.iter().find(|(known, _)| *known == key) {
                Some((_, name)) => {
                    let flag = flag_table::find(name).expect("sections name flags of the table");
                    self.set(flag, &path, node)?;
                }
                None => self.ignored(&path),
            }
        }
        Ok(())
    }

    /// Whatever is set here asks for discovery; what in particular does not matter while there is none.
    fn discovery(&mut self, key: &str, node: &Yaml) -> Result<(), ConfigError> {
        if is_blank(node) {
            return Ok(());
        }
        let flag = flag_table::find("discovery-endpoints").expect("discovery is in the table");
        self.settings.keep(
            flag,
            Value::List(vec![key.to_owned()]),
            Origin::File(key.to_owned()),
        );
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, key: &str, node: &Yaml) -> Result<(), ConfigError> {
        if *node == Yaml::Null {
            return Ok(());
        }
        let origin = Origin::File(key.to_owned());
        let parsed = match (flag.kind, node) {
            (Kind::Duration, Yaml::Integer(nanoseconds)) => value::from_nanoseconds(*nanoseconds),
            (Kind::Duration, _) => {
                Err("expected whole nanoseconds, such as 5000000000 for 5s".to_owned())
            }
            (Kind::Bool, Yaml::String(word)) => parse_old_bool(word).map(Value::Bool),
            (Kind::List, Yaml::Array(items)) => texts(items).map(Value::List),
            (Kind::LogOutputs, Yaml::Array(items)) => texts(items)
                .and_then(|names| value::parse_log_outputs(names.iter().map(String::as_str)))
                .map(Value::LogOutputs),
            _ => match scalar(node) {
                Some(text) => return self.settings.set(flag, &text, origin),
                None => Err("expected a single value".to_owned()),
            },
        };
        match parsed {
            Ok(parsed) => {
                self.settings.keep(flag, parsed, origin);
                Ok(())
            }
            Err(reason) => Err(value::invalid(
                flag,
                &scalar(node).unwrap_or_default(),
                reason,
                origin,
            )),
        }
    }

    fn ignored(&mut self, key: &str) {
        self.warnings.push(format!(
            "the key {key:?} of the configuration file is unknown and ignored"
        ));
    }
}

/// Booleans of YAML 1.1, which etcd's files may use.
fn parse_old_bool(word: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn texts(items: &[Yaml]) -> Result<Vec<String>, String> {
    items
        .iter()
        .map(|item| scalar(item).ok_or_else(|| "expected a list of plain values".to_owned()))
        .collect()
}

fn scalar(node: &Yaml) -> Option<String> {
    match node {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn is_blank(node: &Yaml) -> bool {
    match node {
        Yaml::Null => true,
        Yaml::String(text) => text.is_empty(),
        Yaml::Array(items) => items.iter().all(is_blank),
        Yaml::Hash(entries) => entries.values().all(is_blank),
        _ => false,
    }
}

fn key_name(key: &Yaml) -> String {
    scalar(key).unwrap_or_else(|| "(not a plain key)".to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The keys of `client-transport-security` with their flags. Clients have no flag for common names of their own:
/// either limit must not be ignored, so both meet the same row.
const CLIENT_SECURITY: &[(&str, &str)] = &[
    ("cert-file", "cert-file"),
    ("key-file", "key-file"),
    ("client-cert-file", "client-cert-file"),
    ("client-key-file", "client-key-file"),
    ("client-cert-auth", "client-cert-auth"),
    ("trusted-ca-file", "trusted-ca-file"),
    ("client-crl-file", "client-crl-file"),
    ("auto-tls", "auto-tls"),
    ("allowed-cn", "client-cert-allowed-hostname"),
    ("allowed-hostname", "client-cert-allowed-hostname"),
];

const PEER_SECURITY: &[(&str, &str)] = &[
    ("cert-file", "peer-cert-file"),
    ("key-file", "peer-key-file"),
    ("client-cert-file", "peer-client-cert-file"),
    ("client-key-file", "peer-client-key-file"),
    ("client-cert-auth", "peer-client-cert-auth"),
    ("trusted-ca-file", "peer-trusted-ca-file"),
    ("client-crl-file", "peer-crl-file"),
    ("auto-tls", "peer-auto-tls"),
    ("allowed-cn", "peer-cert-allowed-cn"),
    ("allowed-hostname", "peer-cert-allowed-hostname"),
    (
        "skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
];

const SOCKET_OPTIONS: &[(&str, &str)] = &[
    ("reuse-port", "socket-reuse-port"),
    ("reuse-address", "socket-reuse-address"),
];
