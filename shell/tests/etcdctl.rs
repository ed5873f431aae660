//! An unmodified etcdctl against this server: what it prints, to the byte.

mod cluster;

use cluster::{
    etcd_programs::etcdctl,
    etcdctl_tour::{Tour, json_number},
};

#[test]
fn put_get_and_del_print_what_etcd_prints() {
    let Some(etcdctl) = etcdctl("put_get_and_del_print_what_etcd_prints") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("color", "red"), ("color", "blue")]);
    tour.prints("put --prev-kv color green", "OK\ncolor\nblue\n");
    tour.put_all(&[("a/1", "one"), ("a/2", "two"), ("a/10", "ten"), ("b", "''")]);

    tour.prints("get color", "color\ngreen\n");
    tour.prints("get nothing", "");
    tour.prints("get --rev=2 color", "color\nred\n");
    tour.prints("get --prefix a/", "a/1\none\na/10\nten\na/2\ntwo\n");
    tour.prints("get --prefix a/ --keys-only", "a/1\n\na/10\n\na/2\n\n");
    tour.prints("get --prefix a/ --limit=2", "a/1\none\na/10\nten\n");
    tour.prints("get --from-key a/2", "a/2\ntwo\nb\n\ncolor\ngreen\n");
    tour.prints("get a/1 a/2", "a/1\none\na/10\nten\n");
    tour.prints(
        "get --prefix '' --keys-only",
        "a/1\n\na/10\n\na/2\n\nb\n\ncolor\n\n",
    );
    tour.prints(
        "get --prefix a/ --sort-by=VALUE",
        "a/1\none\na/10\nten\na/2\ntwo\n",
    );
    tour.prints(
        "get --prefix a/ --sort-by=CREATE --order=DESCEND --print-value-only",
        "ten\ntwo\none\n",
    );
    tour.prints("get color --consistency=s", "color\ngreen\n");
    let counted = tour.output("get --prefix a/ --count-only --write-out=fields");
    assert!(
        counted.ends_with("\"More\" : false\n\"Count\" : 3\n"),
        "count-only: {counted}"
    );
    let json = tour.output("get color -w json");
    assert!(
        json.ends_with(
            "\"kvs\":[{\"key\":\"Y29sb3I=\",\"create_revision\":2,\"mod_revision\":4,\"version\":3,\
             \"value\":\"Z3JlZW4=\"}],\"count\":1}\n"
        ),
        "json: {json}"
    );
    assert_eq!(json_number(&json, "revision"), 8);

    tour.prints("del a/2", "1\n");
    tour.prints("del --prefix --prev-kv a/", "2\na/1\none\na/10\nten\n");
    tour.prints("del nothing", "0\n");
    tour.prints("get --prefix a/", "");
}

#[test]
fn txn_prints_the_branch_that_ran() {
    let Some(etcdctl) = etcdctl("txn_prints_the_branch_that_ran") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("color", "green"), ("a", "one")]);
    tour.answers(
        "txn",
        "value(\"color\") = \"green\"\n\nput color yellow\nget color\n\nget a\n\n",
        "SUCCESS\n\nOK\n\ncolor\nyellow\n",
    );
    tour.answers(
        "txn",
        "mod(\"color\") > \"100\"\n\nput color never\n\nget a\ndel a --prev-kv\n\n",
        "FAILURE\n\na\none\n\n1\na\none\n",
    );
    tour.answers(
        "txn",
        "create(\"color\") > \"0\"\n\ndel zz\n\n\n",
        "SUCCESS\n\n0\n",
    );
    tour.prints("get --prefix ''", "color\nyellow\n");
}

