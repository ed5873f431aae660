//! The Election service: who leads under a name, told to whoever wants to know.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_util::{Stream, StreamExt, stream};
use metastore_core::claim;
use metastore_core::watch::Content;
use metastore_proto::etcdserverpb::range_request::SortOrder;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use metastore_proto::mvccpb::event::EventType;
use metastore_proto::mvccpb::{Event, KeyValue};
use metastore_proto::v3electionpb::election_server::Election;
use metastore_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::Context;
use super::claim::{Claim, Turn, revalue, withdraw};
use crate::status;
use crate::watching::OpenStream;

/// See the module.
pub(crate) struct ElectionService {
    context: Context,
}

impl ElectionService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    async fn stand(&self, request: CampaignRequest) -> Result<CampaignResponse, Status> {
        let CampaignRequest { name, lease, value } = request;
        let staked = Claim::stake(&self.context, &name, lease, value.clone()).await?;
        let mut claim = staked.claim;
        if staked.found.is_some_and(|kv| kv.value != value) {
            let of = (&claim.key[..], claim.revision, claim.lease);
            let (_, still) = revalue(&self.context, of, value).await?;
            if !still {
                return Err(not_leader());
            }
        }
        match claim.until_oldest().await? {
            Turn::Owner(_) => Ok(CampaignResponse {
                header: Some(staked.header),
                leader: Some(LeaderKey {
                    name,
                    key: claim.key.clone(),
                    rev: claim.revision,
                    lease: claim.lease,
                }),
            }),
            Turn::Lost => Err(not_leader()),
        }
    }

    async fn proclaim_it(&self, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
        let leader = request.leader.ok_or_else(leader_missing)?;
        let of = (&leader.key[..], leader.rev, leader.lease);
        match revalue(&self.context, of, request.value).await? {
            (header, true) => Ok(ProclaimResponse {
                header: Some(header),
            }),
            (_, false) => Err(not_leader()),
        }
    }

    async fn who(&self, name: &[u8]) -> Result<LeaderResponse, Status> {
        let (kv, header) = owner(&self.context, &claim::prefix(name)).await?;
        match kv {
            Some(kv) => Ok(LeaderResponse {
                header: Some(header),
                kv: Some(kv),
            }),
            None => Err(Status::unknown("election: no leader")),
        }
    }

    async fn resign_it(&self, leader: Option<LeaderKey>) -> Result<ResignResponse, Status> {
        let leader = leader.ok_or_else(leader_missing)?;
        let header = withdraw(&self.context, &leader.key, leader.rev).await?;
        Ok(ResignResponse {
            header: Some(header),
        })
    }
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let elected = self.stand(request.into_inner()).await;
        elected.map(Response::new).map_err(status::as_unknown)
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let proclaimed = self.proclaim_it(request.into_inner()).await;
        proclaimed.map(Response::new).map_err(status::as_unknown)
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let leader = self.who(&request.into_inner().name).await;
        leader.map(Response::new).map_err(status::as_unknown)
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let mut observer = Observer {
            context: self.context.clone(),
            prefix: claim::prefix(&request.into_inner().name),
            watched: None,
            told: VecDeque::new(),
        };
        // There is no answer, not even its headers, before there is a leader: clients tell by that whether there is one.
        let first = observer.next().await.map_err(status::as_unknown)?;
        let others = stream::try_unfold(observer, |mut observer| async move {
            let next = observer.next().await.map_err(status::as_unknown)?;
            Ok(Some((next, observer)))
        });
        let leaders = stream::iter([Ok(first)]).chain(others);
        Ok(Response::new(Box::pin(leaders)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let resigned = self.resign_it(request.into_inner().leader).await;
        resigned.map(Response::new).map_err(status::as_unknown)
    }
}

/// Whoever follows the leaders of one name.
struct Observer {
    context: Context,
    prefix: Vec<u8>,
    /// What is watched: the leader's key, or all keys while there is no leader.
    watched: Option<OpenStream>,
    /// What is to be told before anything else happens.
    told: VecDeque<LeaderResponse>,
}

