//! Several members that found a cluster together.

use std::time::{Duration, Instant};

use metastore_proto::etcdserverpb::{
    MoveLeaderRequest, PutRequest, RangeRequest, StatusRequest, StatusResponse,
};
use tonic::Status;

use super::{connection::Connection, server_process::ServerProcess};

/// The members, named `m1`, `m2`, and so on.
pub(crate) struct Several {
    pub(crate) members: Vec<ServerProcess>,
}

impl Several {
    /// Not yet started members, each told of all.
    pub(crate) fn of(count: usize, extra_flags: &[&str]) -> Self {
        let named =
            (1..=count).map(|n| ServerProcess::metastore(extra_flags).named(&format!("m{n}")));
        let mut several = Self {
            members: named.collect(),
        };
        several.tell_all("new");
        several
    }

    /// Tells every member of all others, as they are now.
    pub(crate) fn tell_all(&mut self, state: &'static str) {
        let list = self.initial_cluster();
        for member in &mut self.members {
            member.set_cluster(&list, state);
        }
    }

    /// What `--initial-cluster` says of these members.
    pub(crate) fn initial_cluster(&self) -> String {
        let each = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name(), member.peer_url()));
        each.collect::<Vec<_>>().join(",")
    }

    /// Starts all and waits until each is healthy.
    pub(crate) fn start(&mut self) {
        self.members.iter_mut().for_each(ServerProcess::spawn);
        self.members
            .iter_mut()
            .for_each(ServerProcess::wait_until_healthy);
    }

    /// All client addresses, as etcdctl takes them.
    pub(crate) fn endpoints(&self) -> String {
        let each = self
            .members
            .iter()
            .map(|member| member.client_address().to_string());
        each.collect::<Vec<_>>().join(",")
    }

    /// The place of the leader among the members, as it says itself. Waits for one.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + LEADER_LIMIT;
        loop {
            for (place, member) in self.members.iter().enumerate() {
                let status = status(member).await;
                let leads = |it: &StatusResponse| {
                    it.leader != 0 && it.header.as_ref().is_some_and(|h| h.member_id == it.leader)
                };
                if status.as_ref().is_ok_and(leads) {
                    return place;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has one of the members hand leadership over to another, and waits for that.
    pub(crate) async fn move_leader(&self, from: usize, to: usize) {
        let header = status(&self.members[to]).await.expect("a status").header;
        let target_id = header.expect("a header").member_id;
        let leader = Connection::open(self.members[from].client_address()).await;
        let mut maintenance = leader.expect("the leader is there").maintenance;
        let moved = maintenance
            .move_leader(MoveLeaderRequest { target_id })
            .await;
        assert!(moved.is_ok(), "{moved:?}");
        assert_eq!(self.leader().await, to);
    }

    /// Writes through any member that takes it until one does, and tells how long that took.
    pub(crate) async fn write_through_any(&self, key: &str, limit: Duration) -> Duration {
        let all: Vec<usize> = (0..self.members.len()).collect();
        self.write_through_any_of(&all, key, limit).await
    }

    /// The same through some of the members.
    pub(crate) async fn write_through_any_of(
        &self,
        places: &[usize],
        key: &str,
        limit: Duration,
    ) -> Duration {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < limit {
            for member in places.iter().map(|place| &self.members[*place]) {
                let deadline = limit.saturating_sub(began.elapsed());
                match tokio::time::timeout(deadline, put(member, key, "")).await {
                    Ok(Ok(())) => return began.elapsed(),
                    Ok(Err(error)) => last = Some(error),
                    Err(_) => last = Some("no answer".into()),
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no write within {limit:?}: {last:?}");
    }
}

/// What a member says of itself.
pub(crate) async fn status(member: &ServerProcess) -> Result<StatusResponse, String> {
    let mut connection = Connection::open(member.client_address()).await?;
    let status = connection.maintenance.status(StatusRequest {}).await;
    status.map(tonic::Response::into_inner).map_err(in_words)
}

/// Writes through one member.
pub(crate) async fn put(member: &ServerProcess, key: &str, value: &str) -> Result<(), String> {
    let mut connection = Connection::open(member.client_address()).await?;
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    connection.kv.put(put).await.map(|_| ()).map_err(in_words)
}

/// Reads through one member; serializable is what it has itself.
pub(crate) async fn get(
    member: &ServerProcess,
    key: &str,
    serializable: bool,
) -> Result<Option<String>, String> {
    let mut connection = Connection::open(member.client_address()).await?;
    let range = RangeRequest {
        key: key.into(),
        serializable,
        ..RangeRequest::default()
    };
    let found = connection.kv.range(range).await.map_err(in_words)?;
    let found = found.into_inner().kvs.into_iter().next();
    Ok(found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}

/// A status as a line.
pub(crate) fn in_words(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

const LEADER_LIMIT: Duration = Duration::from_secs(15);
