//! The system lets a server open so many files, and clients may not take those that it needs for its log.

mod cluster;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    eventually::eventually,
    server_process::{ServerProcess, free_ports},
};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest};

/// Files that may be open; 50 of them are for clients.
const OPEN_MAX: u64 = 250;

/// More than that, and more than the limit.
const CLIENTS: usize = 300;

/// Several files of the log, of which the first has a megabyte.
const VALUES: usize = 20;
const VALUE_BYTES: usize = 1 << 20;

#[test]
fn clients_that_take_all_sockets_do_not_stop_the_log() {
    let [health_port, _] = free_ports();
    let health = format!("--listen-metrics-urls=http://127.0.0.1:{health_port}");
    let mut server = ServerProcess::metastore(&[&health, "--snapshot-count=5"]);
    server.limit_open_files(OPEN_MAX);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut early = Connection::open(server.client_address())
            .await
            .expect("a ready server");
        let crowd: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| TcpStream::connect(server.client_address()).expect("room in the backlog"))
            .collect();
        eventually("clients take all room", async || {
            let full = server.stderr().contains("as many are connected as may be");
            full.then_some(()).ok_or_else(|| server.stderr())
        })
        .await;
        for number in 0..VALUES {
            let put = PutRequest {
                key: format!("k{number}").into_bytes(),
                value: vec![b'v'; VALUE_BYTES],
                ..PutRequest::default()
            };
            early.kv.put(put).await.expect("the log goes on");
        }
        assert!(is_healthy(health_port), "who watches over it is answered");
        assert!(server.is_running(), "{}", server.stderr());
        drop(crowd);
        let mut late = Connection::open(server.client_address())
            .await
            .expect("there is room again");
        let range = RangeRequest {
            key: b"k".to_vec(),
            range_end: b"l".to_vec(),
            count_only: true,
            ..RangeRequest::default()
        };
        let found = late.kv.range(range).await.expect("an answer").into_inner();
        assert_eq!(found.count, VALUES as i64);
    });
    server.stop();
}

#[test]
fn a_limit_that_leaves_nothing_for_clients_is_refused_in_clear_words() {
    let mut server = ServerProcess::metastore(&[]);
    server.limit_open_files(200);
    let ending = server.run_to_refusal();
    assert_eq!(ending.status.code(), Some(1));
    for word in ["200 files", "ulimit -n", "LimitNOFILE="] {
        assert!(ending.stderr.contains(word), "{}", ending.stderr);
    }
    assert!(!server.data_dir().exists(), "nothing was begun");
}

fn is_healthy(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a socket");
    let asked = stream.write_all(b"GET /health HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    asked.expect("it is heard");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    read.expect("an answer in time");
    answer.starts_with("HTTP/1.1 200")
}
