//! Operations in words.

use std::fmt;

use super::Op;

impl Op {
    fn tell_of_claims(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Stake { name, lease, .. } => write!(f, "claim {} with lease {lease}", text(name)),
            Op::Withdraw { claim, revision } => {
                write!(f, "withdraw the claim {}@{revision}", text(claim))
            }
            Op::Mark {
                claim,
                revision,
                key,
                value,
            } => {
                let (claim, key, value) = (text(claim), text(key), text(value));
                write!(f, "if the claim is {claim}@{revision} put {key}={value}")
            }
            _ => Ok(()),
        }
    }

    fn tell_of_leases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Grant { id, ttl_seconds } => write!(f, "grant lease {id} for {ttl_seconds}s"),
            Op::Revoke { id } => write!(f, "revoke lease {id}"),
            Op::Renew { id } => write!(f, "renew lease {id}"),
            Op::TimeToLive { id, keys } => {
                let what = if *keys { " with its keys" } else { "" };
                write!(f, "ask for lease {id}{what}")
            }
            Op::Leases => f.write_str("list the leases"),
            _ => Ok(()),
        }
    }
}

/// Bytes in words, as far as a line has room.
pub(super) fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=20 => bytes.escape_ascii().to_string(),
        length => format!("{}…({length} bytes)", bytes[..12].escape_ascii()),
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Put { key, value, lease } => {
                write!(f, "put {}={}", text(key), text(value))?;
                if *lease != 0 {
                    write!(f, " on lease {lease}")?;
                }
                Ok(())
            }
            Op::Delete { key, end } => write!(f, "delete [{}, {})", text(key), text(end)),
            Op::Txn {
                guards,
                puts,
                deletes,
            } => {
                f.write_str("if")?;
                let tell = |(key, at): &(Vec<u8>, i64)| format!(" {}@{at}", text(key));
                guards.iter().try_for_each(|it| f.write_str(&tell(it)))?;
                for (key, value) in puts {
                    write!(f, " put {}={}", text(key), text(value))?;
                }
                let tell = |key: &Vec<u8>| format!(" delete {}", text(key));
                deletes.iter().try_for_each(|it| f.write_str(&tell(it)))
            }
            Op::Read {
                key,
                end,
                revision,
                serializable,
            } => {
                let how = if *serializable { " serializable" } else { "" };
                write!(f, "read [{}, {}) @{revision}{how}", text(key), text(end))
            }
            Op::Compact { revision, physical } => {
                let how = if *physical { " physically" } else { "" };
                write!(f, "compact {revision}{how}")
            }
            Op::Recall {
                key,
                end,
                revision,
                to,
                value,
            } => {
                let (key, end, to, value) = (text(key), text(end), text(to), text(value));
                write!(f, "read [{key}, {end}) @{revision} and put {to}={value}")
            }
            Op::Flash { key, value } => {
                let (key, value) = (text(key), text(value));
                write!(f, "put {key}={value} and delete all from {key} on")
            }
            Op::Echo { key, end, value } => {
                let (key, end, value) = (text(key), text(end), text(value));
                write!(f, "put {key}={value} and read [{key}, {end})")
            }
            Op::Survey(survey) => survey.fmt(f),
            Op::Select(selection) => selection.fmt(f),
            Op::Stake { .. } | Op::Withdraw { .. } | Op::Mark { .. } => self.tell_of_claims(f),
            Op::Grant { .. }
            | Op::Revoke { .. }
            | Op::Renew { .. }
            | Op::TimeToLive { .. }
            | Op::Leases => self.tell_of_leases(f),
            Op::Publish { id } => write!(f, "publish m{id}"),
            Op::Change(change) => write!(f, "change: {change:?}"),
            Op::List { serializable: true } => f.write_str("list the members, serializable"),
            Op::List { .. } => f.write_str("list the members"),
            Op::Transfer { to } => write!(f, "let m{to} lead"),
        }
    }
}
