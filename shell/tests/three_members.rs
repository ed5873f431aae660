//! Three members as real processes: they found a cluster, serve through any of them, and go on without one.

mod cluster;

use std::{
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    eventually::eventually,
    operation::{Answer, Operation},
    server_process::ServerProcess,
    several::{Several, get, put, status},
};
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
};

#[test]
fn three_members_found_a_cluster_and_any_of_them_serves() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        several.leader().await;
        for (place, member) in several.members.iter().enumerate() {
            put(member, &format!("k{place}"), "v")
                .await
                .expect("a write");
        }
        for member in &several.members {
            for key in ["k0", "k1", "k2"] {
                let found = get(member, key, false).await;
                assert_eq!(found, Ok(Some("v".to_owned())), "{key}");
            }
        }
    });
}

#[test]
fn writes_go_on_within_two_seconds_when_the_leader_is_killed() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        put(&several.members[leader], "before", "v")
            .await
            .expect("a write");
        several.members[leader].kill();
        let mut survivors = several;
        let mut dead = survivors.members.remove(leader);
        let took = survivors
            .write_through_any("after", Duration::from_secs(10))
            .await;
        assert!(
            took < Duration::from_secs(2),
            "the first write took {took:?}"
        );
        // The one that was killed comes back with everything.
        dead.start();
        assert_eq!(get(&dead, "before", false).await, Ok(Some("v".to_owned())));
        assert_eq!(get(&dead, "after", false).await, Ok(Some(String::new())));
        let status = status(&dead).await.expect("a status");
        assert_ne!(status.leader, 0);
    });
}

/// One call of each kind about keys and leases, and the answers.
async fn ask_everything(member: &ServerProcess, id: i64) -> Vec<(&'static str, Answer)> {
    let opened = Connection::open(member.client_address()).await;
    let mut connection = opened.expect("a server");
    let key = b"k".to_vec();
    let put = Operation::Put(PutRequest {
        key: key.clone(),
        ..PutRequest::default()
    });
    let written = put.send(&mut connection).await;
    let compaction = CompactionRequest {
        revision: written.revision().expect("a header"),
        physical: false,
    };
    let mut answers = vec![(put.kind(), written)];
    for operation in [
        Operation::Range(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        }),
        Operation::Delete(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        }),
        Operation::Txn(TxnRequest::default()),
        Operation::Compact(compaction),
        Operation::Grant(LeaseGrantRequest { id, ttl: 60 }),
        Operation::KeepAlive(vec![LeaseKeepAliveRequest { id }]),
        Operation::TimeToLive(LeaseTimeToLiveRequest { id, keys: true }),
        Operation::Leases,
        Operation::Revoke(LeaseRevokeRequest { id }),
    ] {
        let answer = operation.send(&mut connection).await;
        answers.push((operation.kind(), answer));
    }
    answers
}

/// The term that a member says it is in, as do all its headers. `lease` numbers the leases of the test.
async fn told_term(member: &ServerProcess, lease: &mut i64) -> u64 {
    let (term, answers) = eventually("a term that lasts", async || {
        let term = status(member).await?.raft_term;
        *lease += 1;
        let answers = ask_everything(member, *lease).await;
        match status(member).await?.raft_term {
            later if later == term => Ok((term, answers)),
            later => Err(format!("{term} was followed by {later}")),
        }
    })
    .await;
    for (kind, mut answer) in answers {
        let headers = answer.headers_mut();
        let told: Vec<u64> = headers.iter().map(|it| it.raft_term).collect();
        assert_eq!(told, [term], "{kind}: {answer:?}");
    }
    term
}

#[test]
fn headers_tell_the_term_of_now() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        let mut lease = 0;
        let mut former = 0;
        for member in &several.members {
            former = former.max(told_term(member, &mut lease).await);
        }
        let leader = several.leader().await;
        several.members.remove(leader).kill();
        let limit = Duration::from_secs(10);
        several.write_through_any("k", limit).await;
        for member in &several.members {
            let term = told_term(member, &mut lease).await;
            assert!(term > former, "{term} after {former}");
        }
    });
}

#[test]
fn a_second_signal_ends_a_member_that_takes_long_to_stop() {
    let mut several = Several::of(3, &[]);
    several.start();
    let leader = single_threaded_runtime().block_on(several.leader());
    let mut stopping = several.members.remove(leader);
    // Nobody is left to take over, which the leader waits for.
    several.members.iter_mut().for_each(ServerProcess::kill);
    stopping.signal(libc::SIGTERM);
    while !stopping.stderr().contains("shutting down") {
        assert!(stopping.is_running(), "{}", stopping.stderr());
        thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    stopping.signal(libc::SIGINT);
    let status = stopping.wait_for_exit();
    assert!(began.elapsed() < Duration::from_millis(500), "{status}");
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    let said = stopping.stderr();
    let mut lines = said.lines().filter(|line| line.starts_with("metastore: "));
    assert_eq!(
        lines.next(),
        Some("metastore: received signal 2 while starting or shutting down; ending at once")
    );
    assert_eq!(lines.next(), None, "{said}");
}
