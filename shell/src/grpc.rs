//! The gRPC services: each handler decodes nothing and decides nothing; it checks what is cheap to check,
//! calls the member, and stamps the header.

mod chunks;
mod claim;
mod cluster;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod long_read;
mod maintenance;
mod needing_leader;
mod patience;
mod short;
mod spelling;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use metastore_core::check::Limits;
use metastore_core::command::Command;
use metastore_core::output::{MemberInfo, Outcome, Published};
use metastore_core::quota;
use metastore_proto::etcdserverpb::ResponseHeader;
use metastore_proto::etcdserverpb::cluster_server::ClusterServer;
use metastore_proto::etcdserverpb::kv_server::KvServer;
use metastore_proto::etcdserverpb::lease_server::LeaseServer;
use metastore_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use metastore_proto::health::health_server::HealthServer;
use metastore_proto::v3electionpb::election_server::ElectionServer;
use metastore_proto::v3lockpb::lock_server::LockServer;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

pub(crate) use spelling::Spelt;

use crate::disk::data_dir::MemberIdentity;
use crate::node::Node;
use crate::status;

/// What every handler knows: the member, who it is, and the limits on requests.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) node: Node,
    pub(crate) identity: Identity,
    pub(crate) limits: RequestLimits,
    /// Whether it was added as a learner, for as long as it knows of no members, or of former ones.
    pub(crate) joins_as_learner: bool,
}

#[cfg(test)]
impl Context {
    /// Of a member that shows this, and where its calls end up; whoever has that does not answer.
    pub(crate) fn showing(
        published: &Arc<arc_swap::ArcSwap<Published>>,
    ) -> (Self, crate::inbox::Receiver) {
        let (calls, receiver) = crate::inbox::new();
        let context = Self {
            node: Node::new(calls, Arc::clone(published)),
            identity: Identity {
                cluster_id: 1,
                member_id: 2,
            },
            limits: RequestLimits {
                request_bytes_max: 1024,
                shape: Limits::default(),
                quota_bytes: None,
                lease_ttl_seconds_min: 1,
                auto_promote_learners: false,
                election_timeout: Duration::from_secs(1),
            },
            joins_as_learner: false,
        };
        (context, receiver)
    }
}

/// The ids in every response header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

/// Bounds on what one request may ask.
#[derive(Debug, Clone)]
pub(crate) struct RequestLimits {
    /// Bytes of a replicated request.
    pub(crate) request_bytes_max: u64,
    /// Rules on the shape of transactions.
    pub(crate) shape: Limits,
    /// Bytes of the store above which nothing may be added; none for no limit.
    pub(crate) quota_bytes: Option<u64>,
    /// No lease is granted for less, in seconds.
    pub(crate) lease_ttl_seconds_min: i64,
    /// Whether this member promotes learners by itself while it leads.
    pub(crate) auto_promote_learners: bool,
    /// How long a leader may be silent.
    pub(crate) election_timeout: Duration,
}

/// What learners serve; of ranges only the serializable ones.
const LEARNERS_SERVE: [&str; 3] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
];

/// Calls whose answers go on for as long as the client likes.
const ENDLESS: [&str; 4] = [
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/v3electionpb.Election/Observe",
    "/grpc.health.v1.Health/Watch",
];

/// What the gRPC layer takes on top of `request_bytes_max` before it refuses a frame unread.
pub(crate) const FRAME_OVERHEAD_BYTES: u64 = 512 * 1024;

impl Identity {
    pub(crate) fn of(member: &MemberIdentity) -> Self {
        Self {
            cluster_id: member.cluster_id,
            member_id: member.member_id,
        }
    }

    pub(crate) fn header(self, revision: i64, raft_term: u64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term,
        }
    }
}

