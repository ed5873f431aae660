//! Recognises situations that are worth a count, from what passes anyway; see `sometimes.rs`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::membership::MembershipError;
use metastore_core::output::{Outcome, Published, Refusal};
use metastore_core::raft::{MessageKind, PeerMessage};
use metastore_core::transfer::TransferError;
use metastore_proto::etcdserverpb::WatchCreateRequest;

use crate::cluster::{Cluster, Life, Waiting};
use crate::moments;
use crate::network::Way;
use crate::sometimes::Situation::*;
use crate::sometimes::Sometimes;
use crate::trace::now;
use metastore_judges::history::Ending;
use metastore_judges::memberships::{Act, Configuration};
use metastore_judges::model::Op;

/// What has to be remembered to recognise something later.
#[derive(Default)]
pub(crate) struct Noticing {
    /// When the last piece of a snapshot went this way, until it is installed.
    snapshots: RefCell<BTreeMap<Way, Duration>>,
    /// When a member installed a snapshot last.
    installed: RefCell<BTreeMap<u64, Duration>>,
    /// Who led when a lease was granted.
    granted_under: RefCell<BTreeMap<i64, u64>>,
    /// Where a watcher was last, under which leader, and how far was compacted then.
    watched: RefCell<BTreeMap<u64, Place>>,
    /// The last agreed membership that was looked at, and whether it had two sets of voters.
    agreed: Cell<(u64, u64, bool)>,
    /// The newest term in which anybody was seen to lead.
    pub(crate) newest_led: Cell<u64>,
    /// Members whose last start crashed.
    pub(crate) crashed_in_start: RefCell<BTreeSet<u64>>,
}

/// A member, its leader, and its compact revision.
type Place = (u64, Option<u64>, i64);

/// A piece of a snapshot that went so long ago belongs to a transfer that may still be under way.
const TRANSFER_GAP: Duration = Duration::from_millis(500);
/// Two snapshots within so long come in short order.
const SHORT_ORDER: Duration = Duration::from_secs(5);

/// Whether an operation writes through the log.
fn writes(op: &Op) -> bool {
    op.request().is_some()
}

fn has_writes(life: &Life) -> bool {
    let waiting = life.waiting.borrow();
    waiting.values().any(|waiting| writes(&waiting.op))
}

/// The end of what a client asked for, before it hears of it.
pub(crate) fn ended(cluster: &Cluster, life: &Life, waiting: &Waiting, ending: &Ending) {
    let some = &cluster.sometimes;
    let leader = life.published.borrow().leader;
    let leads = leader == Some(life.id);
    let moved = waiting.leader.is_some() && leader.is_some() && waiting.leader != leader;
    let forwarded = !leads && waiting.leader != Some(life.id);
    match ending {
        Ending::Wrote(outcome) => {
            let instead = matches!(outcome, Outcome::Txn(response) if !response.succeeded);
            some.saw_if(instead, ReadInstead);
            some.saw_if(moved, SurvivedLeaderChange);
            some.saw_if(moved && forwarded, ForwardedSurvived);
            if let (Outcome::LeaseGranted(granted), Some(leader)) = (outcome, leader) {
                let mut under = cluster.noticing.granted_under.borrow_mut();
                under.insert(granted.id, leader);
            }
        }
        Ending::Read(result) => {
            some.saw_if(!leads, ReadByFollower);
            some.saw_if(moved, ReadSurvivedLeaderChange);
            some.saw_if(matches!(result, Err(KvError::Compacted)), PastCompacted);
        }
        Ending::Surveyed(_) => some.saw_if(!leads, SurveyedByFollower),
        Ending::Renewed { ttl_seconds: 0 } => some.saw(RenewedTooLate),
        Ending::Renewed { .. } => {
            some.saw_if(!leads, RenewedThroughFollower);
            if let Op::Renew { id } = &waiting.op {
                let under = cluster.noticing.granted_under.borrow();
                let other = under.get(id).is_some_and(|under| Some(*under) != leader);
                some.saw_if(other && leader.is_some(), RenewedUnderAnother);
            }
        }
        Ending::Listed(_) => some.saw_if(knows_of_a_change(life), ListedInChange),
        Ending::Transferred => some.saw_if(has_writes(life), HandedOverWithWrites),
        Ending::Refused(refusal) => refused(some, &waiting.op, refusal),
        Ending::Stands(_)
        | Ending::Leases { .. }
        | Ending::Changed(_)
        | Ending::Full
        | Ending::Lost => {}
    }
    let change = matches!(waiting.op, Op::Change(_));
    some.saw_if(change && !cluster.takes_part(life.id), ToldByLeaver);
}

