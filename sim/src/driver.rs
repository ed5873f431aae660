//! The loop around a member: wait, feed what came, perform what is asked, sleep until the next alarm.

use std::rc::Rc;
use std::sync::Arc;

use metastore_core::command::Request;
use metastore_core::input::{Input, Proposal};
use metastore_core::lease::{LeaseAnswer, LeaseQuery};
use metastore_core::member::Member;
use metastore_core::output::{DiskOp, Outcome, Output, Published, Refusal};
use metastore_core::quota;
use metastore_core::raft::{MessageKind, PeerMessage};
use metastore_core::txn;
use metastore_core::wal::Record;
use metastore_proto::etcdserverpb::RangeRequest;

use crate::cluster::{Cluster, Life, Waiting, bump};
use crate::mailbox::Mailbox;
use crate::moments;
use crate::noticing;
use crate::plant::{Plant, decided, spoilt};
use crate::sometimes::Situation;
use crate::storage::{LogOp, vote};
use crate::trace::now;
use metastore_judges::bounds::{Load, Rings};
use metastore_judges::history::Ending;
use metastore_judges::memberships::{Configuration, Look};
use metastore_judges::model::Op;

/// What reaches a member from outside.
pub(crate) enum Call {
    /// A client's operation and where its answer goes.
    Client(Op, Mailbox<Ending>),
    Peer {
        from: u64,
        message: PeerMessage,
    },
    Undelivered(PeerMessage),
    Written {
        up_to: u64,
    },
    Checkpointed {
        index: u64,
        result: Result<u64, String>,
    },
    /// The process is to stop, and hands leadership over before.
    StepDown(Mailbox<Ending>),
    /// Asks for the state's fingerprint, after checking its invariants.
    Examine(Mailbox<Examined>),
    /// Only wakes the loop.
    Nothing,
}

/// What an examination found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Examined {
    pub(crate) applied: u64,
    pub(crate) revision: i64,
    pub(crate) state_hash: u64,
    /// What counts against the quota.
    pub(crate) bytes_in_use: u64,
    pub(crate) leader: Option<u64>,
}

impl Examined {
    fn of(member: &Member) -> Self {
        let published = member.published();
        Self {
            applied: published.applied,
            revision: published.view.revision(),
            state_hash: member.state_hash(),
            bytes_in_use: published.bytes_in_use,
            leader: published.leader,
        }
    }
}

/// Runs one life of a member.
pub(crate) async fn drive(cluster: Rc<Cluster>, life: Rc<Life>, mut member: Member) {
    let mut next_token = 0;
    let mut rings = Rings::default();
    look(&cluster, &life, &member);
    let mut removed = perform(&cluster, &life, &mut member);
    loop {
        if removed {
            return cluster.leave(&life);
        }
        let alarm = member.poll_timeout().map(|at| life.clock.when(at));
        let first = life.inbox.recv_until(alarm).await;
        let mut calls: Vec<Call> = first.into_iter().collect();
        while cluster.is_paused(life.id) && life.alive.get() {
            calls.push(life.inbox.recv().await);
        }
        if !life.alive.get() || life.stops.get() {
            return cluster.examine_last(&life, &member);
        }
        calls.extend(life.inbox.take_all());
        if let Err(mut failure) = rings.ring(now(), calls.is_empty()) {
            failure.story = format!("m{}: {}", life.id, failure.story);
            return cluster.fail(failure);
        }
        for input in inputs(&cluster, &life, &member, calls, &mut next_token) {
            let applied = life.seen.get().applied();
            life.applied_before.set(applied);
            life.asked_by.set(asks_for_vote(&input));
            member.handle(life.clock.at(now()), input);
            look(&cluster, &life, &member);
            removed |= perform(&cluster, &life, &mut member);
            cluster.examine(&life, &member);
        }
        let load = Load {
            log_bytes: member.log_bytes(),
            waiting: life.waiting.borrow().len(),
        };
        if let Err(failure) = cluster.bounds.hold(load) {
            cluster.fail(failure);
        }
    }
}

