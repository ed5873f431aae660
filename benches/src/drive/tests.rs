//! Whole runs against a server of a few lines: what it answers is what is counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Plan, run, run_until};
use crate::conversation::Site;
use crate::frame::{self, Kind};
use crate::measurement::Measurement;
use crate::schedule::Until;
use crate::status::Failure;
use crate::workload::{Shape, Space, Workload};

/// What the server does with each request, counted from 0 on every connection.
type Behaviour = fn(request: u32, stream: u32) -> Vec<u8>;

/// Serves any number of connections until the test ends.
fn serve(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || converse(socket, behaviour));
        }
    });
    endpoint
}

/// Answers frames until the client, or the behaviour by an empty answer, ends the connection.
fn converse(mut socket: TcpStream, behaviour: Behaviour) {
    let mut bytes = vec![0; PREFACE_BYTES];
    socket
        .read_exact(&mut bytes)
        .expect("the client sends the preface");
    let mut settings = Vec::new();
    frame::push_header(&mut settings, 0, Kind::Settings, 0, 0);
    socket.write_all(&settings).expect("the client reads");
    bytes.clear();
    let mut requests = 0;
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
        let mut answers = Vec::new();
        let mut used = 0;
        while let Some((frame, length)) =
            frame::split(&bytes[used..]).expect("the client writes good frames")
        {
            used += length;
            if frame.kind == Some(Kind::Data) {
                let answer = behaviour(requests, frame.stream);
                if answer.is_empty() {
                    return;
                }
                let length = u32::try_from(frame.payload.len()).expect("a frame is small");
                frame::push_window_update(&mut answers, 0, length);
                answers.extend(answer);
                requests += 1;
            }
        }
        bytes.drain(..used);
        if socket.write_all(&answers).is_err() {
            return;
        }
    }
}

fn success(stream: u32) -> Vec<u8> {
    let mut answer = Vec::new();
    push(
        &mut answer,
        Kind::Headers,
        frame::END_HEADERS,
        stream,
        &[0x88],
    );
    push(&mut answer, Kind::Data, 0, stream, &[0; 5]);
    push(
        &mut answer,
        Kind::Headers,
        frame::END_HEADERS | frame::END_STREAM,
        stream,
        b"\x00\x0bgrpc-status\x010",
    );
    answer
}

fn refusal(stream: u32) -> Vec<u8> {
    let mut answer = Vec::new();
    let block = b"\x88\x00\x0bgrpc-status\x019\x00\x0cgrpc-message\x02no";
    push(
        &mut answer,
        Kind::Headers,
        frame::END_HEADERS | frame::END_STREAM,
        stream,
        block,
    );
    answer
}

fn push(answer: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    frame::push_header(answer, payload.len(), kind, flags, stream);
    answer.extend_from_slice(payload);
}

fn plan(endpoint: SocketAddr) -> Plan {
    let site = Site {
        endpoint,
        server_pid: None,
        patience: Duration::from_millis(300),
    };
    Plan {
        connections: 3,
        clients: 10,
        until: Until::Total(1000),
        ..Plan::at(site)
    }
}

fn puts() -> Workload {
    let space = Space {
        key_bytes: 8,
        value_bytes: 10,
        keys: 100,
        sequential: false,
        seed: 1,
    };
    Workload::new("localhost", Shape::Put, space).expect("a good workload")
}

fn measured(plan: &Plan) -> Measurement {
    run(plan, &mut puts()).expect("the server is there")
}

fn failures(measurement: Measurement) -> Vec<(Failure, u64)> {
    measurement.failures.into_iter().collect()
}

#[test]
fn every_request_of_a_total_is_answered_once() {
    let measurement = measured(&plan(serve(|_, stream| success(stream))));
    assert_eq!(
        (
            measurement.succeeded,
            measurement.failed(),
            measurement.missed
        ),
        (1000, 0, 0)
    );
    assert_eq!(measurement.response_bytes, 5000);
}

#[test]
fn refused_requests_are_counted_by_code_and_message() {
    let odd_refused: Behaviour = |request, stream| {
        if request % 2 == 1 {
            refusal(stream)
        } else {
            success(stream)
        }
    };
    let measurement = measured(&Plan {
        connections: 1,
        ..plan(serve(odd_refused))
    });
    assert_eq!(measurement.succeeded, 500);
    assert_eq!(
        failures(measurement),
        [(
            Failure::Status {
                code: 9,
                message: "no".into()
            },
            500
        )]
    );
}

