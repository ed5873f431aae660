//! Members come and go while the cluster runs: added, promoted, removed, moved, replaced.

mod cluster;

use std::time::Duration;

use cluster::{
    connection::{Connection, single_threaded_runtime},
    eventually::eventually,
    server_process::ServerProcess,
    several::{Several, get, in_words, put, status},
    watch_stream::{WatchStream, create},
};
use futures_util::stream;
use metastore_proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, Member,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, RangeRequest, ResponseHeader, TxnRequest,
    WatchCreateRequest,
};
use metastore_proto::health::HealthCheckRequest;
use metastore_proto::v3electionpb::CampaignRequest;
use metastore_proto::v3lockpb::LockRequest;
use tonic::Status;

async fn connect(member: &ServerProcess) -> Connection {
    Connection::open(member.client_address())
        .await
        .expect("a ready server")
}

impl Connection {
    async fn members(&mut self) -> Result<Vec<Member>, String> {
        let list = MemberListRequest { linearizable: true };
        let listed = self.cluster.member_list(list).await.map_err(in_words)?;
        Ok(listed.into_inner().members)
    }

    async fn add(&mut self, url: &str, is_learner: bool) -> Result<Member, String> {
        let add = MemberAddRequest {
            peer_ur_ls: vec![url.to_owned()],
            is_learner,
        };
        let added = self.cluster.member_add(add).await.map_err(in_words)?;
        Ok(added.into_inner().member.expect("the new member"))
    }

    async fn remove(&mut self, id: u64) -> Result<(), String> {
        let removed = self.cluster.member_remove(MemberRemoveRequest { id }).await;
        removed.map(|_| ()).map_err(in_words)
    }

    async fn promote(&mut self, id: u64) -> Result<ResponseHeader, String> {
        let promoted = self
            .cluster
            .member_promote(MemberPromoteRequest { id })
            .await;
        let promoted = promoted.map_err(in_words)?.into_inner();
        Ok(promoted.header.expect("a header"))
    }
}

async fn own_id(member: &ServerProcess) -> u64 {
    let status = status(member).await.expect("a status");
    status.header.expect("a header").member_id
}

/// Adds a member through the leader as soon as the cluster counts as healthy, and starts it.
async fn add_and_start(
    several: &mut Several,
    mut newcomer: ServerProcess,
    learner: bool,
) -> Member {
    let leader = several.leader().await;
    let mut connection = connect(&several.members[leader]).await;
    let url = newcomer.peer_url();
    let added = eventually("the member is added", async || {
        connection.add(&url, learner).await
    })
    .await;
    let list = format!("{},{}={url}", several.initial_cluster(), newcomer.name());
    newcomer.set_cluster(&list, "existing");
    newcomer.spawn();
    several.members.push(newcomer);
    added
}

#[test]
fn a_cluster_of_one_grows_to_three_and_every_member_has_everything() {
    let mut several = Several::of(1, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        put(&several.members[0], "before", "v")
            .await
            .expect("a write");
        for name in ["m2", "m3"] {
            let newcomer = ServerProcess::metastore(&[]).named(name);
            let added = add_and_start(&mut several, newcomer, false).await;
            let newest = several.members.last_mut().expect("the newcomer");
            newest.wait_until_healthy();
            assert_eq!(
                own_id(newest).await,
                added.id,
                "the id is the one it was added with"
            );
            assert_eq!(get(newest, "before", true).await, Ok(Some("v".to_owned())));
        }
        let members = connect(&several.members[1])
            .await
            .members()
            .await
            .expect("a list");
        let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["m1", "m2", "m3"]);
        // Three voters, as soon as the third is healthy: one may be lost.
        several.members[0].kill();
        several.members.remove(0);
        several
            .write_through_any("after", Duration::from_secs(10))
            .await;
    });
}