/// The member that asks for a vote with this.
fn asks_for_vote(input: &Input) -> Option<u64> {
    match input {
        Input::Peer { from, message } if message.kind() == MessageKind::Vote => Some(*from),
        _ => None,
    }
}

/// What one step collected from clients.
#[derive(Default)]
struct Asked {
    proposals: Vec<Proposal>,
    barriers: Vec<u64>,
    questions: Vec<LeaseQuery>,
    /// What the member takes one by one.
    others: Vec<Input>,
}

impl Asked {
    fn put_into(self, inputs: &mut Vec<Input>) {
        let Asked {
            proposals,
            barriers: tokens,
            questions,
            others,
        } = self;
        inputs.extend((!proposals.is_empty()).then_some(Input::Propose(proposals)));
        inputs.extend((!questions.is_empty()).then_some(Input::AskLeases(questions)));
        inputs.extend(others);
        inputs.extend((!tokens.is_empty()).then_some(Input::Barrier { tokens }));
    }
}

/// Confirmations first, because they release answers; then letters; then all proposals and all reads of the step at
/// once. Nothing at all means that an alarm rang.
fn inputs(
    cluster: &Cluster,
    life: &Life,
    member: &Member,
    calls: Vec<Call>,
    next_token: &mut u64,
) -> Vec<Input> {
    let (mut inputs, mut letters) = (Vec::new(), Vec::new());
    let mut asked = Asked::default();
    for call in calls {
        match call {
            Call::Written { up_to } => inputs.push(Input::Written {
                up_to,
                result: Ok(()),
            }),
            Call::Checkpointed { index, result } => {
                inputs.push(Input::Checkpointed { index, result });
            }
            Call::Peer { from, message } => {
                noticing::receives(cluster, &message);
                letters.push(Input::Peer { from, message });
            }
            Call::Undelivered(message) => letters.push(Input::PeerUnreachable {
                message,
                reason: "the network lost it".into(),
            }),
            Call::Client(op, answer) => {
                *next_token += 1;
                ask(
                    cluster,
                    life,
                    &mut asked,
                    *next_token,
                    Waiting::new(life, op, answer),
                );
            }
            Call::StepDown(answer) => {
                *next_token += 1;
                let token = *next_token;
                let waiting = Waiting::new(life, Op::Transfer { to: life.id }, answer);
                life.waiting.borrow_mut().insert(token, waiting);
                asked.others.push(Input::StepDown { token });
            }
            Call::Examine(answer) => {
                member.validate();
                answer.push(Examined::of(member));
            }
            Call::Nothing => {}
        }
    }
    inputs.extend(letters);
    asked.put_into(&mut inputs);
    if inputs.is_empty() {
        inputs.push(Input::Tick);
    }
    inputs
}

/// Sorts an operation in by the way it takes.
fn ask(cluster: &Cluster, life: &Life, asked: &mut Asked, token: u64, waiting: Waiting) {
    let op = &waiting.op;
    if let Some(request) = op.request() {
        if is_full(cluster, life, &request) {
            bump(&cluster.counts.full);
            return waiting.answer.push(Ending::Full);
        }
        asked.proposals.push(Proposal {
            token,
            command: planted(cluster, life, request).into(),
        });
    } else if let Some(question) = op.question() {
        asked.questions.push(LeaseQuery { token, question });
    } else if let Some(input) = other_input(op, token) {
        asked.others.push(input);
        acknowledge_early(cluster, life, &waiting);
    } else if needs_no_barrier(cluster, life, op) {
        let older = cluster.world.plant == Some(Plant::ReadsOlderView) && token.is_multiple_of(5);
        let ending = match older {
            true => read_before(life, op),
            false => read(life, op),
        };
        noticing::read_at_once(cluster, op, &ending);
        noticing::listed_at_once(cluster, life, op);
        return waiting.answer.push(ending);
    } else {
        asked.barriers.push(token);
    }
    life.waiting.borrow_mut().insert(token, waiting);
}

