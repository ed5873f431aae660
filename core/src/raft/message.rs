//! What members say to each other, as a value: opaque outside consensus.

use std::fmt;

use super::network::{Reply, Request};

/// A request to a peer or a reply to one, with the number that ties the two together.
#[derive(Clone)]
pub struct PeerMessage {
    pub(crate) call: u64,
    pub(crate) body: Body,
}

#[derive(Clone)]
pub(crate) enum Body {
    Request(Request),
    Reply(Reply),
}

impl fmt::Debug for PeerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.body {
            Body::Request(Request::Append(rpc)) => return write!(f, "#{} append {rpc}", self.call),
            Body::Request(Request::Vote(rpc)) => return write!(f, "#{} vote {rpc}", self.call),
            Body::Request(Request::PreVote(rpc)) => {
                return write!(f, "#{} pre-vote {rpc}", self.call);
            }
            Body::Request(Request::Snapshot { snapshot, .. }) => {
                return write!(f, "#{} snapshot {}", self.call, snapshot.meta);
            }
            Body::Request(Request::Transfer(_)) => "transfer",
            Body::Reply(Reply::Append(reply)) => {
                return write!(f, "#{} append reply {reply}", self.call);
            }
            Body::Reply(Reply::Vote(reply)) => {
                return write!(f, "#{} vote reply {reply}", self.call);
            }
            Body::Reply(Reply::Snapshot(_)) => "snapshot reply",
            Body::Reply(Reply::Transfer(_)) => "transfer reply",
            Body::Reply(Reply::Failed(_)) => "failed",
        };
        write!(f, "#{} {kind}", self.call)
    }
}