#[test]
fn failures_of_the_warm_up_are_not_lost() {
    let first_refused: Behaviour = |request, stream| {
        if request == 0 {
            refusal(stream)
        } else {
            success(stream)
        }
    };
    let warm = Plan {
        connections: 1,
        warmup: Duration::from_millis(20),
        ..plan(serve(first_refused))
    };
    let measurement = measured(&warm);
    assert_eq!(measurement.succeeded, 1000);
    assert_eq!(
        failures(measurement),
        [(
            Failure::Status {
                code: 9,
                message: "no".into()
            },
            1
        )]
    );
}

#[test]
fn requests_of_a_lost_connection_fail_and_the_run_ends() {
    let measurement = measured(&plan(serve(|request, stream| {
        if request < 20 {
            success(stream)
        } else {
            Vec::new()
        }
    })));
    // Answers on their way when the connection is reset may be lost with it.
    let (succeeded, failed) = (measurement.succeeded, measurement.failed());
    assert!(
        succeeded <= 60 && (3..=10).contains(&failed),
        "{succeeded} succeeded, {:?}",
        measurement.failures
    );
    let failures = failures(measurement);
    assert!(
        failures
            .iter()
            .all(|(failure, _)| matches!(failure, Failure::ConnectionLost(_))),
        "{failures:?}"
    );
}

#[test]
fn a_server_that_takes_no_more_requests_ends_the_run_as_failed() {
    let going: Behaviour = |request, stream| {
        let mut answer = success(stream);
        if request == 9 {
            push(&mut answer, Kind::GoAway, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0");
        }
        answer
    };
    let measurement = measured(&Plan {
        connections: 1,
        clients: 1,
        ..plan(serve(going))
    });
    assert_eq!(measurement.succeeded, 10);
    assert_eq!(measurement.failed(), 1);
}

#[test]
fn a_silent_server_is_given_up() {
    let silent: Behaviour = |_, _| {
        let mut settings = Vec::new();
        frame::push_header(&mut settings, 0, Kind::Settings, frame::ACK, 0);
        settings
    };
    let measurement = measured(&plan(serve(silent)));
    assert_eq!(failures(measurement), [(Failure::NoAnswer, 10)]);
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    let stalling: Behaviour = |request, stream| {
        if request == 50 {
            std::thread::sleep(Duration::from_millis(200));
        }
        success(stream)
    };
    let open_loop = Plan {
        connections: 1,
        clients: 1,
        rate: Some(1000.0),
        ..plan(serve(stalling))
    };
    let measurement = measured(&Plan {
        until: Until::Total(500),
        ..open_loop
    });
    assert_eq!(measurement.succeeded, 500);
    // 200 of 500 requests were due during the stall, so that a quarter of all waited more than 50 ms;
    // counted from the time they were sent, all but one of them would look fast.
    assert!(measurement.latency.quantile(0.75) > Duration::from_millis(50));
    assert!(measurement.latency.max() >= Duration::from_millis(200));
}

#[test]
fn connections_lead_to_all_endpoints_in_turns() {
    let good = serve(|_, stream| success(stream));
    let bad = serve(|_, stream| refusal(stream));
    let measurement = measured(&Plan {
        endpoints: vec![bad, good],
        connections: 4,
        clients: 4,
        until: Until::Total(4),
        ..plan(good)
    });
    // One request on each connection, and every second connection leads to the server that refuses.
    assert_eq!((measurement.succeeded, measurement.failed()), (2, 2));
}

#[test]
fn a_run_without_end_ends_when_it_is_told_to() {
    let stop = AtomicBool::new(false);
    let endless = Plan {
        rate: Some(1000.0),
        until: Until::Total(u64::MAX),
        ..plan(serve(|_, stream| success(stream)))
    };
    let tally = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_until(&endless, &mut puts(), &stop));
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        run.join().expect("the run does not panic")
    })
    .expect("the server is there");
    let timeline = tally.timeline.expect("such a run keeps its timeline");
    assert!(tally.failures.is_empty() && tally.succeeded >= 20);
    assert_eq!(timeline.len() as u64, tally.succeeded);
    assert!(timeline.is_sorted_by_key(|(time, _)| *time));
}

const PREFACE_BYTES: usize = 24;
