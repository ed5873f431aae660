//! Member and cluster ids as etcd derives them, so that tools and scripts find the ids they expect.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use crate::config::Url;

/// The ids of a cluster's first members and of the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) cluster_id: u64,
    /// By member name.
    pub(crate) members: BTreeMap<String, u64>,
}

/// A member's id is the head of SHA-1 over its sorted peer URLs and the cluster token; the cluster's id is
/// the head of SHA-1 over all member ids in ascending order, eight bytes each, big-endian.
pub(crate) fn of_first_members(members: &BTreeMap<String, Vec<Url>>, token: &str) -> Ids {
    let members: BTreeMap<String, u64> = members
        .iter()
        .map(|(name, urls)| (name.clone(), member_id(urls, token)))
        .collect();
    let mut ids: Vec<u64> = members.values().copied().collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    Ids {
        cluster_id: head(&bytes),
        members,
    }
}

fn member_id(urls: &[Url], token: &str) -> u64 {
    let mut urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
    urls.sort_unstable();
    head(format!("{}{token}", urls.concat()).as_bytes())
}

/// The id of a member that is added at this time, in seconds since 1970: as above, with the time for the token.
/// The URLs are sorted.
pub(crate) fn of_added_member(urls: &[String], seconds: u64) -> u64 {
    head(format!("{}{seconds}", urls.concat()).as_bytes())
}

fn head(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_cluster_has_the_ids_that_etcd_gives_it() {
        let url = "http://localhost:2380".parse().expect("a URL");
        let ids = of_first_members(
            &BTreeMap::from([("default".to_owned(), vec![url])]),
            "etcd-cluster",
        );
        assert_eq!(ids.members["default"], 0x8e9e_05c5_2164_694d);
        assert_eq!(ids.cluster_id, 0xcdf8_1819_4e3a_8c32);
    }
}