/// Whether there is a membership in its log that it does not know to be agreed on.
fn knows_of_a_change(life: &Life) -> bool {
    let newest = life.newest.borrow();
    let newest = newest.as_ref().map_or(0, |newest| newest.index);
    newest > life.seen.get().applied()
}

fn refused(some: &Sometimes, op: &Op, refusal: &Refusal) {
    match refusal {
        Refusal::LeaderChanged => some.saw_if(writes(op), EndUnknown),
        Refusal::TimedOut | Refusal::TimedOutLeaderLost | Refusal::TimedOutDisconnected => {
            some.saw(TimedOut);
        }
        Refusal::Transfer(TransferError::TooLong) => some.saw(TransferGivenUp),
        Refusal::Membership(MembershipError::NotInSync) => some.saw(NotInSync),
        Refusal::Kv(KvError::LeaseNotFound) => some.saw(HungTooLate),
        _ => {}
    }
}

/// A read that asks nobody is about to be answered.
pub(crate) fn read_at_once(cluster: &Cluster, op: &Op, ending: &Ending) {
    let stale = ending.revision().is_some_and(|at| at < cluster.newest());
    let some = &cluster.sometimes;
    some.saw_if(stale && op.is_serializable(), StaleSerializable);
}

/// A serializable list of members is about to be answered.
pub(crate) fn listed_at_once(cluster: &Cluster, life: &Life, op: &Op) {
    let lists = matches!(op, Op::List { .. });
    let some = &cluster.sometimes;
    some.saw_if(lists && knows_of_a_change(life), ListedInChange);
}

/// A member is about to show this.
pub(crate) fn publishes(cluster: &Cluster, life: &Life, published: &Published, leads: bool) {
    let before = life.published.borrow();
    let alone = leads && before.leader == Some(life.id) && published.leader.is_none();
    cluster.sometimes.saw_if(alone, LeaderAlone);
    let some = &cluster.sometimes;
    some.saw_if(alone && has_joiner(life), AloneWithJoiner);
    let (compacted, last) = life.replays.get();
    if published.view.compact_revision() > compacted && published.applied <= last {
        life.replays.set((i64::MAX, 0));
        some.saw(CompactionReplayed);
    }
    if published.view.compact_revision() > before.view.compact_revision() {
        let snapshots = cluster.noticing.snapshots.borrow();
        let mut under_way = snapshots.iter().filter(|(_, at)| is_recent(**at));
        let sends = under_way.any(|((from, _), _)| *from == life.id);
        cluster.sometimes.saw_if(sends, CompactedWhileSent);
    }
}

/// A member leads from now on, or does no more.
pub(crate) fn leads(cluster: &Cluster, life: &Life, term: u64, leads: bool) {
    let led = life.leads.replace(leads);
    if leads {
        life.led.set(term);
        let newest = &cluster.noticing.newest_led;
        newest.set(newest.get().max(term));
    }
    if leads && !led {
        cluster
            .sometimes
            .saw_if(cluster.others_lead(life.id), TwoLeaders);
    }
    if led && !leads {
        cluster
            .sometimes
            .saw_if(has_writes(life), DeposedWithWrites);
    }
}

/// A member's newest membership is another.
pub(crate) fn knows_of(
    cluster: &Cluster,
    before: Option<&Configuration>,
    after: Option<&Configuration>,
) {
    let went_back = match (before, after) {
        (Some(before), Some(after)) => after.index < before.index,
        _ => false,
    };
    cluster.sometimes.saw_if(went_back, ChangeTakenBack);
    let judges = cluster.judges.borrow();
    let (last, term, was_joint) = cluster.noticing.agreed.get();
    let Some(newest) = judges.memberships.agreed().next_back() else {
        return;
    };
    let now = &newest.configuration;
    if now.index == last {
        return;
    }
    let is_joint = now.voters.len() > 1;
    cluster.noticing.agreed.set((now.index, now.term, is_joint));
    let some = &cluster.sometimes;
    some.saw_if(was_joint && !is_joint && now.term > term, FinishedByNext);
    match newest.act {
        Act::Promoted { .. } => some.saw(Promoted),
        Act::Removed { id } => some.saw_if(cluster.life(id).is_none(), RemovedWhileDown),
        _ => {}
    }
}

/// Whether the newest membership of a member has one that is to vote and does not yet.
fn has_joiner(life: &Life) -> bool {
    let newest = life.newest.borrow();
    newest.as_ref().is_some_and(|newest| {
        let mut members = newest.members.iter();
        members.any(|(id, peer)| peer.joins && !newest.is_voter(*id))
    })
}

/// Whether the newest membership of a member is on the way to one without it.
fn is_leaving(life: &Life) -> bool {
    let newest = life.newest.borrow();
    newest
        .as_ref()
        .is_some_and(|newest| newest.voters.iter().any(|set| !set.contains(&life.id)))
}