#[test]
fn a_learner_serves_what_learners_serve_until_it_is_promoted() {
    let mut several = Several::of(1, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let learner = ServerProcess::metastore(&[]).named("m2");
        let added = add_and_start(&mut several, learner, true).await;
        assert!(added.is_learner);
        let [voter, learner] = &mut several.members[..] else {
            panic!("two members")
        };
        learner.wait_until_ready();
        put(voter, "k", "v").await.expect("a write");
        let refused =
            Err("FailedPrecondition: etcdserver: rpc not supported for learner".to_owned());
        assert_eq!(put(learner, "k", "w").await, refused);
        assert_eq!(get(learner, "k", false).await.map(|_| ()), refused);
        let found = eventually("the learner has the write", async || {
            get(learner, "k", true)
                .await?
                .ok_or_else(|| "not yet".to_owned())
        });
        assert_eq!(found.await, "v");
        assert!(status(learner).await.expect("a status").is_learner);

        let mut connection = connect(voter).await;
        let too_many = connection.add("http://127.0.0.1:1", true).await;
        assert_eq!(
            too_many.map(|_| ()),
            Err("FailedPrecondition: etcdserver: too many learner members in cluster".to_owned())
        );
        let header = eventually("the learner is promoted", async || {
            connection.promote(added.id).await
        })
        .await;
        assert_eq!(
            (header.member_id, header.revision),
            (own_id(voter).await, 0)
        );
        assert_eq!(
            connection.promote(added.id).await,
            Err("FailedPrecondition: etcdserver: can only promote a learner member".to_owned())
        );
        eventually("the promoted member writes", async || {
            put(learner, "k", "w").await
        })
        .await;
    });
}

/// What a member answers to calls that only voters serve.
async fn of_voters(to: &mut Connection) -> Vec<(&'static str, Result<(), Status>)> {
    let read = RangeRequest {
        key: b"k".to_vec(),
        serializable: true,
        ..RangeRequest::default()
    };
    let watch = create(WatchCreateRequest {
        key: b"k".to_vec(),
        ..WatchCreateRequest::default()
    });
    let list = MemberListRequest::default();
    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    let renewals = stream::iter([LeaseKeepAliveRequest { id: 7 }]);
    let lock = LockRequest {
        name: b"lock".to_vec(),
        lease: 0,
    };
    let campaign = CampaignRequest {
        name: b"post".to_vec(),
        ..CampaignRequest::default()
    };
    let compaction = CompactionRequest::default();
    vec![
        ("RangeStream", to.kv.range_stream(read).await.map(drop)),
        ("Txn", to.kv.txn(TxnRequest::default()).await.map(drop)),
        ("Compact", to.kv.compact(compaction).await.map(drop)),
        ("Watch", WatchStream::open(to, watch).await.map(drop)),
        ("LeaseGrant", to.lease.lease_grant(grant).await.map(drop)),
        (
            "LeaseKeepAlive",
            to.lease.lease_keep_alive(renewals).await.map(drop),
        ),
        ("MemberList", to.cluster.member_list(list).await.map(drop)),
        (
            "HashKV",
            to.maintenance
                .hash_kv(HashKvRequest::default())
                .await
                .map(drop),
        ),
        ("Lock", to.lock.lock(lock).await.map(drop)),
        ("Campaign", to.election.campaign(campaign).await.map(drop)),
        (
            "Health",
            to.health
                .check(HealthCheckRequest::default())
                .await
                .map(drop),
        ),
    ]
}

#[test]
fn a_learner_refuses_all_but_its_status_and_its_own_keys() {
    let mut several = Several::of(1, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        put(&several.members[0], "k", "v").await.expect("a write");
        let learner = ServerProcess::metastore(&[]).named("m2");
        add_and_start(&mut several, learner, true).await;
        let learner = &mut several.members[1];
        learner.wait_until_ready();
        for (call, answer) in of_voters(&mut connect(learner).await).await {
            assert_eq!(
                answer.map_err(in_words),
                Err("FailedPrecondition: etcdserver: rpc not supported for learner".to_owned()),
                "{call}"
            );
        }
        let found = eventually("the learner has the write", async || {
            get(learner, "k", true)
                .await?
                .ok_or_else(|| "not yet".to_owned())
        });
        assert_eq!(found.await, "v");
        assert!(status(learner).await.expect("a status").is_learner);
        // All of it is served by members that vote.
        for (call, answer) in of_voters(&mut connect(&several.members[0]).await).await {
            assert!(answer.is_ok(), "{call}: {answer:?}");
        }
    });
}

