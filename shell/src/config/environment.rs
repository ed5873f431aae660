//! Reads `METASTORE_SOME_FLAG` and `ETCD_SOME_FLAG`; the first wins over the second.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ConfigError, Origin};
use super::flag_table;
use super::value::Settings;

/// The prefixes of variables that set flags, the strongest first.
const PREFIXES: [&str; 2] = ["METASTORE_", "ETCD_"];

/// The variables with one of our prefixes and a value. An empty variable is an unset one.
#[derive(Debug)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Keeps what concerns this server.
    pub(super) fn new(env: impl Iterator<Item = (String, String)>) -> Environment {
        let is_ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Environment {
            variables: env
                .filter(|(name, value)| is_ours(name) && !value.is_empty())
                .collect(),
        }
    }

    /// The value for the flag whose variable has this name after its prefix.
    pub(super) fn get(&self, suffix: &str) -> Option<&str> {
        PREFIXES
            .iter()
            .find_map(|prefix| self.variables.get(&format!("{prefix}{suffix}")))
            .map(String::as_str)
    }

    /// The names of the variables that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Adds to the flags of the command line what the environment sets. A variable for a flag that is on the
    /// command line is an error; a variable for no flag at all is a warning.
    pub(super) fn add_to(
        &self,
        settings: &mut Settings,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let mut unknown: BTreeSet<&str> = self.variables.keys().map(String::as_str).collect();
        for flag in
            flag_table::flags().filter(|flag| flag.name != "version" && flag.name != "config-file")
        {
            let on_command_line = settings.is_given(flag.name);
            let mut is_set = false;
            for prefix in PREFIXES {
                let variable = format!("{prefix}{}", flag.variable());
                let Some(value) = self.variables.get(&variable) else {
                    continue;
                };
                unknown.remove(variable.as_str());
                if on_command_line {
                    return Err(ConfigError::Shadowed {
                        variable,
                        flag: flag.name,
                    });
                }
                if is_set {
                    warnings.push(format!(
                        "{variable} is ignored: METASTORE_{} is set too",
                        flag.variable()
                    ));
                    continue;
                }
                settings.set(flag, value, Origin::Variable(variable))?;
                is_set = true;
            }
        }
        for variable in unknown {
            warnings.push(format!(
                "unrecognized environment variable {variable} is ignored"
            ));
        }
        Ok(())
    }
}
