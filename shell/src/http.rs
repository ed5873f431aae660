//! The plain HTTP endpoints beside gRPC on the client port: health and version.

use http::{Method, Request, Response, StatusCode, header};
use metastore_proto::etcdserverpb::RangeRequest;
use tonic::body::Body;

use crate::grpc::Context;
use crate::version;

/// Answers a request that is not gRPC.
pub(crate) async fn serve<B>(context: &Context, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/health" => only_get(request)
            .unwrap_or(health(context, request.uri().query().unwrap_or_default()).await),
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
    if !serializable {
        context
            .node
            .barrier()
            .await
            .map_err(|refusal| format!("RANGE ERROR:{refusal}"))?;
    }
    let probe = RangeRequest {
        key: b"health".to_vec(),
        ..RangeRequest::default()
    };
    context
        .published()
        .view
        .range(&probe)
        .map(|_| ())
        .map_err(|error| format!("RANGE ERROR:{error}"))
}

fn version_of_server() -> Response<Body> {
    let body = format!(
        r#"{{"etcdserver":"{v}","etcdcluster":"{v}","storage":"{v}"}}"#,
        v = version::ETCD
    );
    respond(StatusCode::OK, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}
