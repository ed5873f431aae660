//! What an unmodified etcdctl prints while it watches, and what its mirror copies.

mod cluster;

use cluster::{etcd_programs::etcdctl, etcdctl_tour::Tour};

#[test]
fn watch_prints_puts_and_deletions_of_a_key() {
    let Some(etcdctl) = etcdctl("watch_prints_puts_and_deletions_of_a_key") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1"), ("a", "2")]);
    let mut watch = tour.follow("watch a --rev=2");
    watch.says(&["PUT", "a", "1", "PUT", "a", "2"]);
    tour.put_all(&[("b", "not watched"), ("a", "3")]);
    watch.says(&["PUT", "a", "3"]);
    tour.prints("del a", "1\n");
    watch.says(&["DELETE", "a", ""]);
    watch.stays_silent();
    watch.interrupt();
}

#[test]
fn watch_prints_what_was_there_before_when_asked() {
    let Some(etcdctl) = etcdctl("watch_prints_what_was_there_before_when_asked") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let mut watch = tour.follow("watch --prefix a/ --prev-kv --rev=2");
    tour.put_all(&[("a/1", "x"), ("a", "not watched"), ("a/1", "y")]);
    watch.says(&["PUT", "a/1", "x", "PUT", "a/1", "x", "a/1", "y"]);
    tour.prints("del --prefix a/", "1\n");
    watch.says(&["DELETE", "a/1", "y", "a/1", ""]);
    watch.stays_silent();
    watch.interrupt();
}