#[test]
fn compaction_and_refusals_print_the_servers_words() {
    let Some(etcdctl) = etcdctl("compaction_and_refusals_print_the_servers_words") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4")]);
    tour.prints("compaction 4", "compacted revision 4\n");
    tour.prints("get --rev=4 a", "a\n3\n");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    tour.fails("compaction 4", compacted);
    tour.fails("get --rev=3 a", compacted);
    let future = "etcdserver: mvcc: required revision is a future revision";
    tour.fails("get --rev=100 a", future);
    tour.fails("compaction 100", future);
    tour.prints("compaction --physical 5", "compacted revision 5\n");
    tour.fails("put --ignore-value ghost", "etcdserver: key not found");
    tour.fails(
        "put --lease=1234 a b",
        "etcdserver: requested lease not found",
    );
    tour.fails("get ''", "etcdserver: key is not provided");
    tour.prints("get a", "a\n4\n");
}

#[test]
fn lease_commands_print_what_etcd_prints() {
    let Some(etcdctl) = etcdctl("lease_commands_print_what_etcd_prints") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let granted = tour.output("lease grant 500");
    let id = granted
        .strip_prefix("lease ")
        .and_then(|rest| rest.strip_suffix(" granted with TTL(500s)\n"))
        .unwrap_or_else(|| panic!("{granted}"));
    assert_eq!(id.len(), 16, "{granted}");
    tour.prints(&format!("put --lease={id} a 1"), "OK\n");
    tour.prints(&format!("put --lease={id} b 2"), "OK\n");
    tour.prints("lease list", &format!("found 1 leases\n{id}\n"));
    tour.prints(
        &format!("lease keep-alive --once {id}"),
        &format!("lease {id} keepalived with TTL(500)\n"),
    );
    let stands = tour.output(&format!("lease timetolive --keys {id}"));
    // etcd lists the keys in any order.
    let stands = stands.replace("[b a]", "[a b]");
    let expected = |left: u32| {
        format!("lease {id} granted with TTL(500s), remaining({left}s), attached keys([a b])\n")
    };
    assert!((495..500).any(|left| stands == expected(left)), "{stands}");
    tour.prints(
        &format!("lease revoke {id}"),
        &format!("lease {id} revoked\n"),
    );
    tour.prints("get --prefix ''", "");
    tour.prints("lease list", "found 0 leases\n");
    tour.prints(
        &format!("lease timetolive {id}"),
        &format!("lease {id} already expired\n"),
    );
    let gone = "etcdserver: requested lease not found";
    let said = tour.run(&format!("lease keep-alive --once {id}"), "");
    assert_eq!((said.code, said.error), (2, format!("Error: {gone}")));
    let refused = format!("failed to revoke lease ({gone})");
    tour.fails(&format!("lease revoke {id}"), &refused);
}

