//! Calls that get no reply.

use std::cell::Cell;
use std::cell::RefCell;

use super::*;
use crate::raft::executor::Executor;
use crate::raft::outbox::Outbox;

#[test]
fn a_call_whose_reply_never_comes_ends_and_leaves_nothing_behind() {
    let mut executor = Executor::new(0, Duration::ZERO);
    let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(0)));
    let link = Link {
        target: 2,
        outbox: Rc::clone(&outbox),
        patience: Duration::from_secs(1),
        retention: SharedRetention::default(),
        sizes: Sizes::default(),
    };
    let ended = Rc::new(Cell::new(false));
    let tell = Rc::clone(&ended);
    drop(executor.spawn(async move {
        let vote = VoteRequest::new(Vote::new(1, 1), None);
        tell.set(link.call(Request::Vote(vote)).await.is_err());
    }));
    executor.run_until_idle(Duration::ZERO);
    executor.run_until_idle(Duration::from_millis(999));
    assert!(!ended.get());
    assert_eq!(outbox.borrow().calls_under_way(), 1);
    executor.run_until_idle(Duration::from_secs(1));
    assert!(ended.get());
    assert_eq!(outbox.borrow().calls_under_way(), 0);
}
