//! What is under way at once, and what comes of it.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::stream;
use metastore_proto::etcdserverpb::PutRequest;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;

use super::*;
use crate::command::{Command, Request as CommandRequest};
use crate::raft::executor::Executor;
use crate::raft::message::Body;
use crate::raft::outbox::Outbox;
use crate::raft::types::{Entry, Vote};

const PATIENCE: Duration = Duration::from_secs(1);
const BYTES_MAX: usize = 2 << 20;

/// A stream on its way to peer 2, and what came of it so far.
struct Wire {
    executor: Executor,
    now: Duration,
    outbox: SharedOutbox,
    retention: SharedRetention,
    results: Rc<RefCell<Vec<Appended>>>,
    over: Rc<RefCell<bool>>,
}

fn id(index: u64) -> LogId {
    let leader = Vote::new_committed(1, 1).leader_id;
    LogId::new(leader.to_committed(), index)
}

/// One request per entry; entries count from 1.
fn requests(count: u64, bytes: usize) -> Vec<AppendEntriesRequest<TypeConfig>> {
    let request = |index| {
        let put = CommandRequest::Put(PutRequest {
            key: b"k".to_vec(),
            value: vec![0; bytes],
            ..PutRequest::default()
        });
        let entry = Entry::new(id(index), EntryPayload::Normal(Command::from(put)));
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(index - 1)),
            leader_commit: None,
            entries: vec![entry],
        }
    };
    (1..=count).map(request).collect()
}

impl Wire {
    fn carry(requests: Vec<AppendEntriesRequest<TypeConfig>>) -> Self {
        let executor = Executor::new(1, Duration::ZERO);
        let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(0)));
        let retention = SharedRetention::default();
        let mut stream = AppendStream::new(
            2,
            Rc::clone(&outbox),
            Rc::clone(&retention),
            PATIENCE,
            BYTES_MAX,
            stream::iter(requests),
        );
        let results = Rc::new(RefCell::new(Vec::new()));
        let over = Rc::new(RefCell::new(false));
        let (taken, done) = (Rc::clone(&results), Rc::clone(&over));
        drop(executor.spawn(async move {
            while let Some(result) = stream.next().await {
                taken.borrow_mut().push(result);
            }
            *done.borrow_mut() = true;
        }));
        let mut wire = Self {
            executor,
            now: Duration::ZERO,
            outbox,
            retention,
            results,
            over,
        };
        wire.pass(Duration::ZERO);
        wire
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.executor.run_until_idle(self.now);
    }

    /// The calls that have been sent since the last look.
    fn sent(&self) -> Vec<u64> {
        let mut outbox = self.outbox.borrow_mut();
        std::iter::from_fn(|| outbox.next_letter())
            .map(|letter| letter.message.call)
            .collect()
    }

    fn reply(&mut self, call: u64, response: AppendEntriesResponse<TypeConfig>) {
        let (outbox, reply) = (&self.outbox, Reply::Append(response));
        self.executor
            .enter(|| outbox.borrow_mut().finish_call(call, Ok(reply)));
        self.pass(Duration::ZERO);
    }

    /// The indexes that were acknowledged, in their order.
    fn acknowledged(&self) -> Vec<u64> {
        let results = self.results.borrow();
        let matching = results.iter().filter_map(|result| match result {
            Ok(Ok(matching)) => matching.map(|id| id.index()),
            _ => None,
        });
        matching.collect()
    }
}

#[test]
fn as_many_requests_are_under_way_as_may_be_and_results_keep_their_order() {
    let mut wire = Wire::carry(requests(40, 10));
    let calls = wire.sent();
    assert_eq!(calls.len(), REQUESTS_MAX);
    wire.reply(calls[1], AppendEntriesResponse::Success);
    assert_eq!(wire.acknowledged(), [], "the first has no result yet");
    wire.reply(calls[0], AppendEntriesResponse::Success);
    assert_eq!(wire.acknowledged(), [1, 2]);
    let more = wire.sent();
    assert_eq!(more.len(), 2, "two have room now");
    let mut open: VecDeque<u64> = calls[2..].iter().copied().chain(more).collect();
    while let Some(call) = open.pop_front() {
        wire.reply(call, AppendEntriesResponse::Success);
        open.extend(wire.sent());
    }
    assert!(wire.acknowledged().into_iter().eq(1..=40));
    assert!(*wire.over.borrow());
    assert_eq!(wire.outbox.borrow().calls_under_way(), 0);
}