impl Observer {
    /// The next value of a leader.
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            if let Some(next) = self.told.pop_front() {
                return Ok(next);
            }
            let Some(watched) = &self.watched else {
                self.look().await?;
                continue;
            };
            let Some(response) = heard(&self.context, watched).await? else {
                self.watched = None;
                continue;
            };
            let header = response.header.unwrap_or_default();
            for event in response.events {
                self.hear(event, header);
            }
        }
    }

    /// Finds the leader, or waits for one.
    async fn look(&mut self) -> Result<(), Status> {
        let (kv, header) = owner(&self.context, &self.prefix).await?;
        let from = header.revision + 1;
        match kv {
            Some(kv) => self.follow(kv, header, from),
            None => {
                let first = self.first(from).await?;
                if let Some(kv) = first {
                    let header = ResponseHeader {
                        revision: kv.mod_revision,
                        ..header
                    };
                    let from = kv.mod_revision + 1;
                    self.follow(kv, header, from);
                }
            }
        }
        Ok(())
    }

    /// Tells of a leader, and watches its key from a revision on.
    fn follow(&mut self, kv: KeyValue, header: ResponseHeader, from: i64) {
        self.watched = Some(watch(WatchCreateRequest {
            key: kv.key.clone(),
            start_revision: from,
            ..WatchCreateRequest::default()
        }));
        self.told.push_back(LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        });
    }

    /// Waits for the first claim from a revision on; none where another look is due.
    async fn first(&self, from: i64) -> Result<Option<KeyValue>, Status> {
        let stream = watch(WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: claim::behind(&self.prefix),
            start_revision: from,
            filters: vec![FilterType::Nodelete.into()],
            ..WatchCreateRequest::default()
        });
        let response = heard(&self.context, &stream).await?;
        Ok(response.and_then(|response| response.events.into_iter().next()?.kv))
    }

    fn hear(&mut self, event: Event, header: ResponseHeader) {
        match (event.r#type(), self.watched.is_some()) {
            (EventType::Put, true) => self.told.push_back(LeaderResponse {
                header: Some(header),
                kv: event.kv,
            }),
            (EventType::Delete, _) => self.watched = None,
            // Behind the end of this leader: whoever holds the key now is found by the next look.
            (EventType::Put, false) => {}
        }
    }
}

fn watch(request: WatchCreateRequest) -> OpenStream {
    let stream = OpenStream::open();
    stream.create(&request);
    stream
}

/// The next events of a stream; none when what they would follow on has been compacted.
async fn heard(context: &Context, stream: &OpenStream) -> Result<Option<WatchResponse>, Status> {
    poll_fn(|cx| {
        loop {
            match stream.poll_next(cx) {
                Poll::Ready(Ok((response, term))) => match response.content {
                    Content::Events(_) => {
                        let stamp = context.identity.header(0, term);
                        let mut bytes = Vec::with_capacity(response.encoded_len(&stamp));
                        response.encode(&stamp, &mut bytes);
                        let response = WatchResponse::decode(bytes.as_slice());
                        let response =
                            response.map_err(|error| Status::internal(error.to_string()));
                        return Poll::Ready(response.map(Some));
                    }
                    Content::Compacted { .. } => return Poll::Ready(Ok(None)),
                    _ => {}
                },
                Poll::Ready(Err(_)) => return Poll::Ready(Err(status::server_stopped())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The oldest claim below a prefix as of now, and the header of the look.
async fn owner(
    context: &Context,
    prefix: &[u8],
) -> Result<(Option<KeyValue>, ResponseHeader), Status> {
    let passed = context.node.barrier().await;
    passed.map_err(|refusal| status::from_refusal(&refusal))?;
    let view = context.published().view.clone();
    let found = view.range(&claim::by_creation(prefix, SortOrder::Ascend));
    let found = found.map_err(|error| status::from_kv(&error))?;
    Ok((
        found.kvs.into_iter().next(),
        context.header(view.revision()),
    ))
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn leader_missing() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