/// Whether there is no room for what a request adds, as the server sees it.
fn is_full(cluster: &Cluster, life: &Life, request: &Request) -> bool {
    let in_use = life.published.borrow().bytes_in_use;
    let planted = cluster.world.plant == Some(Plant::FullTooSoon);
    let full = |quota_bytes| {
        let quota_bytes = if planted {
            quota_bytes / 2
        } else {
            quota_bytes
        };
        !quota::has_room(in_use, quota::charge(request), quota_bytes)
    };
    cluster.world.quota_bytes.is_some_and(full)
}

fn planted(cluster: &Cluster, life: &Life, request: Request) -> Request {
    match (cluster.world.plant, request) {
        (Some(Plant::ShortensLeases), Request::LeaseGrant(mut grant)) => {
            grant.ttl = (grant.ttl / 2).max(1);
            Request::LeaseGrant(grant)
        }
        (Some(Plant::GuardsTooEarly), Request::Txn(txn)) => {
            decided(&life.published.borrow().view, txn)
        }
        (_, request) => request,
    }
}

fn needs_no_barrier(cluster: &Cluster, life: &Life, op: &Op) -> bool {
    let published = life.published.borrow();
    let planted = match cluster.world.plant {
        Some(Plant::ReadWithoutBarrier) => true,
        Some(Plant::ListWithoutBarrier) => matches!(op, Op::List { .. }),
        Some(Plant::StaleLeaderRead) => published.leader == Some(life.id),
        _ => false,
    };
    let takes_any = match op.inquiry() {
        Some(inquiry) => txn::is_serializable(&inquiry),
        None => op.is_serializable(),
    };
    takes_any || planted || published.reads_need_no_quorum
}

/// Answers a change before it is made, for a fault on purpose; nobody listens to what comes of it then.
fn acknowledge_early(cluster: &Cluster, life: &Life, waiting: &Waiting) {
    let published = life.published.borrow();
    let planted = cluster.world.plant == Some(Plant::AcksChangesEarly);
    if planted && published.leader == Some(life.id) && matches!(waiting.op, Op::Change(_)) {
        let members = Arc::clone(&published.agreed_members);
        waiting.answer.push(Ending::Changed(members));
    }
}

/// What is asked of the member itself.
fn other_input(op: &Op, token: u64) -> Option<Input> {
    match op {
        Op::Change(change) => Some(Input::ChangeMembership {
            token,
            change: change.clone(),
        }),
        Op::Transfer { to } => Some(Input::TransferLeader { token, to: *to }),
        _ => None,
    }
}

fn read(life: &Life, op: &Op) -> Ending {
    if let Op::List { .. } = op {
        return Ending::Listed(Arc::clone(&life.published.borrow().agreed_members));
    }
    let view = &life.published.borrow().view;
    if let Some(inquiry) = op.inquiry() {
        return Ending::Surveyed(view.txn_read_only(&inquiry));
    }
    let range = op.range().expect("only reads wait for barriers");
    Ending::Read(view.range(&range))
}

/// Answers from the state before, as far as there is one, for a fault on purpose.
fn read_before(life: &Life, op: &Op) -> Ending {
    let view = life.published.borrow().view.clone();
    let (newest, oldest) = (view.revision(), view.compact_revision().max(1));
    match op.range() {
        Some(range) if range.revision == 0 && newest > oldest => {
            let revision = newest - 1;
            let answer = view.range(&RangeRequest { revision, ..range });
            Ending::Read(answer.map(|mut answer| {
                answer.header.get_or_insert_default().revision = revision;
                answer
            }))
        }
        _ => read(life, op),
    }
}