impl Context {
    /// A header that says where this member stands now, at this revision.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        self.identity.header(revision, self.node.published().term)
    }

    /// A header at the revision that readers see now.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        let published = self.node.published();
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision: published.view.revision(),
            raft_term: published.term,
        }
    }

    /// Completes the header that the core began with the revision alone.
    pub(crate) fn stamp(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |h| h.revision);
        *header = Some(self.header(revision));
    }

    /// Replicates a command, unless it is too large or would overfill the store.
    pub(crate) async fn replicate(&self, command: Command) -> Result<Outcome, Status> {
        if command.encoded_len() as u64 > self.limits.request_bytes_max {
            return Err(status::request_too_large());
        }
        if let Some(quota_bytes) = self.limits.quota_bytes {
            let in_use = self.published().bytes_in_use;
            if !quota::has_room(in_use, quota::charge(command.request()), quota_bytes) {
                return Err(status::space_exceeded());
            }
        }
        self.node
            .propose(command)
            .await
            .map_err(|refusal| status::from_write_refusal(&refusal))
    }

    /// Whether this member only learns: it does not vote, and serves next to nothing.
    pub(crate) fn is_learner(&self) -> bool {
        let published = self.node.published();
        let listed = |members: &[MemberInfo]| {
            let own = members.iter().find(|it| it.id == self.identity.member_id);
            own.map(|own| own.is_learner)
        };
        listed(&published.agreed_members)
            .or_else(|| listed(&published.members))
            .unwrap_or(self.joins_as_learner)
    }

    /// Why a request is not served here and now, whatever it asks in detail.
    fn refusal(&self, path: &str, headers: &HeaderMap, wants_leader: bool) -> Option<Status> {
        if self.is_learner() && !LEARNERS_SERVE.contains(&path) {
            return Some(status::not_on_learner());
        }
        let mut versions = headers.get_all("client-api-version").iter();
        if versions.any(|version| std::str::from_utf8(version.as_bytes()).is_err()) {
            return Some(status::invalid_client_api_version());
        }
        if wants_leader && self.published().leader.is_none() {
            return Some(status::no_leader());
        }
        None
    }

    pub(crate) fn published(&self) -> arc_swap::Guard<Arc<Published>> {
        self.node.published()
    }
}

/// All services of one member, as one function from request to response; cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Services(Arc<Table>);

struct Table {
    kv: KvServer<kv::KvService>,
    lease: LeaseServer<lease::LeaseService>,
    cluster: ClusterServer<cluster::ClusterService>,
    maintenance: MaintenanceServer<maintenance::MaintenanceService>,
    health: HealthServer<health::HealthService>,
    lock: LockServer<lock::LockService>,
    election: ElectionServer<election::ElectionService>,
    watch: watch::WatchService,
    context: Context,
}

impl Services {
    pub(crate) fn new(context: &Context) -> Self {
        let frame_max = context
            .limits
            .request_bytes_max
            .saturating_add(FRAME_OVERHEAD_BYTES);
        let frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
        Self(Arc::new(Table {
            kv: KvServer::new(kv::KvService::new(context.clone()))
                .max_decoding_message_size(frame_max)
                .max_encoding_message_size(usize::MAX),
            lease: LeaseServer::new(lease::LeaseService::new(context.clone()))
                .max_decoding_message_size(frame_max),
            cluster: ClusterServer::new(cluster::ClusterService::new(context.clone()))
                .max_decoding_message_size(frame_max),
            maintenance: MaintenanceServer::new(maintenance::MaintenanceService::new(
                context.clone(),
            ))
            .max_decoding_message_size(frame_max),
            health: HealthServer::new(health::HealthService).max_decoding_message_size(frame_max),
            lock: LockServer::new(lock::LockService::new(context.clone()))
                .max_decoding_message_size(frame_max),
            election: ElectionServer::new(election::ElectionService::new(context.clone()))
                .max_decoding_message_size(frame_max)
                .max_encoding_message_size(usize::MAX),
            watch: watch::WatchService::new(context.clone(), frame_max),
            context: context.clone(),
        }))
    }

    /// Serves one call; a service that is not built yet answers UNIMPLEMENTED.
    pub(crate) async fn call(&self, request: Request<Incoming>) -> Response<Spelt> {
        let patience = patience::of(request.uri().path(), request.headers());
        let served = patience::within(patience, self.serve(request)).await;
        let mut response = served.unwrap_or_else(Status::into_http);
        spelling::spell(response.headers_mut());
        response.map(Spelt)
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let context = &self.0.context;
        let wants_leader = needing_leader::is_asked(request.headers());
        if let Some(refusal) = context.refusal(path, request.headers(), wants_leader) {
            return refusal.into_http();
        }
        match wants_leader && ENDLESS.contains(&path) {
            true => needing_leader::bind(self.route(request), context).await,
            false => self.route(request).await,
        }
    }