#[test]
fn bytes_under_way_are_bounded() {
    let mut wire = Wire::carry(requests(20, 700 << 10));
    let calls = wire.sent();
    assert_eq!(calls.len(), 3, "two megabytes and the last one started");
    wire.reply(calls[0], AppendEntriesResponse::Success);
    assert_eq!(wire.sent().len(), 1);
}

#[test]
fn a_conflict_behind_what_was_acknowledged_is_a_fault_of_the_wire() {
    let mut wire = Wire::carry(requests(3, 10));
    let calls = wire.sent();
    wire.reply(calls[1], AppendEntriesResponse::Conflict);
    wire.reply(calls[0], AppendEntriesResponse::Success);
    let results = wire.results.borrow();
    assert!(matches!(results[0], Ok(Ok(_))));
    assert!(matches!(results[1], Err(RPCError::Network(_))));
    assert_eq!(results.len(), 2);
    assert!(*wire.over.borrow());
}

#[test]
fn a_conflict_at_the_first_request_is_one() {
    let mut wire = Wire::carry(requests(3, 10));
    let calls = wire.sent();
    wire.reply(calls[0], AppendEntriesResponse::Conflict);
    let results = wire.results.borrow();
    let Ok(Err(StreamAppendError::Conflict(at))) = &results[0] else {
        panic!("a conflict: {:?}", results[0]);
    };
    assert_eq!(at.index(), 0);
    assert_eq!(wire.outbox.borrow().calls_under_way(), 0, "the rest is off");
}

#[test]
fn a_silent_peer_counts_as_unreachable_after_a_while() {
    let mut wire = Wire::carry(requests(3, 10));
    wire.pass(PATIENCE - Duration::from_nanos(1));
    assert!(wire.results.borrow().is_empty());
    wire.pass(Duration::from_nanos(1));
    assert!(matches!(
        wire.results.borrow()[..],
        [Err(RPCError::Unreachable(_))]
    ));
    assert!(*wire.over.borrow());
    assert_eq!(wire.outbox.borrow().calls_under_way(), 0);
}

#[test]
fn a_peer_that_needs_what_is_given_up_is_let_go() {
    let mut wire = Wire::carry(requests(40, 10));
    let calls = wire.sent();
    wire.reply(calls[0], AppendEntriesResponse::Success);
    wire.retention.borrow_mut().give_up(10);
    wire.reply(calls[1], AppendEntriesResponse::Success);
    let results = wire.results.borrow();
    assert!(matches!(
        results.last(),
        Some(Err(RPCError::Unreachable(_)))
    ));
    assert!(*wire.over.borrow());
}

#[test]
fn what_keeps_a_leader_in_office_overtakes_bulk() {
    let mut outbox = Outbox::new(0);
    let [request]: [AppendEntriesRequest<TypeConfig>; 1] =
        requests(1, 10).try_into().expect("one request");
    let heartbeat = AppendEntriesRequest {
        entries: Vec::new(),
        ..request.clone()
    };
    outbox.call(2, Request::Append(request));
    outbox.call(2, Request::Append(heartbeat));
    let lengths = std::iter::from_fn(|| outbox.next_letter()).map(|letter| {
        let Body::Request(Request::Append(rpc)) = letter.message.body else {
            panic!("only appends were sent");
        };
        rpc.entries.len()
    });
    assert!(lengths.eq([0, 1]));
}

#[test]
fn an_append_without_entries_does_not_overtake_those_of_its_stream() {
    let mut all = requests(1, 10);
    let news_of_a_commit = AppendEntriesRequest {
        prev_log_id: Some(id(1)),
        leader_commit: Some(id(1)),
        entries: Vec::new(),
        ..all[0].clone()
    };
    all.push(news_of_a_commit.clone());
    let wire = Wire::carry(all);
    let lanes = |wire: &Wire| -> Vec<bool> {
        let mut outbox = wire.outbox.borrow_mut();
        std::iter::from_fn(|| outbox.next_letter())
            .map(|letter| letter.message.is_bulk())
            .collect()
    };
    assert_eq!(lanes(&wire), [true, true]);
    // A heartbeat is a stream of its own: there is nothing that it could overtake.
    let wire = Wire::carry(vec![news_of_a_commit]);
    assert_eq!(lanes(&wire), [false]);
}
