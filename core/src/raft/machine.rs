//! Consensus' state machine: feeds committed entries to the replicated state, one index at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::outbox::SharedOutbox;
use super::types::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::codec;
use crate::command::{Command, MemberAttributes, Origin, Request};
use crate::lease::{self, LeaseTerms, Leases};
use crate::member::Settings;
use crate::mvcc::Store;
use crate::output::Checkpoint;
use crate::pending;
use crate::plant::{Plant, Planted};
use crate::state::{Digest, Remainder, State, StateView};

/// The replicated state with its place in the log.
pub(crate) struct Replica {
    pub(crate) state: State,
    pub(crate) last_applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Leases that came or went since the member last looked.
    pub(crate) leases_touched: Vec<i64>,
    /// Whether it came as a snapshot, without the entries, since the member last looked.
    pub(crate) came_whole: bool,
    /// At indexes that are the same on every member, oldest first.
    marks: VecDeque<Mark>,
}

/// A replica frozen at one index: what a snapshot carries, in memory.
#[derive(Clone)]
pub struct Image {
    pub(crate) view: Box<StateView>,
}

/// Why a checkpoint's description of itself cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDescription(pub(crate) String);

impl fmt::Display for BadDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint does not describe itself: {}", self.0)
    }
}

impl std::error::Error for BadDescription {}

/// What a checkpoint holds beside the keys.
#[derive(Clone)]
pub struct Description {
    meta: Vec<u8>,
    members: Vec<MemberAttributes>,
    leases: Leases,
    removed: Vec<u64>,
    digest: Digest,
}

impl Description {
    /// As bytes; takes time in proportion to the number of leases.
    pub fn encode(&self) -> Vec<u8> {
        let written = WrittenDescription {
            meta: self.meta.clone(),
            members: self.members.clone(),
            leases: self.leases.terms().collect(),
            removed: self.removed.clone(),
            digest: self.digest.value(),
        };
        written.encode_to_vec()
    }
}

#[derive(Clone, PartialEq, Message)]
struct WrittenDescription {
    #[prost(bytes = "vec", tag = "1")]
    meta: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberAttributes>,
    /// Without their keys: those are in the records.
    #[prost(message, repeated, tag = "3")]
    leases: Vec<LeaseTerms>,
    /// The ids of members that left.
    #[prost(fixed64, repeated, tag = "4")]
    removed: Vec<u64>,
    #[prost(fixed32, tag = "5")]
    digest: u32,
}

/// Entries between two marks of a history.
const MARK_EVERY: u64 = 256;

/// Marks that a member remembers.
const MARKS_MAX: usize = 64;

/// What all entries up to some index did, in short, for comparison with other members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) digest: u32,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self {
            state: State::new(),
            last_applied: None,
            membership: StoredMembership::default(),
            leases_touched: Vec::new(),
            came_whole: false,
            marks: VecDeque::new(),
        }
    }

    /// The replica that a checkpoint holds.
    pub(crate) fn restore(store: Store, description: &[u8]) -> Result<Self, BadDescription> {
        let description =
            WrittenDescription::decode(description).map_err(|e| BadDescription(e.to_string()))?;
        let meta: SnapshotMeta =
            codec::decode(&description.meta).map_err(|e| BadDescription(e.to_string()))?;
        let applied = meta.last_log_id.as_ref().map(LogId::index);
        let rest = Remainder {
            members: description.members,
            leases: &description.leases,
            removed: description.removed,
            digest: Digest::from_value(description.digest),
        };
        let state =
            State::restore(store, applied, rest).map_err(|reason| BadDescription(reason.into()))?;
        Ok(Self {
            state,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            leases_touched: Vec::new(),
            came_whole: false,
            marks: VecDeque::new(),
        })
    }

    /// A copy of the replica for the disk, made in O(1): the keys are shared, not copied.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        let last = self.last_applied?;
        Some(describe(&self.meta(), self.state.view(), last.index()))
    }

    /// The state after entries that are not agreed on, for a fault on purpose.
    pub(crate) fn with_entries(&self, last: u64, entries: &[Entry]) -> State {
        let mut ahead = State::from_view(&self.state.view(), last);
        for (entry, index) in entries.iter().zip(last + 1..) {
            if entry.index() != index {
                break;
            }
            match &entry.payload {
                // A boundary ahead of the state would only have it swept without end.
                EntryPayload::Normal(command)
                    if matches!(command.request(), Request::Compact(_)) =>
                {
                    break;
                }
                EntryPayload::Normal(command) => drop(ahead.apply_unheard(index, command)),
                EntryPayload::Blank | EntryPayload::Membership(_) => ahead.skip(index),
            }
        }
        ahead
    }

    fn mark(&mut self, index: u64) {
        if !index.is_multiple_of(MARK_EVERY) {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark {
            index,
            digest: self.state.digest().value(),
        });
    }

    /// The newest marks, oldest first.
    pub(crate) fn newest_marks(&self, count: usize) -> Vec<Mark> {
        let skipped = self.marks.len().saturating_sub(count);
        self.marks.iter().skip(skipped).copied().collect()
    }

    /// What this history came to at the indexes of these marks, as far as it is remembered.
    pub(crate) fn marks_at(&self, marks: &[Mark]) -> Vec<Mark> {
        let wanted = |own: &&Mark| marks.iter().any(|mark| mark.index == own.index);
        self.marks.iter().filter(wanted).copied().collect()
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self.meta(),
            snapshot: Image {
                view: Box::new(self.state.view()),
            },
        }
    }
}