/// Does what the member asks for; answers whether it was removed.
fn perform(cluster: &Rc<Cluster>, life: &Rc<Life>, member: &mut Member) -> bool {
    let mut removed = false;
    while let Some(output) = member.poll_output() {
        match output {
            Output::Disk(DiskOp::Write {
                ticket,
                records,
                sync,
            }) => {
                hand_over(cluster, life, &records);
                life.log.push(LogOp::Write {
                    ticket,
                    records,
                    sync,
                });
            }
            Output::Disk(DiskOp::DropCovered { index }) => {
                life.log.push(LogOp::DropCovered { index })
            }
            Output::Disk(DiskOp::Checkpoint(checkpoint)) => {
                let before = life.unwritten_checkpoints.get();
                life.unwritten_checkpoints.set(before + 1);
                let two = Situation::CheckpointWhileInstalled;
                cluster.sometimes.saw_if(before > 0, two);
                if before == 0 {
                    let longer = moments::checkpoint_begins(cluster, life.id);
                    life.checkpoint_takes_longer.set(longer);
                }
                life.checkpoints.push(Some(checkpoint));
            }
            Output::Send { to, message } => {
                cluster
                    .trace
                    .detail(format_args!("m{} to m{to}: {message:?}", life.id));
                noticing::sends(cluster, (life.id, to), &message);
                cluster.send(life.id, to, message);
            }
            Output::Publish(published) => publish(cluster, life, member, published),
            Output::Answer { token, answer } => {
                end(cluster, life, token, answer.map(Ending::Wrote));
            }
            Output::Compacted { .. } => {}
            Output::LeaseAnswer { token, answer } => {
                lease_answered(cluster, life, token, answer);
            }
            Output::MembershipAnswer { token, answer } => {
                end(cluster, life, token, answer.map(Ending::Changed));
            }
            Output::TransferAnswer { token, answer } => {
                end(cluster, life, token, answer.map(|()| Ending::Transferred));
            }
            Output::Removed => removed = true,
            Output::Corrupt { index, .. } => panic!("m{} has another history at {index}", life.id),
            Output::Acquitted => unreachable!("only who was corrupt is acquitted"),
            Output::BarrierPassed { tokens, result } => {
                for token in tokens {
                    barrier_passed(cluster, life, token, &result);
                }
            }
        }
    }
    removed
}

/// These records are on their way to the log.
fn hand_over(cluster: &Rc<Cluster>, life: &Life, records: &[Record]) {
    let votes = records.iter().filter_map(vote);
    votes.for_each(|vote| cluster.votes(life, &vote));
    if records.iter().any(|it| matches!(it, Record::Purge { .. })) {
        noticing::installs(cluster, life.id);
    }
    let takes_back = |it: &Record| matches!(it, Record::TruncateFrom { .. });
    let some = &cluster.sometimes;
    some.saw_if(records.iter().any(takes_back), Situation::EntriesTakenBack);
    let handed = records.iter().fold(life.handed.get(), handed);
    life.handed.set(handed);
}

/// The last entry of a log that gets one more record.
fn handed(last: u64, record: &Record) -> u64 {
    match record {
        Record::Entry { index, .. } => *index,
        Record::TruncateFrom { index } => last.min(index.saturating_sub(1)),
        _ => last,
    }
}

fn publish(cluster: &Cluster, life: &Life, member: &Member, published: Arc<Published>) {
    cluster.trace.detail(format_args!(
        "m{} shows entry {} revision {} term {} leader {:?}",
        life.id,
        published.applied,
        published.view.revision(),
        published.term,
        published.leader
    ));
    noticing::publishes(cluster, life, &published, member.leads());
    cluster.observe(life, &published);
    cluster.hold_to_quorum(published.applied);
    if published.applied.is_multiple_of(VALIDATE_EVERY) {
        member.validate();
    }
    if life.published.show(published) {
        life.views.push(());
    }
}

