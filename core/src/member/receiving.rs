//! Where chunks of a snapshot meet the member.

use std::rc::Rc;

use super::Member;
use crate::raft::following;
use crate::raft::network::Reply;
use crate::raft::receiving::{SharedInstallation, Taken, answered_with};
use crate::raft::sending::Chunk;
use crate::raft::types::{Snapshot, Vote};

impl Member {
    /// Takes in a chunk; when the snapshot is whole, it is installed.
    pub(super) fn receive_chunk(&mut self, from: u64, call: u64, chunk: Chunk) {
        let own = following::vote(&self.raft);
        if own > chunk.vote() {
            return self
                .outbox
                .borrow_mut()
                .reply(from, call, answered_with(own));
        }
        self.hear_of_leader(chunk.vote());
        let reply = match self.assembly.take(call, chunk, self.now) {
            Taken::Acknowledged => Reply::Taken,
            Taken::Awaited => return,
            Taken::Ended(reply) => reply,
            Taken::Refused(reason) => Reply::Failed(reason),
            Taken::Whole {
                vote,
                snapshot,
                installation,
            } => {
                self.install(from, vote, *snapshot, installation);
                Reply::Taken
            }
        };
        self.outbox.borrow_mut().reply(from, call, reply);
    }

    /// Installs a snapshot and tells the leader that sent it, if that asks.
    fn install(&self, from: u64, vote: Vote, snapshot: Snapshot, installation: SharedInstallation) {
        let outbox = Rc::clone(&self.outbox);
        let installed = self.installer.install(vote, snapshot);
        drop(self.executor.spawn(async move {
            let reply = installed.await;
            if let Some(call) = installation.borrow_mut().end(reply.clone()) {
                outbox.borrow_mut().reply(from, call, reply);
            }
        }));
    }
}
