//! Where chunks of a snapshot meet the member.

use std::rc::Rc;

use super::Member;
use crate::raft::following;
use crate::raft::network::Reply;
use crate::raft::receiving::{SharedInstallation, Taken, outvoted};
use crate::raft::sending::Chunk;
use crate::raft::types::{Snapshot, Vote};

impl Member {
    /// Takes in a chunk; when the snapshot is whole, consensus installs it.
    pub(super) fn receive_chunk(&mut self, from: u64, call: u64, chunk: Chunk) {
        let own = following::vote(&self.raft);
        if own > chunk.vote() {
            return self.outbox.borrow_mut().reply(from, call, outvoted(own));
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
        let (raft, outbox) = (self.raft.clone(), Rc::clone(&self.outbox));
        drop(self.executor.spawn(async move {
            let installed = raft.install_full_snapshot(vote, snapshot).await;
            let reply = installed
                .map(Reply::Snapshot)
                .unwrap_or_else(|error| Reply::Failed(error.to_string()));
            if let Some(call) = installation.borrow_mut().end(reply.clone()) {
                outbox.borrow_mut().reply(from, call, reply);
            }
        }));
    }
}