    /// Hands the call to its service.
    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let uri = request.uri().clone();
        let path = uri.path().get(1..).unwrap_or_default();
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        let response = match service {
            "etcdserverpb.KV" => self.0.kv.clone().call(request).await,
            "etcdserverpb.Lease" => self.0.lease.clone().call(request).await,
            "etcdserverpb.Cluster" => self.0.cluster.clone().call(request).await,
            "etcdserverpb.Maintenance" => self.0.maintenance.clone().call(request).await,
            "etcdserverpb.Watch" => Ok(self.0.watch.call(request).await),
            "v3lockpb.Lock" => self.0.lock.clone().call(request).await,
            "v3electionpb.Election" => self.0.election.clone().call(request).await,
            "grpc.health.v1.Health" => self.0.health.clone().call(request).await,
            unknown => Ok(Status::unimplemented(format!("unknown service {unknown}")).into_http()),
        };
        let mut response = response.unwrap_or_else(|never: Infallible| match never {});
        let headers = response.headers_mut();
        rename_refusal(headers);
        if is_wordless(headers) {
            return Status::unimplemented(format!("unknown method {method} for service {service}"))
                .into_http();
        }
        response
    }
}

/// Whether a method is not there: such a refusal has no text.
fn is_wordless(headers: &HeaderMap) -> bool {
    let code = headers.get("grpc-status").map(HeaderValue::as_bytes);
    code.is_some_and(|code| Code::from_bytes(code) == Code::Unimplemented)
        && !headers.contains_key("grpc-message")
}

/// Gives a refusal by the transport the words that clients know.
fn rename_refusal(headers: &mut HeaderMap) {
    // Only a refusal carries its status in the headers: an answer carries it in the trailers.
    if !headers.contains_key("grpc-status") {
        return;
    }
    if let Some(status) = Status::from_header_map(headers).and_then(|it| status::of_oversized(&it))
    {
        headers.remove("grpc-message");
        // The text is plain ASCII, which a header always takes.
        let _ = status.add_header(headers);
    }
}

#[cfg(test)]
mod tests {
    use metastore_core::mvcc::Store;

    use super::*;

    #[test]
    fn a_frame_over_the_limit_is_refused_in_the_words_clients_know() {
        let mut headers = HeaderMap::new();
        let theirs = "Error, decoded message length too large: found 2097200 bytes, the limit is: 2097152 bytes";
        Status::out_of_range(theirs)
            .add_header(&mut headers)
            .expect("plain text");
        rename_refusal(&mut headers);
        let status = Status::from_header_map(&headers).expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (2097200 vs. 2097152)"
        );
    }

    #[test]
    fn what_a_member_was_added_as_counts_until_it_is_listed() {
        let (own, other) = (2, 3);
        let list = |list: &[(u64, bool)]| -> Arc<[MemberInfo]> {
            let member = |(id, is_learner): &(u64, bool)| MemberInfo {
                id: *id,
                name: String::new(),
                peer_urls: Vec::new(),
                client_urls: Vec::new(),
                is_learner: *is_learner,
            };
            list.iter().map(member).collect()
        };
        for (members, agreed, expected) in [
            (list(&[]), list(&[]), None),
            (list(&[(own, false)]), list(&[]), Some(false)),
            (list(&[(own, true)]), list(&[]), Some(true)),
            (list(&[(own, false)]), list(&[(own, true)]), Some(true)),
            (list(&[(own, true)]), list(&[(own, false)]), Some(false)),
            // The log begins with the members before it came.
            (list(&[(other, false)]), list(&[(other, false)]), None),
        ] {
            let published = Published {
                members,
                agreed_members: agreed,
                ..Published::at_start(Store::new().view(), 0)
            };
            let shown = Arc::new(arc_swap::ArcSwap::from_pointee(published));
            let (mut context, _calls) = Context::showing(&shown);
            assert_eq!(context.identity.member_id, own);
            for joins_as_learner in [false, true] {
                context.joins_as_learner = joins_as_learner;
                assert_eq!(context.is_learner(), expected.unwrap_or(joins_as_learner));
            }
        }
    }

    #[test]
    fn another_refusal_keeps_its_words() {
        let mut headers = HeaderMap::new();
        Status::out_of_range("etcdserver: mvcc: required revision has been compacted")
            .add_header(&mut headers)
            .expect("plain");
        let before = headers.clone();
        rename_refusal(&mut headers);
        assert_eq!(headers, before);
    }
}
