//! What an unmodified etcdctl prints about leases, and the locks and elections it builds on them.

mod cluster;

use std::{
    fs,
    time::{Duration, Instant},
};

use cluster::{
    etcd_programs::etcdctl,
    etcdctl_tour::{Said, Talk, Tour, json_number},
};

/// The lease in `lease ID granted with TTL(..s)`.
fn granted(tour: &Tour, seconds: u64) -> String {
    let line = tour.output(&format!("lease grant {seconds}"));
    let id = line.split(' ').nth(1).unwrap_or_default().to_owned();
    assert_eq!(line, format!("lease {id} granted with TTL({seconds}s)\n"));
    assert!(
        u64::from_str_radix(&id, 16).is_ok_and(|id| id > 0),
        "{line}"
    );
    id
}

#[test]
fn a_lease_is_granted_listed_renewed_and_revoked() {
    let Some(etcdctl) = etcdctl("a_lease_is_granted_listed_renewed_and_revoked") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.prints("lease list", "found 0 leases\n");
    let id = granted(&tour, 100);
    tour.prints("lease list", &format!("found 1 leases\n{id}\n"));
    tour.put_all(&[
        (&format!("--lease={id} a"), "1"),
        (&format!("--lease={id} b"), "2"),
    ]);
    tour.put_all(&[("c", "3")]);
    let renewed = format!("lease {id} keepalived with TTL(100)\n");
    tour.prints(&format!("lease keep-alive --once {id}"), &renewed);
    let mut renewing = tour.follow(&format!("lease keep-alive {id}"));
    renewing.says(&[renewed.trim_end()]);
    renewing.interrupt();

    tour.prints(
        &format!("lease revoke {id}"),
        &format!("lease {id} revoked\n"),
    );
    tour.prints("get --prefix ''", "c\n3\n");
    tour.prints("lease list", "found 0 leases\n");
    tour.prints(
        &format!("lease timetolive {id}"),
        &format!("lease {id} already expired\n"),
    );
    tour.prints(
        &format!("lease keep-alive {id}"),
        &format!("lease {id} expired or revoked.\n"),
    );
    tour.fails(
        &format!("lease revoke {id}"),
        "failed to revoke lease (etcdserver: requested lease not found)",
    );
    let expected = Said {
        code: 2,
        stdout: String::new(),
        error: "Error: etcdserver: requested lease not found".to_owned(),
    };
    assert_eq!(
        tour.run(&format!("lease keep-alive --once {id}"), ""),
        expected
    );
}

#[test]
fn time_to_live_tells_the_time_left_and_the_keys() {
    let Some(etcdctl) = etcdctl("time_to_live_tells_the_time_left_and_the_keys") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let id = granted(&tour, 100);
    tour.put_all(&[
        (&format!("--lease={id} a"), "1"),
        (&format!("--lease={id} b"), "2"),
    ]);
    let line = tour.output(&format!("lease timetolive {id}"));
    let left = line
        .strip_prefix(&format!("lease {id} granted with TTL(100s), remaining("))
        .and_then(|rest| rest.strip_suffix("s)\n"))
        .and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(
        left.is_some_and(|left| (90..=100).contains(&left)),
        "{line}"
    );

    let with_keys = tour.output(&format!("lease timetolive --keys {id}"));
    // Neither server promises an order of the keys.
    let keys = ["attached keys([a b])\n", "attached keys([b a])\n"];
    assert!(
        keys.iter().any(|keys| with_keys.ends_with(keys)),
        "{with_keys}"
    );

    tour.put_all(&[("a", "no longer of the lease")]);
    tour.prints("put --ignore-lease b 3", "OK\n");
    let json = tour.output(&format!("lease timetolive --keys {id} -w json"));
    assert!(json.ends_with("\"keys\":[\"Yg==\"]}\n"), "{json}");
    assert_eq!(json_number(&json, "granted-ttl"), 100);
}

#[test]
fn the_times_a_lease_may_have_are_bounded() {
    let Some(etcdctl) = etcdctl("the_times_a_lease_may_have_are_bounded") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    for short in ["0", "1"] {
        // The server has a shortest time, and says what it made of the request.
        let line = tour.output(&format!("lease grant {short}"));
        assert!(line.ends_with(" granted with TTL(2s)\n"), "{line}");
    }
    assert!(!granted(&tour, 2).is_empty());
    assert!(!granted(&tour, 9_000_000_000).is_empty());
    tour.fails(
        "lease grant 9000000001",
        "failed to grant lease (etcdserver: too large lease TTL)",
    );
}

#[test]
fn an_expired_lease_takes_its_keys_along_and_watchers_are_told() {
    let test = "an_expired_lease_takes_its_keys_along_and_watchers_are_told";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let id = granted(&tour, 2);
    let began = Instant::now();
    tour.put_all(&[(&format!("--lease={id} a"), "1"), ("b", "stays")]);
    let mut watch = tour.follow("watch a --rev=2");
    watch.says(&["PUT", "a", "1", "DELETE", "a", ""]);
    assert!(
        began.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        began.elapsed()
    );
    tour.prints("get --prefix ''", "b\nstays\n");
    tour.prints(
        &format!("lease timetolive {id}"),
        &format!("lease {id} already expired\n"),
    );
    watch.interrupt();
}