pub(crate) fn position_of(description: &[u8]) -> Result<Option<LogId>, BadDescription> {
    let description =
        WrittenDescription::decode(description).map_err(|e| BadDescription(e.to_string()))?;
    let meta: SnapshotMeta =
        codec::decode(&description.meta).map_err(|e| BadDescription(e.to_string()))?;
    Ok(meta.last_log_id)
}

/// The snapshot that a checkpoint holds.
pub(super) fn snapshot_from(store: Store, description: &[u8]) -> Result<Snapshot, BadDescription> {
    Ok(Replica::restore(store, description)?.snapshot())
}

pub(super) fn describe(meta: &SnapshotMeta, view: StateView, index: u64) -> Checkpoint {
    let description = Description {
        meta: codec::encode(meta),
        members: view.members.values().cloned().collect(),
        leases: view.leases,
        removed: view.removed.iter().copied().collect(),
        digest: view.digest,
    };
    Checkpoint {
        index,
        view: view.kv,
        description,
        awaited: false,
    }
}

/// The adapter that consensus drives.
pub struct Machine {
    id: u64,
    /// The life of the member.
    incarnation: u32,
    replica: Rc<RefCell<Replica>>,
    outbox: SharedOutbox,
    /// Whether consensus has made or installed a snapshot. Which one does not matter: a newer one serves as well,
    /// and holding on to an old root would keep alive all that was replaced since.
    made: Rc<Cell<bool>>,
    planted: Planted,
    /// Whether the next entry follows a checkpoint or a snapshot.
    begins: bool,
}

/// Builds a snapshot: one copy of the root, whatever the size.
pub struct Builder {
    replica: Rc<RefCell<Replica>>,
    made: Rc<Cell<bool>>,
}

/// More than a life of a member gives to proposals: at a hundred thousand a second it takes ninety years. Those of another
/// life are further off, but for one in 65,536, whose answers are then made for nobody.
const NUMBERS_OF_A_LIFE: u64 = 1 << 48;

impl Machine {
    pub(crate) fn new(
        settings: &Settings,
        replica: Rc<RefCell<Replica>>,
        outbox: SharedOutbox,
    ) -> Self {
        let made = replica.borrow().last_applied.is_some();
        Self {
            id: settings.id,
            incarnation: settings.incarnation,
            replica,
            outbox,
            made: Rc::new(Cell::new(made)),
            planted: settings.planted(),
            begins: made,
        }
    }

    /// A client of this member may have asked for what another member proposed.
    fn tell_own_client(&self, command: &Command, log_id: LogId) {
        if let Some(origin) = command.origin().filter(|it| it.member == self.id) {
            let mut outbox = self.outbox.borrow_mut();
            outbox.finish_applied(origin.number, log_id.index());
        }
    }

    /// Whether a client of this life of this member may wait for what comes of a proposal.
    fn is_asked(&self, origin: Origin) -> bool {
        let since = origin
            .number
            .wrapping_sub(pending::first_number(self.incarnation));
        origin.member == self.id && since < NUMBERS_OF_A_LIFE
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.made.set(true);
        Ok(self.replica.borrow().snapshot())
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let replica = self.replica.borrow();
        Ok((replica.last_applied, replica.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let mut replica = self.replica.borrow_mut();
            let log_id = entry.log_id();
            replica.last_applied = Some(log_id);
            match &entry.payload {
                EntryPayload::Normal(command) => {
                    let heard = match command.origin() {
                        None => responder.is_some(),
                        Some(origin) => self.is_asked(origin),
                    };
                    let outcome = match heard {
                        true => replica.state.apply(log_id.index(), command),
                        false => replica.state.apply_unheard(log_id.index(), command),
                    };
                    if self.begins && self.planted.is(Plant::AppliesTwice) {
                        replica.state.apply_again(log_id.index(), command);
                    }
                    self.begins = false;
                    let touched = lease::touched(command.request());
                    replica.leases_touched.extend(touched);
                    self.outbox.borrow_mut().set_outcome(outcome);
                }
                EntryPayload::Blank => replica.state.skip(log_id.index()),
                EntryPayload::Membership(membership) => {
                    let before = replica.membership.membership();
                    let left = before.nodes().map(|(id, _)| *id);
                    let left: Vec<u64> = left
                        .filter(|id| membership.get_node(id).is_none())
                        .collect();
                    replica.state.remove_members(log_id.index(), &left);
                    replica.membership = StoredMembership::new(Some(log_id), membership.clone());
                }
            }
            replica.mark(log_id.index());
            drop(replica);
            match (responder, &entry.payload) {
                (Some(responder), _) => responder.send(()),
                (None, EntryPayload::Normal(command)) => self.tell_own_client(command, log_id),
                (None, EntryPayload::Blank | EntryPayload::Membership(_)) => {}
            }
            self.outbox.borrow_mut().clear_outcome();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            replica: Rc::clone(&self.replica),
            made: Rc::clone(&self.made),
        }
    }

    /// The snapshot is durable already, see `installing.rs`.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Image,
    ) -> Result<(), io::Error> {
        let index = meta
            .last_log_id
            .map(|id| id.index())
            .ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        *self.replica.borrow_mut() = Replica {
            state: State::from_view(&image.view, index),
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            leases_touched: Vec::new(),
            came_whole: true,
            marks: VecDeque::new(),
        };
        self.made.set(true);
        self.begins = true;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.made.get().then(|| self.replica.borrow().snapshot()))
    }
}
