//! How members find each other at their first start, and what is said when they cannot.

mod cluster;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    eventually::eventually,
    server_process::{Ending, ServerProcess},
    several::{Several, get, in_words, put, status},
};
use metastore::disk::{
    data_dir::{DataDir, MemberIdentity},
    files::RealFiles,
    wal_file::{Wal, WalOptions},
};
use metastore_core::wal::LogIdentity;
use metastore_proto::etcdserverpb::{Member, MemberAddRequest, MemberListRequest};

/// The only line on stderr that is not a line of the log.
fn complaint(ending: &Ending) -> &str {
    let mut lines = ending.stderr.lines().filter(|line| !line.starts_with('{'));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("nothing was said: {ending:?}"));
    assert_eq!(lines.next(), None, "one line was expected: {ending:?}");
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    line
}

/// What a member with these settings complains of.
fn refused(members: &str, state: &'static str) -> String {
    let mut server = ServerProcess::metastore(&[]);
    let members = members.replace("SELF", &server.peer_url());
    server.set_cluster(&members, state);
    let ending = server.run_to_refusal();
    complaint(&ending).to_owned()
}

async fn members(of: &ServerProcess) -> Vec<Member> {
    let mut connection = Connection::open(of.client_address())
        .await
        .expect("a ready server");
    let list = MemberListRequest { linearizable: true };
    let listed = connection.cluster.member_list(list).await.expect("a list");
    listed.into_inner().members
}

async fn add(through: &ServerProcess, url: &str, is_learner: bool) -> Result<Member, String> {
    let mut connection = Connection::open(through.client_address()).await?;
    let add = MemberAddRequest {
        peer_ur_ls: vec![url.to_owned()],
        is_learner,
    };
    let added = connection.cluster.member_add(add).await.map_err(in_words)?;
    Ok(added.into_inner().member.expect("the new member"))
}

#[test]
fn a_list_without_this_member_or_with_other_urls_or_with_one_twice_is_refused() {
    let line = refused("two=http://127.0.0.1:1", "new");
    assert!(
        line.contains("does not list this member: add \"one\""),
        "{line}"
    );
    let line = refused("one=http://127.0.0.1:1", "new");
    assert!(
        line.contains("--initial-advertise-peer-urls is http://127.0.0.1:"),
        "{line}"
    );
    let line = refused("one=SELF,two=SELF", "new");
    assert!(line.contains("to both \"one\" and \"two\""), "{line}");
}

#[test]
fn joining_needs_somebody_who_answers() {
    let line = refused("one=SELF", "existing");
    assert!(line.contains("lists no other member to ask"), "{line}");
    let line = refused("one=SELF,two=http://127.0.0.1:1", "existing");
    assert!(
        line.contains(
            "cannot fetch cluster info from peer urls: http://127.0.0.1:1: Connection refused"
        ),
        "{line}"
    );
}

#[test]
fn joining_needs_the_list_that_the_cluster_has() {
    let mut cluster = ServerProcess::metastore(&[]).named("first");
    cluster.start();
    let first = format!("first={}", cluster.peer_url());
    let line = refused(&format!("{first},one=SELF"), "existing");
    assert!(
        line.contains(
            "member count is unequal: --initial-cluster lists 2 members, the cluster has 1: first="
        ),
        "{line}"
    );
    single_threaded_runtime().block_on(async {
        add(&cluster, "http://127.0.0.1:7", false)
            .await
            .expect("a member is added");
    });
    let line = refused(&format!("{first},one=SELF"), "existing");
    assert!(
        line.contains("unmatched member while checking PeerURLs"),
        "{line}"
    );
    assert!(line.contains("(not started)=http://127.0.0.1:7"), "{line}");
}

#[test]
fn a_peer_port_in_use_is_named_and_no_data_is_made() {
    let mut server = ServerProcess::metastore(&[]);
    let _in_the_way = std::net::TcpListener::bind(server.peer_address()).expect("the port is free");
    let ending = server.run_to_refusal();
    let line = complaint(&ending);
    assert!(
        line.contains(&server.peer_url()) && line.contains("--listen-peer-urls"),
        "{line}"
    );
    assert!(!server.data_dir().exists());
}

#[test]
fn a_member_with_data_ignores_what_it_is_told_of_the_first_members() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    server.stop();
    server.set_cluster("nonsense=http://127.0.0.1:1", "existing");
    server.start();
    assert!(
        server
            .stderr()
            .contains("server has already been initialized"),
        "{}",
        server.stderr()
    );
}

#[test]
fn the_data_of_another_member_are_refused() {
    let mut several = Several::of(3, &[]);
    several.start();
    let data = several.members[0].data_dir();
    several.members[0].stop();
    several.members[1].stop();
    let flag = format!("--data-dir={}", data.display());
    several.members[1].set_extra_flags(&[&flag]);
    let ending = several.members[1].run_to_refusal();
    let line = complaint(&ending);
    assert!(
        line.contains("belongs to member \"m1\", and --name is \"m2\""),
        "{line}"
    );
}

