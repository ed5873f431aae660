//! The named features that can be switched on or off: `InitialCorruptCheck=true,FastLeaseKeepAlive=false`.

use std::collections::BTreeMap;

/// The switches of all features; those not mentioned stand at their default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureGates {
    switched: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Whether a feature is on. `None` for a name that is not in [`FEATURES`].
    pub fn is_on(&self, name: &str) -> Option<bool> {
        let (name, default) = FEATURES.iter().find(|(known, _)| *known == name)?;
        Some(self.switched.get(name).copied().unwrap_or(*default))
    }

    /// Parses `Name=true,Other=false`; the error says what was expected.
    pub(super) fn parse(text: &str) -> Result<FeatureGates, String> {
        let mut gates = FeatureGates::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (name, switch) = item
                .split_once('=')
                .ok_or_else(|| format!("expected Name=true or Name=false (at {item:?})"))?;
            let (name, default) = FEATURES
                .iter()
                .find(|(known, _)| *known == name.trim())
                .ok_or_else(|| {
                    format!(
                        "unrecognized feature gate: {name}; known are {}",
                        known_names()
                    )
                })?;
            let on = match switch.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => true,
                "false" | "f" | "0" => false,
                _ => return Err(format!("expected {name}=true or {name}=false")),
            };
            // Only deviations are kept, so that spelling out a default equals leaving it out.
            if on == *default {
                gates.switched.remove(name);
            } else {
                gates.switched.insert(name, on);
            }
        }
        if gates.is_on("LeaseCheckpointPersist") == Some(true)
            && gates.is_on("LeaseCheckpoint") != Some(true)
        {
            return Err("LeaseCheckpointPersist=true needs LeaseCheckpoint=true".to_owned());
        }
        Ok(gates)
    }
}

fn known_names() -> String {
    FEATURES
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Every feature and its default.
pub const FEATURES: &[(&str, bool)] = &[
    ("StopGRPCServiceOnDefrag", false),
    ("InitialCorruptCheck", false),
    ("CompactHashCheck", false),
    ("TxnModeWriteWithSharedBuffer", true),
    ("LeaseCheckpoint", false),
    ("LeaseCheckpointPersist", false),
    ("SetMemberLocalAddr", false),
    ("FastLeaseKeepAlive", true),
    ("PriorityRequest", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_stand_at_their_defaults_until_switched() {
        let gates =
            FeatureGates::parse("InitialCorruptCheck=true, FastLeaseKeepAlive=False").unwrap();
        assert_eq!(gates.is_on("InitialCorruptCheck"), Some(true));
        assert_eq!(gates.is_on("FastLeaseKeepAlive"), Some(false));
        assert_eq!(gates.is_on("TxnModeWriteWithSharedBuffer"), Some(true));
        assert_eq!(gates.is_on("Nonsense"), None);
        assert_eq!(
            FeatureGates::parse("PriorityRequest=false"),
            Ok(FeatureGates::default())
        );
    }

    #[test]
    fn unknown_gates_and_unmet_needs_are_refused() {
        let fault = |text: &str| FeatureGates::parse(text).unwrap_err();
        assert!(fault("Nonsense=true").starts_with("unrecognized feature gate: Nonsense"));
        assert!(fault("PriorityRequest").starts_with("expected Name=true"));
        assert!(fault("PriorityRequest=maybe").starts_with("expected PriorityRequest=true"));
        assert!(fault("LeaseCheckpointPersist=true").contains("needs LeaseCheckpoint=true"));
        assert!(FeatureGates::parse("LeaseCheckpointPersist=true,LeaseCheckpoint=true").is_ok());
    }
}
