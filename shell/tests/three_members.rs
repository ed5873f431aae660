//! Three members as real processes: they found a cluster, serve through any of them, and go on without one.

mod cluster;

use std::{
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use cluster::{
    connection::single_threaded_runtime,
    server_process::ServerProcess,
    several::{Several, get, put, status},
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
        Some("metastore: received signal 2 while shutting down; ending at once")
    );
    assert_eq!(lines.next(), None, "{said}");
}