/// Shows the judges what a member knows of the membership, where that has changed.
fn look(cluster: &Cluster, life: &Life, member: &Member) {
    let published = member.published();
    let leads = member.leads();
    if life.leads.get() != leads {
        noticing::leads(cluster, life, published.term, leads);
    }
    let mut seen = life.seen.get();
    if seen.is_old(member.memberships_at(), published.term, leads) {
        return;
    }
    let (applied, newest) = member.memberships();
    let look = Look {
        id: life.id,
        term: published.term,
        leads,
        applied_index: published.applied,
        applied: &applied,
        newest: &newest,
        ordinal: cluster.trace.events(),
    };
    let holds = |id| cluster.synced_to(id);
    let judged = {
        let memberships = &mut cluster.judges.borrow_mut().memberships;
        memberships.look(&mut seen, &look, holds)
    };
    life.seen.set(seen);
    let newest = Configuration::of(&newest);
    let before = life.newest.replace(newest);
    let after = life.newest.borrow();
    noticing::knows_of(cluster, before.as_ref(), after.as_ref());
    noticing::leaves_with_joiner(cluster, life, leads);
    if let Err(failure) = judged {
        cluster.fail(failure);
    }
}

fn lease_answered(
    cluster: &Cluster,
    life: &Life,
    token: u64,
    answer: Result<LeaseAnswer, Refusal>,
) {
    let answer = answer.map(|answer| match answer {
        LeaseAnswer::Renewed { ttl_seconds } => Ending::Renewed { ttl_seconds },
        LeaseAnswer::TimeToLive(status) => Ending::Stands(status),
        LeaseAnswer::List(ids) => {
            let waiting = life.waiting.borrow();
            let shown = waiting.get(&token).map_or(0, |waiting| waiting.shown);
            let ids = ids.to_vec();
            Ending::Leases { ids, shown }
        }
    });
    end(cluster, life, token, answer);
}

/// What its client is told, which is another thing where a fault on purpose has it so.
fn told(cluster: &Cluster, mut ending: Ending) -> Ending {
    let asked_for = |id: i64| {
        let history = cluster.history.borrow();
        let mut grants = history.iter().rev().filter_map(|record| match record.op {
            Op::Grant {
                id: of,
                ttl_seconds,
            } if of == id => Some(ttl_seconds.max(1)),
            _ => None,
        });
        grants.next().unwrap_or(0)
    };
    match (cluster.world.plant, &mut ending) {
        (Some(Plant::ShortensLeases), Ending::Wrote(Outcome::LeaseGranted(answer))) => {
            answer.ttl = asked_for(answer.id);
        }
        (Some(Plant::TellsLongerLeases), Ending::Renewed { ttl_seconds }) if *ttl_seconds > 0 => {
            *ttl_seconds += 1;
        }
        _ => {}
    }
    ending
}

fn barrier_passed(cluster: &Cluster, life: &Life, token: u64, result: &Result<(), Refusal>) {
    let answer = result.clone().map(|()| {
        let waiting = life.waiting.borrow();
        let waiting = waiting.get(&token);
        let waiting = waiting.expect("a barrier passes once, for what was asked");
        read(life, &waiting.op)
    });
    end(cluster, life, token, answer);
}

fn end(cluster: &Cluster, life: &Life, token: u64, answer: Result<Ending, Refusal>) {
    let waiting = life.waiting.borrow_mut().remove(&token);
    let waiting = waiting.expect("one answer per token, and only to what was asked");
    if cluster.world.plant == Some(Plant::ForgetsAnswers) && token.is_multiple_of(50) {
        return;
    }
    let ending = told(cluster, answer.unwrap_or_else(Ending::Refused));
    let ending = {
        let published = life.published.borrow();
        spoilt(cluster.world.plant, &published.view, &waiting.op, ending)
    };
    noticing::ended(cluster, life, &waiting, &ending);
    waiting.answer.push(ending);
}

/// Entries between two checks of all invariants, which read the whole state.
const VALIDATE_EVERY: u64 = 16;