#[test]
fn a_status_tells_versions_sizes_and_quota() {
    for (flags, quota) in [
        (&[][..], 2_147_483_648),
        (&["--quota-backend-bytes=100000"], 100_000),
        (&["--quota-backend-bytes=-1"], -1),
    ] {
        let mut server = ServerProcess::metastore(flags);
        server.start();
        single_threaded_runtime().block_on(async {
            let empty = status(&server).await.expect("a status");
            assert!(empty.db_size > 0, "clients divide by it");
            put(&server, "k", &"v".repeat(5_000))
                .await
                .expect("a write");
            let told = status(&server).await.expect("a status");
            assert_eq!((&*told.version, &*told.storage_version), ("3.7.0", "3.7.0"));
            assert!(
                empty.db_size_in_use + 5_000 < told.db_size_in_use,
                "{told:?}"
            );
            assert!(told.db_size_in_use <= told.db_size, "{told:?}");
            assert_eq!(told.db_size_quota, quota);
            assert_eq!(told.errors, [""; 0]);
        });
    }
}

#[test]
fn answers_about_members_carry_no_revision() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        put(&server, "k", "v").await.expect("a write");
        let status = status(&server).await.expect("a status").header;
        let expected = status.map(|header| ResponseHeader {
            revision: 0,
            ..header
        });
        assert!(
            expected.is_some_and(|it| it.cluster_id != 0 && it.member_id != 0 && it.raft_term != 0)
        );
        let mut members = connect(&server).await.cluster;
        for linearizable in [true, false] {
            let listed = members
                .member_list(MemberListRequest { linearizable })
                .await;
            assert_eq!(listed.expect("a list").into_inner().header, expected);
        }
        let add = MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
            is_learner: true,
        };
        let added = members.member_add(add).await.expect("a learner is added");
        let added = added.into_inner();
        assert_eq!(added.header, expected);
        let id = added.member.expect("the new member").id;
        let update = MemberUpdateRequest {
            id,
            peer_ur_ls: vec!["http://127.0.0.1:2".to_owned()],
        };
        let updated = members.member_update(update).await;
        assert_eq!(updated.expect("it moves").into_inner().header, expected);
        let removed = members.member_remove(MemberRemoveRequest { id }).await;
        assert_eq!(removed.expect("it goes").into_inner().header, expected);
    });
}

#[test]
fn a_removed_member_ends_well_and_does_not_come_back() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        let place = (leader + 1) % 3;
        let id = own_id(&several.members[place]).await;
        let mut connection = connect(&several.members[leader]).await;
        eventually("the member is removed", async || {
            connection.remove(id).await
        })
        .await;
        let mut removed = several.members.remove(place);
        assert_eq!(removed.wait_for_exit().code(), Some(0));
        let gone = "the member has been permanently removed from the cluster";
        assert!(removed.stderr().contains(gone), "{}", removed.stderr());
        let members = connection.members().await.expect("a list");
        assert_eq!(members.len(), 2);
        several
            .write_through_any("after", Duration::from_secs(10))
            .await;

        let ending = removed.run_to_refusal();
        assert_eq!(ending.status.code(), Some(1), "{ending:?}");
        assert!(ending.stderr.contains(gone), "{ending:?}");
        assert_eq!(
            connection.remove(id).await,
            Err("NotFound: etcdserver: member not found".to_owned())
        );
    });
}

