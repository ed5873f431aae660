//! Where chunks of a snapshot meet the member.

use std::rc::Rc;

use super::Member;
use crate::raft::following;
use crate::raft::network::Reply;
use crate::raft::receiving::{Taken, outvoted};
use crate::raft::sending::Chunk;

impl Member {
    /// Takes in a chunk; when the snapshot is whole, consensus installs it and the last call is answered.
    pub(super) fn receive_chunk(&mut self, from: u64, call: u64, chunk: Chunk) {
        let own = following::vote(&self.raft);
        if own > chunk.vote() {
            return self.outbox.borrow_mut().reply(from, call, outvoted(own));
        }
        let reply = match self.assembly.take(call, chunk, self.now) {
            Taken::Acknowledged => Reply::Taken,
            Taken::Waiting => return,
            Taken::Refused(reason) => Reply::Failed(reason),
            Taken::Whole {
                call,
                vote,
                snapshot,
            } => {
                let (raft, outbox) = (self.raft.clone(), Rc::clone(&self.outbox));
                drop(self.executor.spawn(async move {
                    let installed = raft.install_full_snapshot(vote, *snapshot).await;
                    let reply = installed
                        .map(Reply::Snapshot)
                        .unwrap_or_else(|error| Reply::Failed(error.to_string()));
                    outbox.borrow_mut().reply(from, call, reply);
                }));
                return;
            }
        };
        self.outbox.borrow_mut().reply(from, call, reply);
    }
}
