//! An unmodified etcdctl against three members: who is there, how they are, and changes of that.

mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::{
    connection::single_threaded_runtime,
    etcd_programs::{clean_command, etcdctl},
    eventually::eventually,
    server_process::{ServerProcess, run_to_exit},
    several::Several,
};

/// What it printed, whether it succeeded or not.
fn run(etcdctl: &Path, endpoints: &str, words: &str) -> (bool, String, String) {
    let mut command = clean_command(etcdctl);
    command
        .env("ETCDCTL_API", "3")
        .arg("--endpoints")
        .arg(endpoints)
        .args(words.split_whitespace());
    let ending = run_to_exit(&mut command);
    (ending.status.success(), ending.stdout, ending.stderr)
}

struct Tour {
    etcdctl: PathBuf,
    several: Several,
}

impl Tour {
    fn start(etcdctl: PathBuf) -> Self {
        let mut several = Several::of(3, &[]);
        several.start();
        Self { etcdctl, several }
    }

    fn says(&self, words: &str) -> String {
        let (well, stdout, stderr) = run(&self.etcdctl, &self.several.endpoints(), words);
        assert!(well, "etcdctl {words}: {stdout}{stderr}");
        stdout
    }

    fn fails(&self, words: &str) -> String {
        let (well, stdout, stderr) = run(&self.etcdctl, &self.several.endpoints(), words);
        assert!(!well, "etcdctl {words} succeeded: {stdout}");
        stderr
    }

    /// As soon as the cluster counts as healthy, which takes some seconds after a start.
    async fn says_eventually(&self, words: &str) -> String {
        eventually(words, async || {
            let (well, stdout, stderr) = run(&self.etcdctl, &self.several.endpoints(), words);
            match well {
                true => Ok(stdout),
                false => Err(stderr),
            }
        })
        .await
    }

    /// The fields of the line of `member list` that holds this text.
    fn member(&self, text: &str) -> Vec<String> {
        let list = self.says("member list");
        let line = list.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("{text} is not in {list}"));
        line.split(", ").map(str::to_owned).collect()
    }
}

#[test]
fn etcdctl_shows_the_members_and_how_they_are() {
    let Some(etcdctl) = etcdctl("etcdctl_shows_the_members_and_how_they_are") else {
        return;
    };
    let tour = Tour::start(etcdctl);
    let list = tour.says("member list");
    assert_eq!(list.lines().count(), 3, "{list}");
    for member in &tour.several.members {
        let fields = tour.member(&member.client_url());
        let expected = [
            "started",
            member.name(),
            &member.peer_url(),
            &member.client_url(),
            "false",
        ];
        assert_eq!(fields[1..], expected);
    }
    let status = tour.says("endpoint status --cluster");
    assert_eq!(status.lines().count(), 3, "{status}");
    assert_eq!(
        status.matches(", true, false, ").count(),
        1,
        "one leads: {status}"
    );
    let (well, _, health) = run(
        &tour.etcdctl,
        &tour.several.endpoints(),
        "endpoint health --cluster",
    );
    let (_, stdout, _) = run(
        &tour.etcdctl,
        &tour.several.endpoints(),
        "endpoint health --cluster",
    );
    assert!(well, "{health}");
    assert_eq!((health + &stdout).matches("is healthy").count() % 3, 0);
}

#[test]
fn etcdctl_moves_the_leader_and_changes_the_membership() {
    let Some(etcdctl) = etcdctl("etcdctl_moves_the_leader_and_changes_the_membership") else {
        return;
    };
    let mut tour = Tour::start(etcdctl);
    single_threaded_runtime().block_on(async {
        let leader = tour.several.leader().await;
        let target = (leader + 1) % 3;
        let id = tour.member(&tour.several.members[target].client_url())[0].clone();
        let moved = tour.says(&format!("move-leader {id}"));
        assert!(moved.contains(&format!("to {id}")), "{moved}");
        assert_eq!(tour.several.leader().await, target);

        let newcomer = ServerProcess::metastore(&[]).named("m4");
        let url = newcomer.peer_url();
        let added = tour
            .says_eventually(&format!("member add m4 --learner --peer-urls={url}"))
            .await;
        assert!(
            added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
            "{added}"
        );
        let listed = added
            .lines()
            .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
        let listed = listed
            .expect("the list to start with")
            .trim_matches('"')
            .to_owned();
        let fields = tour.member(&url);
        assert_eq!(fields[1..3], ["unstarted", ""]);
        let id = fields[0].clone();
        let refused = tour.fails("member add m5 --learner --peer-urls=http://127.0.0.1:1");
        assert!(
            refused.contains("etcdserver: too many learner members in cluster"),
            "{refused}"
        );
        // Within the same second it would have the same id.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let refused = tour.fails(&format!("member add m5 --peer-urls={url}"));
        assert!(
            refused.contains("etcdserver: Peer URLs already exists"),
            "{refused}"
        );

        let mut newcomer = newcomer;
        newcomer.set_cluster(&listed, "existing");
        newcomer.spawn();
        newcomer.wait_until_ready();
        assert_eq!(tour.member("m4")[5], "true");
        tour.says_eventually(&format!("member promote {id}")).await;
        assert_eq!(tour.member("m4")[5], "false");
        tour.says(&format!(
            "member update {id} --peer-urls=http://localhost:{}",
            newcomer.peer_address().port()
        ));
        assert_eq!(
            tour.member("m4")[3],
            format!("http://localhost:{}", newcomer.peer_address().port())
        );
        tour.several.members.push(newcomer);
        tour.says_eventually(&format!("member remove {id}")).await;
        let removed = tour.several.members.last_mut().expect("the fourth");
        assert_eq!(removed.wait_for_exit().code(), Some(0));
        tour.several.members.pop();
        assert_eq!(tour.says("member list").lines().count(), 3);
        tour.says("put k v");
    });
}
