//! Who this member is and who the others are: from its data, from its flags, or from the cluster that it joins.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use metastore_core::output::MemberInfo;

use crate::config::{ClusterState, Config, ConfigError, Url};
use crate::disk::data_dir::MemberIdentity;
use crate::identity::{self, Ids};
use crate::peers::question::{self, KnownCluster, Patience};

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
    #[error(
        "member {id:x} has already been bootstrapped: the cluster knows it as {name:?}, but its data is not in --data-dir, \
         and without it this member could take back what it acknowledged; restore the data directory, or remove the \
         member and add it anew: `member remove {id:x}`, then `member add`"
    )]
    AlreadyBootstrapped { id: u64, name: String },
    #[error("cannot ask other members: {0}; raise the limit on open files or memory")]
    System(#[from] io::Error),
}

/// How long the other founders of a cluster are asked whether it is new. Founders that start together do not answer each
/// other: they listen, and serve when they know who they are.
const FOUNDERS_PATIENCE: Patience = Patience {
    longest: Duration::from_millis(500),
    after_first: Duration::from_millis(500),
};

/// How long the members of a cluster are asked about it.
const MEMBERS_PATIENCE: Patience = Patience {
    longest: Duration::from_secs(3),
    after_first: Duration::from_millis(500),
};

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

impl Bootstrap {
    /// Whether this member was added as a learner, as those say who let it join.
    pub(crate) fn joins_as_learner(&self) -> bool {
        let mut first = self.first.iter();
        first.any(|it| it.id == self.identity.member_id && it.is_learner)
    }

    /// The last life ended between its claim on the data directory and its first word in the log: it never voted, nor
    /// acknowledged anything, so this one begins as that did. A member that was to join goes on waiting for its leader.
    pub(crate) fn begin_again(&mut self, config: &Config) {
        if config.initial_cluster_state != ClusterState::New {
            return;
        }
        let ids = |it: &MemberIdentity| (it.cluster_id, it.member_id);
        match founding(config) {
            Ok(first) if ids(&first.identity) == ids(&self.identity) => {
                self.founders = first.founders;
                self.first = first.first;
            }
            // The flags have changed since, and have no meaning any more.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Founds a cluster, unless one of the other founders knows that this member has done so before. Then it has lost its
/// data, and with it the votes that it gave and the writes that it acknowledged: it must not be counted on again. Where
/// nobody can be asked, the cluster is taken to be new.
fn found_cluster(config: &Config) -> Result<Bootstrap, BootstrapError> {
    let bootstrap = founding(config)?;
    let others = urls_of_others(config);
    if !others.is_empty() {
        let answers = question::ask_all(&others, FOUNDERS_PATIENCE)?;
        let known: Vec<_> = answers.into_iter().flatten().collect();
        refuse_if_started(&known, bootstrap.identity.member_id)?;
    }
    Ok(bootstrap)
}

fn founding(config: &Config) -> Result<Bootstrap, BootstrapError> {
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
            // Not known before it has started.
            name: String::new(),
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
    let others = urls_of_others(config);
    if others.is_empty() {
        return Err(BootstrapError::NobodyToAsk);
    }
    let (mut known, mut failed) = (Vec::new(), Vec::new());
    for answer in question::ask_all(&others, MEMBERS_PATIENCE)? {
        match answer {
            Ok(cluster) => known.push(cluster),
            Err(reason) => failed.push(reason),
        }
    }
    let (member_id, known) = choose(config, known, failed)?;
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

/// The first answer that fits, and the id that it has for this member: one that does not fit may only be late. What
/// counts against a member counts whoever says it.
fn choose(
    config: &Config,
    known: Vec<KnownCluster>,
    failed: Vec<String>,
) -> Result<(u64, KnownCluster), BootstrapError> {
    let mut refused = None;
    for cluster in &known {
        let found = find_self(config, cluster)
            .and_then(|id| refuse_if_started(&known, id).map(|()| (id, cluster.clone())));
        match found {
            Ok(found) => return Ok(found),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(BootstrapError::NobodyAnswers { failed }))
}

/// A member has its name, and the URLs of its clients, from its first start on.
fn refuse_if_started(known: &[KnownCluster], id: u64) -> Result<(), BootstrapError> {
    let mut members = known.iter().flat_map(|cluster| &cluster.members);
    let started = |it: &&MemberInfo| !it.name.is_empty() || !it.client_urls.is_empty();
    match members.find(|it| it.id == id && started(it)) {
        Some(MemberInfo { name, .. }) => Err(BootstrapError::AlreadyBootstrapped {
            id,
            name: name.clone(),
        }),
        None => Ok(()),
    }
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

fn urls_of_others(config: &Config) -> Vec<Url> {
    let members = config.initial_cluster.iter();
    let others = members.filter(|(name, _)| **name != config.name);
    others.flat_map(|(_, urls)| urls.iter().cloned()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Action};

    fn joining() -> Config {
        let flags = "--name=b --initial-cluster=a=http://a:1,b=http://b:1 --initial-cluster-state=existing \
                     --listen-peer-urls=http://127.0.0.1:1 --initial-advertise-peer-urls=http://b:1";
        let startup = config::parse(
            flags.split_whitespace().map(Into::into),
            std::iter::empty(),
            |_| Err(io::ErrorKind::NotFound.into()),
        );
        let Action::Run(config) = startup.expect("flags").action else {
            panic!("the flags start a server");
        };
        *config
    }

    /// An answer that lists these members, each with its id, its name and its host.
    fn answer(members: &[(u64, &str, &str)]) -> KnownCluster {
        let members = members.iter().map(|(id, name, host)| MemberInfo {
            id: *id,
            name: (*name).to_owned(),
            peer_urls: vec![format!("http://{host}:1")],
            client_urls: Vec::new(),
            is_learner: false,
        });
        KnownCluster {
            cluster_id: 7,
            members: members.collect(),
        }
    }

    fn chosen(known: &[&KnownCluster]) -> Result<u64, String> {
        let known = known.iter().map(|it| (*it).clone()).collect();
        let chosen = choose(&joining(), known, vec!["a: silent".to_owned()]);
        chosen.map(|it| it.0).map_err(|error| error.to_string())
    }

    #[test]
    fn who_joins_hears_all_answers_since_some_may_be_late() {
        let before = answer(&[(1, "a", "a")]);
        let removed = answer(&[(1, "a", "a"), (2, "b", "b")]);
        let added = answer(&[(1, "a", "a"), (3, "", "b")]);
        let started = answer(&[(1, "a", "a"), (3, "b", "b")]);
        for late in [&before, &removed, &answer(&[])] {
            assert_eq!(chosen(&[late, &added]), Ok(3));
            assert_eq!(chosen(&[&added, late]), Ok(3));
        }
        for answers in [[&added, &started], [&started, &added]] {
            let refused = chosen(&answers).expect_err("it has lost its data");
            assert!(
                refused.starts_with("member 3 has already been bootstrapped"),
                "{refused}"
            );
        }
        let refused = chosen(&[&before]).expect_err("it was not added");
        assert!(refused.contains("member count is unequal"), "{refused}");
        let refused = chosen(&[]).expect_err("nobody answers");
        assert!(
            refused.contains("cannot fetch cluster info from peer urls: a: silent"),
            "{refused}"
        );
    }
}
