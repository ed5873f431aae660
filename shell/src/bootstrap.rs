//! Who this member is and who the others are: from its data, from its flags, or from the cluster that it joins.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use metastore_core::output::MemberInfo;

use crate::config::{ClusterState, Config, ConfigError, Url};
use crate::disk::data_dir::MemberIdentity;
use crate::identity::{self, Ids};
use crate::peers::question::{self, KnownCluster};

/// What a member knows before its log says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    pub(crate) identity: MemberIdentity,
    /// The members that found a new cluster together; none when this member joins one or has data.
    pub(crate) founders: BTreeMap<u64, Vec<String>>,
    /// Where to reach whom at first.
    pub(crate) first: Arc<[MemberInfo]>,
}

/// Why it is not known who this member is. Each text is one line that says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "the data directory belongs to member {owner:?}, and --name is {name:?}; give each member a data directory of its own"
    )]
    OtherMembersData { owner: String, name: String },
    #[error(
        "cannot fetch cluster info from peer urls: {}; start those members first, or correct --initial-cluster", failed.join("; ")
    )]
    NobodyAnswers { failed: Vec<String> },
    #[error(
        "--initial-cluster lists no other member to ask about the cluster; list all of them, or use --initial-cluster-state=new"
    )]
    NobodyToAsk,
    #[error(
        "error validating peerURLs: member count is unequal: --initial-cluster lists {listed} members, the cluster has {}; \
         list exactly the members that `member list` shows",
        show(members)
    )]
    CountDiffers {
        listed: usize,
        members: Vec<MemberInfo>,
    },
    #[error(
        "error validating peerURLs: unmatched member while checking PeerURLs: the cluster has no member at {urls} \
         ({name:?} in --initial-cluster), it has {}; add the member first, or make --initial-cluster equal to `member list`",
        show(members)
    )]
    Unmatched {
        name: String,
        urls: String,
        members: Vec<MemberInfo>,
    },
    #[error("cannot ask other members: {0}; raise the limit on open files or memory")]
    System(#[from] io::Error),
}

/// Finds out who this member is. `found` is what its data says, if it has any.
pub(crate) fn find_out(
    config: &Config,
    found: Option<&MemberIdentity>,
) -> Result<Bootstrap, BootstrapError> {
    match (found, config.initial_cluster_state) {
        (Some(found), _) => again(config, found),
        (None, ClusterState::New) => found_cluster(config),
        (None, ClusterState::Existing) => join(config),
    }
}

/// With data, the flags of the first start have no meaning any more, but to reach others before the log has said where
/// they are, and to notice a mix-up.
fn again(config: &Config, found: &MemberIdentity) -> Result<Bootstrap, BootstrapError> {
    let ids = ids(config);
    let owner = ids.members.iter().find(|(_, id)| **id == found.member_id);
    if let Some((owner, _)) = owner
        && *owner != config.name
        && ids.members.contains_key(&config.name)
    {
        return Err(BootstrapError::OtherMembersData {
            owner: owner.clone(),
            name: config.name.clone(),
        });
    }
    tracing::info!(
        member_id = format!("{:x}", found.member_id),
        cluster_id = format!("{:x}", found.cluster_id),
        data_dir = %config.data_dir.display(),
        "server has already been initialized; --initial-cluster flags are ignored"
    );
    Ok(Bootstrap {
        identity: found.clone(),
        founders: BTreeMap::new(),
        first: Arc::new([]),
    })
}

fn found_cluster(config: &Config) -> Result<Bootstrap, BootstrapError> {
    config.check_bootstrap()?;
    let ids = ids(config);
    let member_id = own_id(config, &ids)?;
    let founders: BTreeMap<u64, Vec<String>> = config
        .initial_cluster
        .iter()
        .filter_map(|(name, urls)| Some((*ids.members.get(name)?, texts(urls))))
        .collect();
    let first = config.initial_cluster.iter().filter_map(|(name, urls)| {
        Some(MemberInfo {
            id: *ids.members.get(name)?,
            name: name.clone(),
            peer_urls: texts(urls),
            client_urls: Vec::new(),
            is_learner: false,
        })
    });
    Ok(Bootstrap {
        identity: MemberIdentity {
            cluster_id: ids.cluster_id,
            member_id,
            name: config.name.clone(),
        },
        first: first.collect(),
        founders,
    })
}

fn join(config: &Config) -> Result<Bootstrap, BootstrapError> {
    config.check_bootstrap()?;
    let others = config.initial_cluster.iter();
    let urls: Vec<Url> = others
        .filter(|(name, _)| **name != config.name)
        .flat_map(|(_, urls)| urls.iter().cloned())
        .collect();
    if urls.is_empty() {
        return Err(BootstrapError::NobodyToAsk);
    }
    let known =
        question::ask_in_turn(&urls)?.map_err(|failed| BootstrapError::NobodyAnswers { failed })?;
    let member_id = find_self(config, &known)?;
    Ok(Bootstrap {
        identity: MemberIdentity {
            cluster_id: known.cluster_id,
            member_id,
            name: config.name.clone(),
        },
        founders: BTreeMap::new(),
        first: known.members.into(),
    })
}

/// The id that the cluster has for this member: every member listed must be in the cluster with the same peer URLs.
fn find_self(config: &Config, known: &KnownCluster) -> Result<u64, BootstrapError> {
    let members = &known.members;
    if config.initial_cluster.len() != members.len() {
        return Err(BootstrapError::CountDiffers {
            listed: config.initial_cluster.len(),
            members: members.clone(),
        });
    }
    let mut own = None;
    for (name, urls) in &config.initial_cluster {
        let listed = sorted(texts(urls));
        let same = members
            .iter()
            .find(|member| sorted(member.peer_urls.clone()) == listed);
        let Some(same) = same else {
            return Err(BootstrapError::Unmatched {
                name: name.clone(),
                urls: listed.join(","),
                members: members.clone(),
            });
        };
        if *name == config.name {
            own = Some(same.id);
        }
    }
    own.ok_or_else(|| ConfigError::NotInInitialCluster(config.name.clone()).into())
}

fn ids(config: &Config) -> Ids {
    identity::of_first_members(&config.initial_cluster, &config.initial_cluster_token)
}

fn own_id(config: &Config, ids: &Ids) -> Result<u64, ConfigError> {
    let id = ids.members.get(&config.name).copied();
    id.ok_or_else(|| ConfigError::NotInInitialCluster(config.name.clone()))
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn sorted(mut urls: Vec<String>) -> Vec<String> {
    urls.sort_unstable();
    urls
}

fn show(members: &[MemberInfo]) -> String {
    let each = members.iter().map(|member| {
        let name = match member.name.as_str() {
            "" => "(not started)",
            name => name,
        };
        format!("{name}={}", member.peer_urls.join(","))
    });
    format!("{}: {}", members.len(), each.collect::<Vec<_>>().join(" "))
}
