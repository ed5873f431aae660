//! Where the compactor meets the member.

use metastore_proto::etcdserverpb::CompactionRequest;

use super::Member;
use crate::command::Request;
use crate::compactor::Sight;
use crate::kv_error::KvError;
use crate::output::{Outcome, Refusal};
use crate::pending::Asker;

impl Member {
    /// Proposes a compaction if one is due, and tells whether it did.
    pub(super) fn tend_compactor(&mut self) -> bool {
        let published = &self.published;
        let sight = || Sight {
            leads: published.leader == Some(self.id),
            revision: published.view.revision(),
            compact_revision: published.view.compact_revision(),
        };
        let Some(revision) = self.compactor.look(self.now, sight) else {
            return false;
        };
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        self.propose_internally(Asker::Compactor, Request::Compact(request));
        true
    }

    /// Somebody else may have compacted as far in the meantime, which is as good.
    pub(super) fn compaction_ended(&mut self, answer: &Result<Outcome, Refusal>) {
        let success = matches!(answer, Ok(_) | Err(Refusal::Kv(KvError::Compacted)));
        self.compactor.ended(success, self.now);
    }
}