#[test]
fn members_of_another_cluster_are_refused_and_both_sides_say_so() {
    let mut several = Several::of(3, &[]);
    several.members[2].set_extra_flags(&["--initial-cluster-token=another"]);
    for member in &mut several.members {
        member.spawn();
    }
    single_threaded_runtime().block_on(async {
        several
            .write_through_any_of(&[0, 1], "k", Duration::from_secs(10))
            .await;
        for member in &several.members {
            eventually("the mix-up is told", async || {
                let told = member.stderr();
                let names = told.contains("cluster ID mismatch")
                    && told.contains("--initial-cluster-token");
                names.then_some(()).ok_or(told)
            })
            .await;
        }
        assert!(put(&several.members[2], "k", "v").await.is_err());
    });
}

/// Leaves in an empty data directory what a process leaves that ends between its claim on it and its first word in
/// the log. `whose` is the file that says whose it is.
fn claim_and_end(root: &Path, whose: &[u8]) {
    let identity: MemberIdentity = serde_json::from_slice(whose).expect("an identity");
    let log = LogIdentity {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
    };
    let mut data = DataDir::open(root).expect("an empty directory");
    let options = WalOptions {
        background: false,
        ..WalOptions::default()
    };
    Wal::create(Arc::new(RealFiles), &data.wal_dir(), log, options).expect("a log");
    data.claim(&RealFiles, identity).expect("it is nobody's");
}

/// Members of a new cluster that all ended before they had said anything.
fn claimed_and_ended(count: usize) -> Several {
    let mut several = Several::of(count, &[]);
    several.start();
    for member in &mut several.members {
        member.stop();
        let root = member.data_dir();
        let whose = fs::read(root.join("identity")).expect("an identity");
        member.wipe();
        claim_and_end(&root, &whose);
    }
    several
}

#[test]
fn members_that_ended_before_they_had_said_anything_found_their_cluster() {
    let mut several = claimed_and_ended(3);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        put(&several.members[leader], "k", "v")
            .await
            .expect("a write");
        assert_eq!(members(&several.members[leader]).await.len(), 3);
    });
}

#[test]
fn a_member_that_ended_before_it_had_said_anything_begins_alone_where_told_to() {
    let mut alone = claimed_and_ended(3).members.remove(0);
    alone.set_extra_flags(&["--force-new-cluster"]);
    for _ in 0..2 {
        alone.start();
        single_threaded_runtime().block_on(async {
            put(&alone, "k", "v").await.expect("a write");
            assert_eq!(members(&alone).await.len(), 1);
        });
        alone.stop();
        alone.set_extra_flags(&[]);
    }
}

#[test]
fn one_member_goes_on_alone_and_grows_again() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        for n in 0..50 {
            put(&several.members[leader], &format!("k{n}"), "v")
                .await
                .expect("a write");
        }
        let mut survivor = several.members.remove(leader);
        survivor.kill();
        several.members.iter_mut().for_each(ServerProcess::kill);
        survivor.set_extra_flags(&["--force-new-cluster"]);
        survivor.start();
        for n in 0..50 {
            assert_eq!(
                get(&survivor, &format!("k{n}"), false).await,
                Ok(Some("v".to_owned()))
            );
        }
        let left = members(&survivor).await;
        assert_eq!(left.len(), 1, "{left:?}");
        survivor.set_extra_flags(&[]);
        survivor.stop();
        survivor.start();
        assert_eq!(members(&survivor).await.len(), 1);

        let mut second = ServerProcess::metastore(&[]).named("second");
        let url = second.peer_url();
        eventually("a member is added", async || {
            add(&survivor, &url, false).await
        })
        .await;
        let list = format!("{}={},second={url}", survivor.name(), survivor.peer_url());
        second.set_cluster(&list, "existing");
        second.start();
        assert_eq!(get(&second, "k7", false).await, Ok(Some("v".to_owned())));
    });
}

#[test]
fn a_learner_becomes_a_voter_by_itself_where_that_is_asked_for() {
    let mut first = ServerProcess::metastore(&["--auto-promote-learners"]).named("first");
    first.start();
    single_threaded_runtime().block_on(async {
        let mut second = ServerProcess::metastore(&["--auto-promote-learners"]).named("second");
        let url = second.peer_url();
        let added = add(&first, &url, true).await.expect("a learner is added");
        assert!(added.is_learner);
        second.set_cluster(
            &format!("first={},second={url}", first.peer_url()),
            "existing",
        );
        second.spawn();
        second.wait_until_ready();
        eventually("the learner votes", async || {
            let is_learner = status(&second).await?.is_learner;
            (!is_learner)
                .then_some(())
                .ok_or_else(|| "not yet".to_owned())
        })
        .await;
        put(&second, "k", "v").await.expect("a write");
    });
}

#[test]
fn a_silent_client_is_kept_for_ever_where_it_never_has_to_answer() {
    let mut server = ServerProcess::metastore(&[
        "--grpc-keepalive-interval=100ms",
        "--grpc-keepalive-timeout=0",
    ]);
    server.start();
    let mut silent = TcpStream::connect(server.client_address()).expect("a ready server");
    // What opens a connection of HTTP/2, and settings without a change; nothing is answered after that.
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("a connection");
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.is_running(), "{}", server.stderr());
    silent.set_nonblocking(true).expect("a socket");
    let mut received = [0; 4096];
    let bytes = silent.read(&mut received).expect("settings and a ping");
    assert!(bytes > 0, "the connection was closed");
    let end = silent.read(&mut received).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::WouldBlock), "it is still open");
}
