//! Who speaks to whom: said once per connection, checked by the receiver.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use metastore_core::raft::PEER_PROTOCOL;
use tonic::Status;

/// What a sender says of itself and of the receiver that it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) cluster_id: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Where the sender is reached.
    pub(super) peer_urls: Vec<String>,
}

/// Why a sender is refused. Each text says what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Something is missing: no member sent this.
    NoMember,
    /// The sender speaks another version of the protocol.
    Version { ours: u32, theirs: u32 },
    /// The sender belongs to another cluster.
    Cluster { ours: u64, theirs: u64 },
    /// The sender means another member.
    Receiver { ours: u64, theirs: u64 },
    /// The sender says that it is the receiver.
    Twin { ours: u64 },
}

const PROTOCOL: HeaderName = HeaderName::from_static("metastore-protocol");
const CLUSTER: HeaderName = HeaderName::from_static("metastore-cluster");
const FROM: HeaderName = HeaderName::from_static("metastore-from");
const TO: HeaderName = HeaderName::from_static("metastore-to");
const PEER_URLS: HeaderName = HeaderName::from_static("metastore-peer-urls");

impl Introduction {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(PROTOCOL, HeaderValue::from(PEER_PROTOCOL));
        headers.insert(CLUSTER, HeaderValue::from(self.cluster_id));
        headers.insert(FROM, HeaderValue::from(self.from));
        headers.insert(TO, HeaderValue::from(self.to));
        // URLs are plain text; one that is not is not worth a connection.
        if let Ok(urls) = HeaderValue::from_str(&self.peer_urls.join(",")) {
            headers.insert(PEER_URLS, urls);
        }
    }

    /// What a sender says, if it is of this version.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        let theirs = u32::try_from(number(headers, &PROTOCOL)?).unwrap_or(u32::MAX);
        if theirs != PEER_PROTOCOL {
            let ours = PEER_PROTOCOL;
            return Err(Refused::Version { ours, theirs });
        }
        let urls = headers.get(PEER_URLS).and_then(|urls| urls.to_str().ok());
        let urls = urls
            .unwrap_or_default()
            .split(',')
            .filter(|url| !url.is_empty());
        Ok(Self {
            cluster_id: number(headers, &CLUSTER)?,
            from: number(headers, &FROM)?,
            to: number(headers, &TO)?,
            peer_urls: urls.map(str::to_owned).collect(),
        })
    }

    /// Whether the member with these ids is meant.
    pub(super) fn check(&self, cluster_id: u64, member_id: u64) -> Result<(), Refused> {
        if self.cluster_id != cluster_id {
            return Err(Refused::Cluster {
                ours: cluster_id,
                theirs: self.cluster_id,
            });
        }
        if self.to != member_id {
            return Err(Refused::Receiver {
                ours: member_id,
                theirs: self.to,
            });
        }
        if self.from == member_id {
            return Err(Refused::Twin { ours: member_id });
        }
        Ok(())
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Refused> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let number = value.and_then(|value| value.parse().ok());
    number.ok_or(Refused::NoMember)
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Status::failed_precondition(refused.to_string())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember => f.write_str(
                "this is a URL for members of the cluster; clients connect to a client URL",
            ),
            Self::Version { ours, theirs } => write!(
                f,
                "peer protocol mismatch: the receiver speaks version {ours}, the sender version {theirs}; \
                 run versions of the server that speak the same"
            ),
            Self::Cluster { ours, theirs } => write!(
                f,
                "cluster ID mismatch: the receiver belongs to cluster {ours:x}, the sender to cluster {theirs:x}; \
                 correct --initial-cluster or --initial-cluster-token of whichever is wrong and remove its data directory, \
                 or remove the other cluster's peer URL"
            ),
            Self::Receiver { ours, theirs } => write!(
                f,
                "member ID mismatch: the receiver is member {ours:x}, the letters are for member {theirs:x}; \
                 correct the peer URLs of one of them with a member update"
            ),
            Self::Twin { ours } => write!(
                f,
                "two processes say that they are member {ours:x}: a data directory was copied, or two peer URLs lead to \
                 the same place; stop one of them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction() -> Introduction {
        Introduction {
            cluster_id: 1,
            from: 2,
            to: 3,
            peer_urls: vec!["http://a:1".into(), "http://b:2".into()],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut headers = HeaderMap::new();
        introduction().write(&mut headers);
        assert_eq!(Introduction::read(&headers), Ok(introduction()));
    }

    #[test]
    fn whoever_is_not_meant_or_not_understood_is_told_apart() {
        let mut headers = HeaderMap::new();
        assert_eq!(Introduction::read(&headers), Err(Refused::NoMember));
        introduction().write(&mut headers);
        headers.insert(PROTOCOL, HeaderValue::from(77));
        let refused = Introduction::read(&headers).expect_err("another version");
        assert!(refused.to_string().contains("version 77"), "{refused}");
        let check = |cluster, member| introduction().check(cluster, member);
        assert_eq!(check(1, 3), Ok(()));
        assert_eq!(check(9, 3), Err(Refused::Cluster { ours: 9, theirs: 1 }));
        assert_eq!(check(1, 9), Err(Refused::Receiver { ours: 9, theirs: 3 }));
        let twin = Introduction {
            from: 3,
            ..introduction()
        };
        assert_eq!(twin.check(1, 3), Err(Refused::Twin { ours: 3 }));
    }
}