#[test]
fn watch_follows_a_range() {
    let Some(etcdctl) = etcdctl("watch_follows_a_range") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let mut range = tour.follow("watch b d --rev=2");
    tour.put_all(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    range.says(&["PUT", "b", "2", "PUT", "c", "3"]);
    range.stays_silent();
    range.interrupt();
}

#[test]
fn watch_runs_a_command_for_each_event() {
    let Some(etcdctl) = etcdctl("watch_runs_a_command_for_each_event") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1")]);
    let mut watch = tour.follow("watch a --rev=2 -- printenv ETCD_WATCH_KEY ETCD_WATCH_VALUE");
    watch.says(&["PUT", "a", "1", "\"a\"", "\"1\""]);
    watch.interrupt();
}

#[test]
fn an_interactive_watch_holds_several_watches_and_asks_for_progress() {
    let test = "an_interactive_watch_holds_several_watches_and_asks_for_progress";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1")]);
    let mut watch = tour.follow("watch -i");
    watch.tell("watch a --rev=2");
    watch.says(&["PUT", "a", "1"]);
    watch.tell("watch --prefix p/ --prev-kv --rev=2");
    tour.put_all(&[("p/1", "x"), ("p/1", "y"), ("a", "2")]);
    let mut lines: Vec<_> = (0..11).map(|_| watch.line()).collect();
    // The two watches are told independently.
    let own = ["PUT", "a", "2"];
    let at = lines.windows(3).position(|it| it == own);
    lines.drain(at.map_or(0..0, |at| at..at + 3));
    assert_eq!(lines, ["PUT", "p/1", "x", "PUT", "p/1", "x", "p/1", "y"]);
    // One answer of the server, handed by the client to each of its watches.
    watch.tell("progress");
    watch.says(&["progress notify: 5", "progress notify: 5"]);
    tour.put_all(&[("other", "0")]);
    watch.tell("progress");
    watch.says(&["progress notify: 6", "progress notify: 6"]);
    tour.prints("del p/1", "1\n");
    watch.says(&["DELETE", "p/1", "y", "p/1", ""]);
    watch.interrupt();
}

#[test]
fn a_watch_of_a_compacted_revision_is_cancelled_with_the_reason() {
    let test = "a_watch_of_a_compacted_revision_is_cancelled_with_the_reason";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1"), ("a", "2"), ("a", "3")]);
    tour.prints("compaction 3", "compacted revision 3\n");
    let mut refused = tour.follow("watch a --rev=2");
    let (code, stderr) = refused.ends();
    assert_eq!(
        (code, stderr.as_str()),
        (
            5,
            "watch was canceled (etcdserver: mvcc: required revision has been compacted)\n\
             Error: watch is canceled by the server\n"
        )
    );
    let mut allowed = tour.follow("watch a --rev=3");
    allowed.says(&["PUT", "a", "2", "PUT", "a", "3"]);
    allowed.interrupt();
}

#[test]
fn a_watch_survives_a_restart_of_the_server_and_misses_nothing() {
    let test = "a_watch_survives_a_restart_of_the_server_and_misses_nothing";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let mut tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1")]);
    let mut watch = tour.follow("watch a --rev=2");
    watch.says(&["PUT", "a", "1"]);
    tour.server.kill();
    tour.server.start();
    tour.put_all(&[("a", "2"), ("a", "3")]);
    watch.says(&["PUT", "a", "2", "PUT", "a", "3"]);
    watch.stays_silent();
    watch.interrupt();
}

#[test]
fn an_interactive_txn_prints_its_questions_and_the_branch_that_ran() {
    let test = "an_interactive_txn_prints_its_questions_and_the_branch_that_ran";
    let Some(etcdctl) = etcdctl(test) else {
        return;
    };
    let tour = Tour::start(etcdctl);
    tour.put_all(&[("a", "1")]);
    let questions =
        "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n";
    tour.answers(
        "txn -i",
        "mod(\"a\") > \"0\"\nver(\"a\") = \"1\"\n\nput b 1\nget a\n\nput b 2\n\n",
        &format!("{questions}SUCCESS\n\nOK\n\na\n1\n"),
    );
    tour.answers(
        "txn --interactive",
        "value(\"a\") = \"2\"\n\nput b 3\n\nget b\ndel b\n\n",
        &format!("{questions}FAILURE\n\nb\n1\n\n1\n"),
    );
}

#[test]
fn a_mirror_copies_what_is_there_and_what_comes() {
    let Some(etcdctl) = etcdctl("a_mirror_copies_what_is_there_and_what_comes") else {
        return;
    };
    let source = Tour::start(etcdctl.clone());
    let destination = Tour::start(etcdctl);
    source.put_all(&[("m/1", "a"), ("m/2", "b"), ("other", "c")]);
    let address = destination.server.client_address();
    let mirror = source.follow(&format!(
        "make-mirror --prefix m/ --dest-prefix n/ {address}"
    ));
    destination.comes_to_print("get --prefix ''", "n/1\na\nn/2\nb\n");

    source.put_all(&[("m/3", "d"), ("m/2", "e"), ("other", "f")]);
    source.prints("del m/1", "1\n");
    destination.comes_to_print("get --prefix ''", "n/2\ne\nn/3\nd\n");

    let both = "\nput m/4 g\ndel m/3\n\n\n";
    source.answers("txn", both, "SUCCESS\n\nOK\n\n1\n");
    destination.comes_to_print("get --prefix ''", "n/2\ne\nn/4\ng\n");
    mirror.interrupt();
}

#[test]
fn a_mirror_copies_many_pages_of_keys() {
    let Some(etcdctl) = etcdctl("a_mirror_copies_many_pages_of_keys") else {
        return;
    };
    let source = Tour::start(etcdctl.clone());
    let destination = Tour::start(etcdctl);
    // The mirror reads a thousand keys at a time.
    for block in 0..21 {
        let puts: String = (0..100)
            .map(|index| format!("put key/{block:02}/{index:02} {block}.{index}\n"))
            .collect();
        let answers = "\nOK\n".repeat(100);
        source.answers(
            "txn",
            &format!("\n{puts}\n\n"),
            &format!("SUCCESS\n{answers}"),
        );
    }
    let address = destination.server.client_address();
    let mirror = source.follow(&format!("make-mirror {address}"));
    let everything = source.output("get --prefix ''");
    assert_eq!(everything.lines().count(), 4200);
    destination.comes_to_print("get --prefix ''", &everything);
    mirror.interrupt();
}