#[test]
fn endpoint_health_calls_a_working_server_healthy() {
    let Some(etcdctl) = etcdctl("endpoint_health_calls_a_working_server_healthy") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let line = tour.output("endpoint health");
    let expected = format!(
        "{} is healthy: successfully committed proposal: took = ",
        tour.server.client_address()
    );
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn endpoint_status_and_member_list_agree_on_the_only_member() {
    let Some(etcdctl) = etcdctl("endpoint_status_and_member_list_agree_on_the_only_member") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1")]);
    let member = tour.output("member list");
    let fields: Vec<_> = member.trim_end().split(", ").collect();
    let (client, peer) = (tour.server.client_url(), tour.server.peer_url());
    assert_eq!(
        fields[1..],
        ["started", "one", &peer, &client, "false"],
        "{member}"
    );

    let status = tour.output("endpoint status");
    let endpoint = tour.server.client_address().to_string();
    let shown: Vec<_> = status.trim_end_matches('\n').split(", ").collect();
    assert_eq!(shown.len(), 10, "{status}");
    assert_eq!(shown[..2], [&endpoint, fields[0]], "{status}");
    assert_eq!(
        shown[4..6],
        ["true", "false"],
        "the only member leads: {status}"
    );

    let json = tour.output("endpoint status -w json");
    assert!(
        json_number(&json, "dbSize") > 0,
        "the client divides by this: {json}"
    );
    assert!(json_number(&json, "raftTerm") > 0, "{json}");
    assert_eq!(json_number(&json, "revision"), 2, "{json}");
    assert_eq!(
        json_number(&json, "leader"),
        json_number(&json, "member_id"),
        "{json}"
    );
    assert_eq!(
        json_number(&json, "raftAppliedIndex"),
        json_number(&json, "raftIndex"),
        "{json}"
    );
    assert_eq!(format!("{:x}", json_number(&json, "member_id")), fields[0]);
    let members = tour.output("member list -w json");
    assert_eq!(
        json_number(&members, "cluster_id"),
        json_number(&json, "cluster_id")
    );
}

/// The numbers of the line that `endpoint hashkv` prints.
fn hash_line(tour: &Tour, words: &str) -> Vec<u64> {
    let line = tour.output(words);
    let endpoint = format!("{}, ", tour.server.client_address());
    let numbers = line
        .strip_prefix(&endpoint)
        .and_then(|it| it.strip_suffix('\n'));
    let numbers = numbers.unwrap_or_else(|| panic!("{words}: {line}"));
    let numbers = numbers.split(", ").map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{words}: {line}: {error}"))
}

#[test]
fn endpoint_hashkv_prints_the_hash_of_the_keys_as_of_a_revision() {
    let Some(etcdctl) = etcdctl("endpoint_hashkv_prints_the_hash_of_the_keys_as_of_a_revision")
    else {
        return;
    };
    let mut tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1"), ("a", "2")]);
    let newest = hash_line(&tour, "endpoint hashkv");
    let json = tour.output("endpoint hashkv -w json");
    assert_eq!(newest[0], json_number(&json, "hash"), "{json}");
    assert_ne!(hash_line(&tour, "endpoint hashkv --rev=2"), newest);
    tour.put_all(&[("b", "3")]);
    assert_ne!(hash_line(&tour, "endpoint hashkv"), newest);
    assert_eq!(hash_line(&tour, "endpoint hashkv --rev=3"), newest);
    tour.server.kill();
    tour.server.start();
    assert_eq!(hash_line(&tour, "endpoint hashkv --rev=3"), newest);
    let said = tour.run("endpoint hashkv --rev=100", "");
    assert_ne!(said.code, 0, "{said:?}");
}

#[test]
fn there_are_no_alarms_to_list_or_to_disarm() {
    let Some(etcdctl) = etcdctl("there_are_no_alarms_to_list_or_to_disarm") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.prints("alarm list", "");
    tour.prints("alarm disarm", "");
}

#[test]
fn a_missing_server_is_reported_as_unhealthy() {
    let Some(etcdctl) = etcdctl("a_missing_server_is_reported_as_unhealthy") else {
        return;
    };
    let mut tour = Tour::start(etcdctl);
    tour.server.kill();
    let said = tour.run(
        "endpoint health --dial-timeout=200ms --command-timeout=500ms",
        "",
    );
    assert_eq!(said.code, 1, "{said:?}");
}

#[test]
#[ignore = "takes a minute: etcdctl decides how long it writes"]
fn check_perf_passes_with_the_smallest_load() {
    let Some(etcdctl) = etcdctl("check_perf_passes_with_the_smallest_load") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let said = tour.run("check perf --load=s", "");
    // Before the verdicts stands the last of the bar that shows how far it is, sometimes with the time it took.
    let verdicts = said.stdout.split('%').next_back().unwrap_or_default();
    assert_eq!((said.code, said.error.as_str()), (0, ""), "{verdicts}");
    let is_verdict = |line: &str| line.starts_with("PASS") || line.starts_with("FAIL");
    let lines: Vec<_> = verdicts.lines().skip_while(|it| !is_verdict(it)).collect();
    assert_eq!(lines.len(), 4, "rate, slowest, spread, all: {verdicts}");
    assert!(
        lines.iter().all(|line| line.starts_with("PASS")),
        "{verdicts}"
    );
    tour.prints("get --prefix /etcdctl-check-perf/ --keys-only", "");
}
