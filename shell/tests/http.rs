//! What is asked by plain HTTP, and on which port it is answered.

mod cluster;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::{ServerProcess, free_ports},
    several::{in_words, put},
};
use metastore_proto::etcdserverpb::StatusRequest;

/// Code, content type and body of an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    code: u16,
    kind: String,
    body: String,
}

impl Answer {
    fn of(code: u16, kind: &str, body: &str) -> Self {
        Self {
            code,
            kind: kind.to_owned(),
            body: body.to_owned(),
        }
    }
}

/// Asks by hand: no HTTP client is needed for a line out and a few lines back.
fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a ready server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is heard");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let code = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok());
    let mut headers = lines.filter_map(|line| line.split_once(": "));
    let kind = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    Answer::of(
        code.unwrap_or_else(|| panic!("no status: {answer}")),
        kind.map_or("", |(_, kind)| kind),
        body,
    )
}

/// Whether gRPC is served here; if not, how the client takes the answer.
async fn call(address: SocketAddr) -> Result<(), String> {
    let mut connection = Connection::open(address).await?;
    let status = connection.maintenance.status(StatusRequest {}).await;
    status.map(drop).map_err(in_words)
}

/// Clients take a plain 404 for a call that is not there.
fn is_not_there(answer: &Result<(), String>) -> bool {
    let told = answer.as_ref().err();
    told.is_some_and(|told| told.starts_with("Unimplemented: "))
}

fn healthy() -> Answer {
    Answer::of(
        200,
        "text/plain; charset=utf-8",
        r#"{"health":"true","reason":""}"#,
    )
}

fn version() -> Answer {
    Answer::of(
        200,
        "application/json",
        r#"{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0"}"#,
    )
}

fn not_found() -> Answer {
    Answer::of(404, "text/plain; charset=utf-8", "404 page not found\n")
}

#[test]
fn one_port_serves_both() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    let address = server.client_address();
    assert_eq!(get(address, "/health"), healthy());
    assert_eq!(get(address, "/health?serializable=true"), healthy());
    assert_eq!(get(address, "/version"), version());
    assert_eq!(get(address, "/other"), not_found());
    single_threaded_runtime().block_on(async {
        call(address).await.expect("gRPC is served");
    });
}

#[test]
fn split_listeners_serve_their_own() {
    let [http, health] = free_ports().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut server = ServerProcess::metastore(&[
        &format!("--listen-client-http-urls=http://{http}"),
        &format!("--listen-metrics-urls=http://{health}"),
    ]);
    server.spawn();
    server.wait_until_ready();
    let grpc = server.client_address();
    assert_eq!(get(http, "/health"), healthy());
    assert_eq!(get(http, "/version"), version());
    assert_eq!(get(health, "/health"), healthy());
    assert_eq!(get(health, "/version"), not_found());
    for path in ["/health", "/version"] {
        assert_eq!(get(grpc, path), Answer::of(404, "", ""), "{path}");
    }
    single_threaded_runtime().block_on(async {
        put(&server, "k", "v").await.expect("gRPC is served");
        let answer = call(http).await;
        assert!(is_not_there(&answer), "{answer:?}");
        // It does not even speak the protocol.
        assert!(call(health).await.is_err());
    });
    server.stop();
    let log = server.stderr();
    let listeners = log.matches("ready to serve client requests").count();
    assert_eq!(listeners, 2, "of clients, there are two: {log}");
}

const PATIENCE: Duration = Duration::from_secs(10);
