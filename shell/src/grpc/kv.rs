//! The KV service: keys, transactions and compaction.

use std::pin::Pin;

use futures_util::{Stream, stream};
use metastore_core::check;
use metastore_core::command::{Command, Request as Replicated};
use metastore_core::kv_error::KvError;
use metastore_core::mvcc::View;
use metastore_core::output::Outcome;
use metastore_core::txn;
use metastore_proto::etcdserverpb::kv_server::Kv;
use metastore_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tonic::{Request, Response, Status};

use super::chunks::Chunks;
use super::long_read::{self, Extent};
use super::{Context, short};
use crate::breathing::Breathing;
use crate::status;

/// See the module.
pub(crate) struct KvService {
    context: Context,
}

/// Bytes of a chunk of a range stream: a fraction of a millisecond of work, after which the other requests of the
/// connection thread have their turn.
const CHUNK_BYTES: usize = 64 << 10;

impl KvService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Replicates a request, unless it is too large or would overfill the store.
    async fn replicate(&self, request: Replicated) -> Result<Outcome, Status> {
        self.context.replicate(Command::from(request)).await
    }

    /// Waits, where the read has to be linearizable, until the published view may answer it.
    async fn read_barrier(&self, serializable: bool) -> Result<(), Status> {
        if serializable {
            return Ok(());
        }
        self.context
            .node
            .barrier()
            .await
            .map_err(|refusal| status::from_refusal(&refusal))
    }

    /// Reads from the published view: on this thread what is short, and all else away from it.
    async fn read<T: Send + 'static>(
        &self,
        extent: Option<Extent>,
        read: impl FnOnce(&View) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, Status> {
        match extent {
            None => read(&self.context.published().view).map_err(|e| status::from_kv(&e)),
            Some(extent) => long_read::compute(&self.context, extent, read).await,
        }
    }

    fn stamp_txn(&self, response: &mut TxnResponse) {
        self.context.stamp(&mut response.header);
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        if !request.serializable && self.context.is_learner() {
            return Err(status::not_on_learner());
        }
        check::range(&request, &self.context.limits.shape).map_err(|e| status::from_kv(&e))?;
        self.read_barrier(request.serializable).await?;
        let extent = short::extent_of_range(&request);
        let mut response = self.read(extent, move |view| view.range(&request)).await?;
        self.context.stamp(&mut response.header);
        Ok(Response::new(response))
    }

    type RangeStreamStream =
        Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let request = request.into_inner();
        check::range_stream(&request, &self.context.limits.shape)
            .map_err(|e| status::from_kv(&e))?;
        self.read_barrier(request.serializable).await?;
        let view = self.context.published().view.clone();
        let chunks = view
            .range_stream(&request, CHUNK_BYTES)
            .map_err(|e| status::from_kv(&e))?;
        let responses = stream::iter(Chunks::new(chunks, self.context.clone()));
        let responses = Breathing::new(responses, weight);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        check::put(&request, &self.context.limits.shape).map_err(|e| status::from_kv(&e))?;
        match self.replicate(Replicated::Put(request)).await? {
            Outcome::Put(mut response) => {
                self.context.stamp(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(status::answered_otherwise("a put")),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check::delete_range(&request, &self.context.limits.shape)
            .map_err(|e| status::from_kv(&e))?;
        match self.replicate(Replicated::DeleteRange(request)).await? {
            Outcome::DeleteRange(mut response) => {
                self.context.stamp(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(status::answered_otherwise("a delete")),
        }
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        check::txn(&request, &self.context.limits.shape).map_err(|e| status::from_kv(&e))?;
        if txn::is_read_only(&request) {
            self.read_barrier(txn::is_serializable(&request)).await?;
            let extent = short::extent_of_read(&request);
            let read = move |view: &View| view.txn_read_only(&request);
            let mut response = self.read(extent, read).await?;
            self.stamp_txn(&mut response);
            return Ok(Response::new(response));
        }
        match self.replicate(Replicated::Txn(request)).await? {
            Outcome::Txn(mut response) => {
                self.stamp_txn(&mut response);
                Ok(Response::new(response))
            }
            Outcome::TxnUntold { .. } => Err(status::answer_too_large()),
            _ => Err(status::answered_otherwise("a transaction")),
        }
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        match self
            .replicate(Replicated::Compact(request.into_inner()))
            .await?
        {
            Outcome::Compact { mut response, .. } => {
                self.context.stamp(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(status::answered_otherwise("a compaction")),
        }
    }
}

fn weight(chunk: &Result<RangeStreamResponse, Status>) -> usize {
    chunk.as_ref().map_or(0, prost::Message::encoded_len)
}