/// A member knows of another membership.
pub(crate) fn leaves_with_joiner(cluster: &Cluster, life: &Life, leads: bool) {
    let holds = leads && is_leaving(life) && has_joiner(life);
    cluster.sometimes.saw_if(holds, LeftWithJoiner);
}

/// A letter goes out.
pub(crate) fn sends(cluster: &Rc<Cluster>, way: Way, message: &PeerMessage) {
    match message.kind() {
        MessageKind::Chunk => {
            let mut snapshots = cluster.noticing.snapshots.borrow_mut();
            snapshots.insert(way, now());
            drop(snapshots);
            moments::piece_goes(cluster, way);
            cluster
                .sometimes
                .saw_if(message.is_piece_that_waited(), PieceWaited);
        }
        MessageKind::Change => cluster.sometimes.saw(ChangeForwarded),
        _ => {}
    }
}

/// A letter is lost by odds; in a world of silent loss nobody is told.
pub(crate) fn loses(cluster: &Cluster, kind: MessageKind) {
    let some = &cluster.sometimes;
    let silent = cluster.world.silent_loss;
    some.saw_if(silent && kind == MessageKind::Chunk, PieceLost);
    some.saw_if(silent && kind == MessageKind::Append, AppendLost);
}

/// The second copy of a letter arrived in another life of its receiver than the first.
pub(crate) fn comes_twice(cluster: &Cluster, kind: MessageKind) {
    let some = &cluster.sometimes;
    some.saw(TwiceInAnotherLife);
    some.saw_if(kind == MessageKind::Proposals, ForwardedTwice);
}

/// A letter is there.
pub(crate) fn receives(cluster: &Cluster, message: &PeerMessage) {
    let refused = message.kind() == MessageKind::NoReadIndex;
    cluster.sometimes.saw_if(refused, ReadIndexRefused);
}

/// A member begins its log anew behind a snapshot.
pub(crate) fn installs(cluster: &Rc<Cluster>, id: u64) {
    let (some, noticing) = (&cluster.sometimes, &cluster.noticing);
    some.saw(Installed);
    let last = noticing.installed.borrow_mut().insert(id, now());
    some.saw_if(
        last.is_some_and(|last| last + SHORT_ORDER > now()),
        InstalledTwice,
    );
    let is_joint = {
        let judges = cluster.judges.borrow();
        let newest = judges.memberships.newest();
        newest.is_some_and(|newest| newest.voters.len() > 1)
    };
    let changing = is_joint || cluster.changing.under_way.get() > 0;
    some.saw_if(changing, InstalledInChange);
    noticing
        .snapshots
        .borrow_mut()
        .retain(|(_, to), _| *to != id);
    moments::installed(cluster, id);
}

/// A member loses its power.
pub(crate) fn crashes(cluster: &Cluster, life: &Life) {
    let some = &cluster.sometimes;
    some.saw_if(life.leads.get() && has_writes(life), CrashedWithWrites);
    some.saw_if(life.leads.get() && is_leaving(life), CrashedLeaving);
    let mut snapshots = cluster.noticing.snapshots.borrow_mut();
    snapshots.retain(|_, at| is_recent(*at));
    some.saw_if(
        snapshots.keys().any(|(_, to)| *to == life.id),
        ReceiverCrashed,
    );
    some.saw_if(
        snapshots.keys().any(|(from, _)| *from == life.id),
        SenderCrashed,
    );
    snapshots.retain(|(from, to), _| *from != life.id && *to != life.id);
}

fn is_recent(at: Duration) -> bool {
    at + TRANSFER_GAP > now()
}

/// A watcher begins on a member, perhaps once more.
pub(crate) fn watches(cluster: &Cluster, client: u64, life: &Life, newest: &Published) {
    let compacted = newest.view.compact_revision();
    let here = (life.id, newest.leader, compacted);
    let before = cluster.noticing.watched.borrow_mut().insert(client, here);
    let Some((member, leader, boundary)) = before else {
        return;
    };
    let some = &cluster.sometimes;
    some.saw_if(compacted > boundary, ResumedAcrossCompaction);
    let moved = leader.is_some() && newest.leader.is_some() && leader != newest.leader;
    some.saw_if(moved && member != life.id, ResumedAcrossLeaders);
}

/// What a watcher was told in answer to its request, when the member was at this revision.
pub(crate) fn hears(
    cluster: &Cluster,
    create: &WatchCreateRequest,
    at: i64,
    (last_event, compacted): (i64, i64),
) {
    let some = &cluster.sometimes;
    some.saw_if(compacted > 0, OvertakenByCompaction);
    let began_in_the_past = create.start_revision > 0 && create.start_revision <= at;
    some.saw_if(began_in_the_past && last_event > at, CaughtUp);
}