#[test]
fn a_lease_that_is_kept_alive_does_not_expire() {
    let Some(etcdctl) = etcdctl("a_lease_that_is_kept_alive_does_not_expire") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let id = granted(&tour, 2);
    tour.put_all(&[(&format!("--lease={id} a"), "1")]);
    let mut renewing = tour.follow(&format!("lease keep-alive {id}"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        renewing.says(&[&format!("lease {id} keepalived with TTL(2)")]);
    }
    tour.prints("get a", "a\n1\n");
    drop(renewing);
    tour.comes_to_print("get a", "");
}

#[test]
fn a_restart_keeps_leases_and_their_keys() {
    let Some(etcdctl) = etcdctl("a_restart_keeps_leases_and_their_keys") else {
        return;
    };
    let mut tour = Tour::start(etcdctl);
    let id = granted(&tour, 100);
    tour.put_all(&[(&format!("--lease={id} a"), "1")]);
    tour.server.kill();
    tour.server.start();
    tour.prints("lease list", &format!("found 1 leases\n{id}\n"));
    let line = tour.output(&format!("lease timetolive --keys {id}"));
    assert!(
        line.starts_with(&format!("lease {id} granted with TTL(100s), ")),
        "{line}"
    );
    assert!(line.ends_with("attached keys([a])\n"), "{line}");
    tour.prints(
        &format!("lease revoke {id}"),
        &format!("lease {id} revoked\n"),
    );
    tour.prints("get a", "");
}

/// The key under `prefix` that a lock or a candidate prints first.
fn own_key(talk: &mut Talk, prefix: &str) -> String {
    let key = talk.line();
    let lease = key.strip_prefix(prefix).unwrap_or_default();
    assert!(u64::from_str_radix(lease, 16).is_ok(), "{key}");
    key
}

#[test]
fn a_lock_is_held_by_one_and_passes_on() {
    let Some(etcdctl) = etcdctl("a_lock_is_held_by_one_and_passes_on") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let mut first = tour.follow("lock door");
    let key = own_key(&mut first, "door/");
    first.says(&[""]);
    tour.prints("get --prefix door/", &format!("{key}\n\n"));
    let mut second = tour.follow("lock door");
    second.stays_silent();
    first.interrupt();
    let next = own_key(&mut second, "door/");
    second.says(&[""]);
    tour.prints("get --prefix door/", &format!("{next}\n\n"));
    second.interrupt();
    tour.prints("get --prefix door/", "");
}

#[test]
fn a_lock_passes_on_when_its_holder_vanishes() {
    let Some(etcdctl) = etcdctl("a_lock_passes_on_when_its_holder_vanishes") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let mut first = tour.follow("lock door --ttl 2");
    own_key(&mut first, "door/");
    let mut second = tour.follow("lock door");
    second.stays_silent();
    // Killed: nobody releases the lock, and nobody renews its lease.
    drop(first);
    own_key(&mut second, "door/");
    second.says(&[""]);
    second.interrupt();
}

#[test]
fn a_command_runs_while_the_lock_is_held_and_its_exit_code_is_passed_on() {
    let test = "a_command_runs_while_the_lock_is_held_and_its_exit_code_is_passed_on";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (script, go) = (folder.path().join("hold"), folder.path().join("go"));
    let hold = format!(
        "echo $ETCD_LOCK_KEY; until test -e {}; do sleep 0.05; done",
        go.display()
    );
    fs::write(&script, hold).expect("the folder is ours");
    let mut held = tour.follow(&format!("lock door -- sh {}", script.display()));
    let key = own_key(&mut held, "door/");
    tour.prints("get --prefix door/", &format!("{key}\n\n"));
    let mut waiting = tour.follow("lock door -- echo mine");
    waiting.stays_silent();
    fs::write(&go, "").expect("the folder is ours");
    assert_eq!(held.ends().0, 0);
    waiting.says(&["mine"]);
    assert_eq!(waiting.ends().0, 0);
    let mut failing = tour.follow("lock door -- false");
    let (code, stderr) = failing.ends();
    assert_eq!(code, 1);
    assert!(stderr.ends_with("Error: exit status 1\n"), "{stderr}");
    tour.prints("get --prefix door/", "");
}

#[test]
fn an_election_passes_to_the_next_candidate_and_observers_are_told() {
    let test = "an_election_passes_to_the_next_candidate_and_observers_are_told";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let mut ann = tour.follow("elect boss ann");
    let key = own_key(&mut ann, "boss/");
    ann.says(&["ann"]);
    let mut observer = tour.follow("elect -l boss");
    observer.says(&[&key, "ann"]);
    let mut bob = tour.follow("elect boss bob");
    bob.stays_silent();
    observer.stays_silent();

    ann.interrupt();
    let next = own_key(&mut bob, "boss/");
    bob.says(&["bob"]);
    observer.says(&[&next, "bob"]);
    tour.prints("get --prefix boss/", &format!("{next}\nbob\n"));
    bob.interrupt();
    observer.interrupt();
    tour.prints("get --prefix boss/", "");
}
