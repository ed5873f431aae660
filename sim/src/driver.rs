//! The loop around a member: wait, feed what came, perform what is asked, sleep until the next alarm.

use std::rc::Rc;

use metastore_core::input::{Input, Proposal};
use metastore_core::member::Member;
use metastore_core::output::{DiskOp, Outcome, Output, Refusal};
use metastore_core::raft::PeerMessage;

use crate::cluster::{Cluster, Life, Waiting};
use crate::history::Ending;
use crate::mailbox::Mailbox;
use crate::model::Op;
use crate::storage::LogOp;
use crate::trace::now;
use crate::world::Plant;

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
        bytes: u64,
    },
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
    pub(crate) leader: Option<u64>,
}

/// Runs one life of a member.
pub(crate) async fn drive(cluster: Rc<Cluster>, life: Rc<Life>, mut member: Member) {
    let mut next_token = 0;
    perform(&cluster, &life, &mut member);
    loop {
        let first = life.inbox.recv_until(member.poll_timeout()).await;
        if !life.alive.get() {
            return;
        }
        let mut calls: Vec<Call> = first.into_iter().collect();
        calls.extend(life.inbox.take_all());
        for input in inputs(&cluster, &life, &member, calls, &mut next_token) {
            member.handle(now(), input);
            perform(&cluster, &life, &mut member);
        }
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
    let (mut proposals, mut tokens) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            Call::Written { up_to } => inputs.push(Input::Written {
                up_to,
                result: Ok(()),
            }),
            Call::Checkpointed { index, bytes } => inputs.push(Input::Checkpointed {
                index,
                result: Ok(bytes),
            }),
            Call::Peer { from, message } => letters.push(Input::Peer { from, message }),
            Call::Undelivered(message) => letters.push(Input::PeerUnreachable {
                message,
                reason: "the network lost it".into(),
            }),
            Call::Client(op, answer) => {
                *next_token += 1;
                let token = *next_token;
                match op.request() {
                    Some(request) => proposals.push(Proposal {
                        token,
                        command: request.into(),
                    }),
                    None if needs_no_barrier(cluster, life) => {
                        answer.push(read(life, &op));
                        continue;
                    }
                    None => tokens.push(token),
                }
                let waiting = Waiting { op, answer };
                life.waiting.borrow_mut().insert(token, waiting);
            }
            Call::Examine(answer) => {
                member.validate();
                answer.push(Examined {
                    applied: member.published().applied,
                    revision: member.published().view.revision(),
                    state_hash: member.state_hash(),
                    leader: member.published().leader,
                });
            }
            Call::Nothing => {}
        }
    }
    inputs.extend(letters);
    inputs.extend((!proposals.is_empty()).then_some(Input::Propose(proposals)));
    inputs.extend((!tokens.is_empty()).then_some(Input::Barrier { tokens }));
    if inputs.is_empty() {
        inputs.push(Input::Tick);
    }
    inputs
}

fn needs_no_barrier(cluster: &Cluster, life: &Life) -> bool {
    cluster.world.plant == Some(Plant::ReadWithoutBarrier)
        || life.published.borrow().reads_need_no_quorum
}

fn read(life: &Life, op: &Op) -> Ending {
    let range = op.range().expect("only reads wait for barriers");
    Ending::Read(life.published.borrow().view.range(&range))
}

fn perform(cluster: &Rc<Cluster>, life: &Rc<Life>, member: &mut Member) {
    while let Some(output) = member.poll_output() {
        match output {
            Output::Disk(DiskOp::Write {
                ticket,
                records,
                sync,
            }) => life.log.push(LogOp::Write {
                ticket,
                records,
                sync,
            }),
            Output::Disk(DiskOp::DropCovered { index }) => {
                life.log.push(LogOp::DropCovered { index })
            }
            Output::Disk(DiskOp::Checkpoint(checkpoint)) => life.checkpoints.push(checkpoint),
            Output::Send { to, message } => {
                cluster
                    .trace
                    .note(format_args!("m{} to m{to}: {message:?}", life.id));
                cluster.send(life, to, message);
            }
            Output::Publish(published) => {
                cluster.trace.note(format_args!(
                    "m{} shows entry {} revision {} term {} leader {:?}",
                    life.id,
                    published.applied,
                    published.view.revision(),
                    published.term,
                    published.leader
                ));
                cluster.observe(life, &published);
                if published.applied.is_multiple_of(VALIDATE_EVERY) {
                    member.validate();
                }
                *life.published.borrow_mut() = published;
            }
            Output::Answer { token, answer } => answered(life, token, answer),
            Output::Compacted { .. } => {}
            Output::LeaseAnswer { token, .. } => {
                unreachable!("nobody here asks about leases, and {token} is answered")
            }
            Output::MembershipAnswer { token, .. } | Output::TransferAnswer { token, .. } => {
                unreachable!("nobody here asks for another cluster, and {token} is answered")
            }
            Output::Removed => unreachable!("nobody here removes members"),
            Output::Corrupt { index } => panic!("m{} has another history at {index}", life.id),
            Output::BarrierPassed { tokens, result } => {
                for token in tokens {
                    barrier_passed(life, token, &result);
                }
            }
        }
    }
}

fn answered(life: &Life, token: u64, answer: Result<Outcome, Refusal>) {
    let waiting = life.waiting.borrow_mut().remove(&token);
    let waiting = waiting.expect("one answer per token, and only to what was asked");
    waiting.answer.push(match answer {
        Ok(outcome) => Ending::Wrote(outcome),
        Err(refusal) => Ending::Refused(refusal),
    });
}

fn barrier_passed(life: &Life, token: u64, result: &Result<(), Refusal>) {
    let waiting = life.waiting.borrow_mut().remove(&token);
    let waiting = waiting.expect("a barrier passes once, for what was asked");
    waiting.answer.push(match result {
        Ok(()) => read(life, &waiting.op),
        Err(refusal) => Ending::Refused(refusal.clone()),
    });
}

/// Entries between two checks of all invariants, which read the whole state.
const VALIDATE_EVERY: u64 = 16;
