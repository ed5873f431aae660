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
        "/version" => only_get(request).unwrap_or_else(version_of_server),
        _ => serve_health(context, request).await,
    }
}

/// Answers where only the health is to be had.
pub(crate) async fn serve_health<B>(context: &Context, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/health" => match only_get(request) {
            Some(refusal) => refusal,
            None => health(context, request.uri().query().unwrap_or_default()).await,
        },
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
    use std::future::{Future, poll_fn, ready};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Poll, ready};

    use arc_swap::ArcSwap;
    use futures_util::FutureExt;
    use hyper::body::Body as _;
    use metastore_core::mvcc::Store;
    use metastore_core::output::Published;

    use super::*;
    use crate::inbox::Receiver;

    /// A member that shows this, and where its calls end up; whoever has that does not answer.
    fn silent_member_with(published: Published) -> (Context, Receiver) {
        Context::showing(&Arc::new(ArcSwap::from_pointee(published)))
    }

    /// One without a leader.
    fn leaderless_member() -> (Context, Receiver) {
        silent_member_with(Published::at_start(Store::new().view(), 0))
    }

    /// One that has a leader.
    fn silent_member() -> (Context, Receiver) {
        silent_member_with(Published {
            leader: Some(1),
            ..Published::at_start(Store::new().view(), 0)
        })
    }

    fn asked(method: Method, uri: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(uri);
        request.body(()).expect("a fair request")
    }

    /// Code, content type and body of an answer that needs nobody else.
    fn read(answer: impl Future<Output = Response<Body>>) -> (u16, String, String) {
        let (head, mut body) = answer
            .now_or_never()
            .expect("an answer at once")
            .into_parts();
        let mut text = Vec::new();
        let frames = poll_fn(|cx| {
            while let Some(frame) = ready!(Pin::new(&mut body).poll_frame(cx)) {
                let data = frame.expect("a body from memory").into_data();
                text.extend_from_slice(&data.expect("a body without trailers"));
            }
            Poll::Ready(())
        });
        frames.now_or_never().expect("all of it is there");
        let kind = head.headers[header::CONTENT_TYPE].to_str().expect("text");
        let text = String::from_utf8(text).expect("text");
        (head.status.as_u16(), kind.to_owned(), text)
    }

    fn plain(code: u16, text: &str) -> (u16, String, String) {
        (
            code,
            "text/plain; charset=utf-8".to_owned(),
            text.to_owned(),
        )
    }

    #[test]
    fn another_method_than_get_is_refused_without_a_look_at_the_health() {
        let (context, _receiver) = silent_member();
        for method in [Method::POST, Method::HEAD] {
            let request = asked(method, "/health");
            let answer = serve(&context, &request).now_or_never();
            let answer = answer.expect("an answer at once");
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers()[header::ALLOW], "GET");
        }
        let request = asked(Method::GET, "/health");
        assert!(serve(&context, &request).now_or_never().is_none());
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

    #[test]
    fn the_version_is_json_for_whoever_gets_it() {
        let (context, _receiver) = leaderless_member();
        let (code, kind, text) = read(serve(&context, &asked(Method::GET, "/version")));
        assert_eq!((code, kind.as_str()), (200, "application/json"));
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let version = version::ETCD;
        assert_eq!(
            told,
            serde_json::json!({"etcdserver": version, "etcdcluster": version, "storage": version})
        );
        let request = asked(Method::POST, "/version");
        let refused = serve(&context, &request).now_or_never();
        let refused = refused.expect("an answer at once");
        assert_eq!(refused.headers()[header::ALLOW], "GET");
        assert_eq!(read(ready(refused)), plain(405, "Method Not Allowed\n"));
    }

    #[test]
    fn another_path_is_not_found() {
        let (context, _receiver) = silent_member();
        for path in ["/", "/healthy", "/health/", "/versions", "/v3/kv"] {
            for method in [Method::GET, Method::POST] {
                let request = asked(method, path);
                let not_found = plain(404, "404 page not found\n");
                assert_eq!(read(serve(&context, &request)), not_found, "{path}");
                assert_eq!(read(serve_health(&context, &request)), not_found, "{path}");
            }
        }
        let version = asked(Method::GET, "/version");
        let not_found = plain(404, "404 page not found\n");
        assert_eq!(read(serve_health(&context, &version)), not_found);
    }

    #[test]
    fn a_member_without_a_leader_is_healthy_only_for_serializable_reads() {
        let (context, _receiver) = leaderless_member();
        let unhealthy = plain(
            503,
            "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n",
        );
        let healthy = plain(200, r#"{"health":"true","reason":""}"#);
        for (path, expected) in [
            ("/health", &unhealthy),
            ("/health?serializable=false", &unhealthy),
            ("/health?exclude=NOSPACE", &unhealthy),
            ("/health?serializable=true", &healthy),
            ("/health?exclude=NOSPACE&serializable=true", &healthy),
        ] {
            let request = asked(Method::GET, path);
            assert_eq!(read(serve(&context, &request)), *expected, "{path}");
            assert_eq!(read(serve_health(&context, &request)), *expected, "{path}");
        }
    }

    #[test]
    fn a_member_that_leads_and_can_read_is_healthy() {
        let (context, _receiver) = silent_member_with(Published {
            leader: Some(2),
            reads_need_no_quorum: true,
            ..Published::at_start(Store::new().view(), 0)
        });
        assert_eq!(
            read(serve(&context, &asked(Method::GET, "/health"))),
            plain(200, r#"{"health":"true","reason":""}"#)
        );
    }
}
