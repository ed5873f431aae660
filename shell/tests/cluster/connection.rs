//! One gRPC connection to one server, with a deadline on every call.

use std::{net::SocketAddr, time::Duration};

use metastore_proto::etcdserverpb::{
    cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use metastore_proto::health::health_client::HealthClient;
use metastore_proto::v3electionpb::election_client::ElectionClient;
use metastore_proto::v3lockpb::lock_client::LockClient;
use tonic::transport::{Channel, Endpoint};

/// The stubs a test needs, over one HTTP/2 connection. Cloning shares the connection.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) lease: LeaseClient<Channel>,
    pub(crate) watch: WatchClient<Channel>,
    pub(crate) cluster: ClusterClient<Channel>,
    pub(crate) maintenance: MaintenanceClient<Channel>,
    pub(crate) lock: LockClient<Channel>,
    pub(crate) election: ElectionClient<Channel>,
    pub(crate) health: HealthClient<Channel>,
}

impl Connection {
    /// Connects to a server that is ready.
    ///
    /// # Errors
    ///
    /// When the connection cannot be opened, in words.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, String> {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address is a URL")
            .connect_timeout(CALL_LIMIT)
            .timeout(CALL_LIMIT)
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel.clone()),
            health: HealthClient::new(channel),
        })
    }
}

/// The runtime of one test: everything on the thread that owns the server.
pub(crate) fn single_threaded_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

const CALL_LIMIT: Duration = Duration::from_secs(20);
