//! Refuses the settings whose features are not built and which would be dangerous to ignore, and lists the harmless.

use super::error::ConfigError;
use super::flag_table::{Flag, Kind, Support};
use super::url::Url;
use super::value::{self, Settings, Value};

/// Refuses the first dangerous setting. Returns the flags that were set to something that has no effect.
pub(super) fn check(settings: &Settings) -> Result<Vec<&'static str>, ConfigError> {
    let mut inert = Vec::new();
    for (flag, value, _) in settings.given() {
        let is_default = flag.kind != Kind::Ignored && *value == value::default_value(flag);
        match flag.support {
            Support::Refused(why) if !is_default => {
                return Err(ConfigError::Unsupported {
                    setting: settings.setting(flag.name),
                    why: why.to_owned(),
                });
            }
            Support::Inert if !is_default => inert.push(flag.name),
            _ => {}
        }
        check_value(settings, flag, value)?;
    }
    Ok(inert)
}

/// The limits that hold for some values of flags that are otherwise supported.
fn check_value(settings: &Settings, flag: &Flag, value: &Value) -> Result<(), ConfigError> {
    match value {
        Value::Urls(urls) => urls
            .iter()
            .try_for_each(|url| check_url(settings, flag, url)),
        Value::Cluster(members) => members
            .values()
            .flatten()
            .try_for_each(|url| check_url(settings, flag, url)),
        _ => Ok(()),
    }
}

fn check_url(settings: &Settings, flag: &Flag, url: &Url) -> Result<(), ConfigError> {
    let refuse = |why: &str| {
        Err(ConfigError::UnsupportedValue {
            setting: settings.setting(flag.name),
            value: url.to_string(),
            why: why.to_owned(),
        })
    };
    if url.is_unix() {
        return refuse("unix sockets are not built; use http:// with an address and a port");
    }
    if url.scheme.is_tls() {
        return refuse("TLS is not built; use http:// on a trusted network");
    }
    if flag.kind == Kind::ListenUrls && url.socket_address().is_none() {
        return Err(ConfigError::ListenNeedsIp {
            setting: settings.setting(flag.name),
            url: url.clone(),
        });
    }
    Ok(())
}