#[test]
fn a_member_that_lost_its_disk_is_refused_until_it_is_added_anew() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        put(&several.members[leader], "k", "v")
            .await
            .expect("a write");
        let place = (leader + 1) % 3;
        let id = own_id(&several.members[place]).await;
        several.members[place].kill();
        let list = several.initial_cluster();
        for state in ["new", "existing"] {
            several.members[place].wipe();
            several.members[place].set_cluster(&list, state);
            let ending = several.members[place].run_to_refusal();
            let told = &ending.stderr;
            assert!(
                told.contains(&format!("member {id:x} has already been bootstrapped"))
                    && told.contains(&format!("`member remove {id:x}`, then `member add`")),
                "{state}: {told}"
            );
        }
        several.members[place].wipe();
        let lost = several.members.remove(place);
        let leader = several.leader().await;
        let mut connection = connect(&several.members[leader]).await;
        eventually("the lost member is removed", async || {
            connection.remove(id).await
        })
        .await;
        let added = add_and_start(&mut several, lost, false).await;
        assert_ne!(added.id, id);
        assert_eq!(added.name, "", "it has not started yet");
        let replaced = several.members.last_mut().expect("the replacement");
        replaced.wait_until_healthy();
        assert_eq!(get(replaced, "k", true).await, Ok(Some("v".to_owned())));
    });
}

#[test]
fn a_member_moves_to_another_peer_url() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        let place = (leader + 1) % 3;
        let id = own_id(&several.members[place]).await;
        several.members[place].move_peer_port();
        let url = several.members[place].peer_url();
        let mut connection = connect(&several.members[leader]).await;
        let update = MemberUpdateRequest {
            id,
            peer_ur_ls: vec![url.clone()],
        };
        connection
            .cluster
            .member_update(update)
            .await
            .expect("an update");
        // Until it is started anew nobody reaches it there.
        several.members[place].stop();
        several.members[place].start();
        let other = (leader + 2) % 3;
        several.members[other].kill();
        let took = several
            .write_through_any_of(&[leader, place], "after", Duration::from_secs(10))
            .await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        let members = connection.members().await.expect("a list");
        let moved = members
            .iter()
            .find(|member| member.id == id)
            .expect("the member");
        assert_eq!(moved.peer_ur_ls, [url]);
    });
}

#[test]
fn leadership_moves_where_it_is_sent() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        let target = (leader + 1) % 3;
        let target_id = own_id(&several.members[target]).await;
        let mv = |target_id| MoveLeaderRequest { target_id };
        let mut follower = connect(&several.members[target]).await;
        let refused = follower.maintenance.move_leader(mv(target_id)).await;
        assert_eq!(
            refused.map(|_| ()).map_err(in_words),
            Err("FailedPrecondition: etcdserver: not leader".to_owned())
        );
        let mut connection = connect(&several.members[leader]).await;
        let unknown = connection.maintenance.move_leader(mv(1)).await;
        assert_eq!(
            unknown.map(|_| ()).map_err(in_words),
            Err("FailedPrecondition: etcdserver: bad leader transferee".to_owned())
        );
        connection
            .maintenance
            .move_leader(mv(target_id))
            .await
            .expect("a transfer");
        let began = std::time::Instant::now();
        put(&several.members[target], "k", "v")
            .await
            .expect("the new leader takes writes");
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(several.leader().await, target);
        let log = several.members[target].stderr();
        let told = format!("{target_id:x} became leader at term");
        assert!(log.contains(&told), "{log}");
    });
}

#[test]
fn a_member_that_was_down_for_long_catches_up_by_snapshot() {
    let flags = ["--snapshot-count=50", "--snapshot-catchup-entries=10"];
    let mut several = Several::of(3, &flags);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        let place = (leader + 1) % 3;
        several.members[place].kill();
        let mut connection = connect(&several.members[leader]).await;
        for n in 0..500 {
            let put = metastore_proto::etcdserverpb::PutRequest {
                key: format!("k{n}").into_bytes(),
                value: vec![b'v'; 10_000],
                ..Default::default()
            };
            connection.kv.put(put).await.expect("a write");
        }
        several.members[place].start();
        let found = get(&several.members[place], "k499", true).await;
        assert_eq!(found.map(|it| it.map(|it| it.len())), Ok(Some(10_000)));
        put(&several.members[place], "after", "v")
            .await
            .expect("a write");
    });
}
