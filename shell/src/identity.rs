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

    #[test]
    fn the_ids_of_three_members_are_etcds() {
        let members = [("m1", 12_380), ("m2", 22_380), ("m3", 32_380)].map(|(name, port)| {
            let url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
            (name.to_owned(), vec![url])
        });
        let ids = of_first_members(&BTreeMap::from(members), "etcd-cluster-1");
        let of_members = ["m1", "m2", "m3"].map(|name| ids.members[name]);
        assert_eq!(
            of_members,
            [
                0x8211_f1d0_f64f_3269,
                0x91bc_3c39_8fb3_c146,
                0xfd42_2379_fda5_0e48
            ]
        );
        assert_eq!(ids.cluster_id, 0xef37_ad9d_c622_a7c4);
    }

    #[test]
    fn an_added_member_has_its_id_from_its_urls_and_the_time() {
        let urls = ["http://a:1", "http://b:2"].map(ToOwned::to_owned);
        assert_eq!(of_added_member(&urls, 1_700_000_000), 0x8fa6_c544_4a91_4e68);
    }
}
