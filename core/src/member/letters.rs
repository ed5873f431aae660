//! What other members say, and what is to be said to them and to the disk.

use std::rc::Rc;

use super::Member;
use super::silence::is_of_leader;
use crate::output::{DiskOp, Output};
use crate::raft::following;
use crate::raft::message::{Body, Forwarded, PeerMessage};
use crate::raft::network::{Reply, Request};
use crate::raft::reception;

/// A member that was away since the beginning of time may have missed so many elections, and not more.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

impl Member {
    pub(super) fn receive(&mut self, from: u64, message: PeerMessage) {
        if self.uses_up_terms(&message) || message.leaves_gaps() {
            return;
        }
        match message.body {
            Body::Reply(reply) => {
                if matches!(reply, Reply::Removed) {
                    self.standing.tell_removed();
                }
                self.executor.enter(|| {
                    self.outbox
                        .borrow_mut()
                        .finish_call(message.call, Ok(reply))
                });
            }
            asked if self.is_stranger(from, &asked) => self.refuse_stranger(from, message.call),
            Body::Request(Request::Chunk(chunk)) => self.receive_chunk(from, message.call, chunk),
            Body::Request(Request::Compare(marks)) => self.compare(from, &marks),
            Body::Request(Request::Farewell) => {
                self.standing.tell_removed();
                let mut outbox = self.outbox.borrow_mut();
                outbox.reply(from, message.call, Reply::Taken);
            }
            // Who handed over is silent now, and a sound member is elected in its time.
            Body::Request(Request::Transfer(_)) if self.standing.is_corrupt() => {}
            Body::Request(request) => {
                if let Request::Append(append) | Request::AppendInOrder(append) = &request {
                    self.hear_of_leader(append.vote);
                }
                let (raft, outbox, call) =
                    (self.raft.clone(), Rc::clone(&self.outbox), message.call);
                drop(self.executor.spawn(async move {
                    let reply = reception::serve(&raft, request).await;
                    outbox.borrow_mut().reply(from, call, reply);
                }));
            }
            Body::Forwarded(forwarded) => self.receive_forwarded(from, message.call, forwarded),
        }
    }

    /// Whether a letter tells of a term so far ahead that no elections led there. A term is kept for good, and after the
    /// last there is none, so one such letter would end all elections.
    fn uses_up_terms(&self, message: &PeerMessage) -> bool {
        let own = || following::vote(&self.raft).leader_id.term;
        let told = message.term();
        told.is_some_and(|term| term > own().saturating_add(TERMS_AHEAD_MAX))
    }

    fn receive_forwarded(&mut self, from: u64, call: u64, forwarded: Forwarded) {
        match forwarded {
            Forwarded::Proposals { term, proposals } => {
                self.take_proposals(from, call, term, proposals);
            }
            Forwarded::Ended(ends) => self.take_ends(from, ends),
            Forwarded::AskReadIndex => self.serve_read_index(from, call),
            Forwarded::ReadIndex { term, index } => {
                self.take_read_index(from, call, Some((term, index)));
            }
            Forwarded::NoReadIndex => self.take_read_index(from, call, None),
            Forwarded::AskConfirmation { term } => self.confirm(from, call, term),
            Forwarded::Confirmation { term } => self.take_confirmation(from, call, term),
            Forwarded::AskLeases(queries) => self.serve_leases(from, queries),
            Forwarded::LeaseAnswers(answers) => self.take_lease_answers(answers),
            Forwarded::Change { term, change } => {
                self.take_forwarded_change(from, call, term, change)
            }
            Forwarded::Changed { index, result } => {
                self.take_change_end(from, call, index, result);
            }
        }
    }

    /// A message may not have arrived, though it may have. Forwarded proposals are not sent again, since they must not
    /// be proposed twice; questions are, after a while.
    pub(super) fn undelivered(&mut self, message: PeerMessage, reason: String) {
        match message.body {
            Body::Request(_) => self.executor.enter(|| {
                self.outbox
                    .borrow_mut()
                    .finish_call(message.call, Err(reason));
            }),
            Body::Forwarded(Forwarded::AskReadIndex | Forwarded::AskConfirmation { .. }) => {
                self.question_lost(message.call);
            }
            Body::Reply(_) | Body::Forwarded(_) => {}
        }
    }

    pub(super) fn collect_messages(&mut self) {
        loop {
            let disk = self.outbox.borrow_mut().next_disk();
            let Some(op) = disk else { break };
            if let DiskOp::Write { records, .. } = &op {
                let bytes = records.iter().map(|r| r.encoded_len() as u64).sum();
                self.checkpoints.log_grows(bytes);
            }
            self.outputs.push_back(Output::Disk(op));
        }
        let silent = self.is_silent();
        while let Some(letter) = { self.outbox.borrow_mut().next_letter() } {
            if silent && is_of_leader(&letter.message) {
                self.undelivered(letter.message, "no quorum answers this leader".into());
                continue;
            }
            self.outputs.push_back(Output::Send {
                to: letter.to,
                message: letter.message,
            });
        }
    }
}
