//! The plain HTTP endpoints beside gRPC on the client port: health and version.

use http::{Method, Request, Response, StatusCode, header};
use metastore_proto::etcdserverpb::RangeRequest;
use tonic::Status;
use tonic::body::Body;

use crate::grpc::Context;
use crate::{status, version};

/// Answers a request that is not gRPC.
pub(crate) async fn serve<B>(context: &Context, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/health" => match only_get(request) {
            Some(refusal) => refusal,
            None => health(context, request.uri().query().unwrap_or_default()).await,
        },
        "/version" => only_get(request).unwrap_or_else(version_of_server),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn only_get<B>(request: &Request<B>) -> Option<Response<Body>> {
    if request.method() == Method::GET {
        return None;
    }
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    refusal
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    Some(refusal)
}

/// Healthy means: there is a leader (unless a serializable read is asked for), and one key can be read.
async fn health(context: &Context, query: &str) -> Response<Body> {
    let serializable = query.split('&').any(|pair| pair == "serializable=true");
    let reason = if !serializable && context.published().leader.is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        read_one(context, serializable).await.err()
    };
    match reason {
        None => text(StatusCode::OK, r#"{"health":"true","reason":""}"#),
        Some(reason) => {
            let body = format!(
                "{{\"health\":\"false\",\"reason\":{}}}\n",
                serde_json::Value::from(reason)
            );
            text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

async fn read_one(context: &Context, serializable: bool) -> Result<(), String> {
    let told = |status: Status| format!("RANGE ERROR:{}", status.message());
    if !serializable {
        let passed = context.node.barrier().await;
        passed.map_err(|refusal| told(status::from_refusal(&refusal)))?;
    }
    let probe = RangeRequest {
        key: b"health".to_vec(),
        ..RangeRequest::default()
    };
    let found = context.published().view.range(&probe);
    found.map_err(|error| told(status::from_kv(&error)))?;
    Ok(())
}

fn version_of_server() -> Response<Body> {
    let body = format!(
        r#"{{"etcdserver":"{v}","etcdcluster":"{v}","storage":"{v}"}}"#,
        v = version::ETCD
    );
    respond(StatusCode::OK, "application/json", body)
}

fn text(code: StatusCode, body: impl Into<String>) -> Response<Body> {
    respond(code, "text/plain; charset=utf-8", body.into())
}

fn respond(code: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use futures_util::FutureExt;
    use metastore_core::check::Limits;
    use metastore_core::mvcc::Store;
    use metastore_core::output::Published;

    use super::*;
    use crate::grpc::{Identity, RequestLimits};
    use crate::inbox::{self, Receiver};
    use crate::node::Node;

    /// A member that has a leader, and where its calls end up; whoever has that does not answer.
    fn silent_member() -> (Context, Receiver) {
        let (calls, receiver) = inbox::new();
        let published = Published {
            leader: Some(1),
            ..Published::at_start(Store::new().view(), 0)
        };
        let published = Arc::new(ArcSwap::from_pointee(published));
        let context = Context {
            node: Node::new(calls, published),
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
        };
        (context, receiver)
    }

    fn health_asked_by(method: Method) -> Request<()> {
        let request = Request::builder().method(method).uri("/health");
        request.body(()).expect("a fair request")
    }

    #[test]
    fn another_method_than_get_is_refused_without_a_look_at_the_health() {
        let (context, _receiver) = silent_member();
        for method in [Method::POST, Method::HEAD] {
            let request = health_asked_by(method);
            let answer = serve(&context, &request).now_or_never();
            let answer = answer.expect("an answer at once");
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers()[header::ALLOW], "GET");
        }
        let asked = health_asked_by(Method::GET);
        assert!(serve(&context, &asked).now_or_never().is_none());
    }

    #[test]
    fn a_read_that_fails_is_told_in_the_words_that_clients_know() {
        let (context, receiver) = silent_member();
        drop(receiver);
        let told = read_one(&context, false).now_or_never();
        let told = told.expect("an answer at once");
        assert_eq!(
            told,
            Err("RANGE ERROR:etcdserver: server stopped".to_owned())
        );
    }
}
