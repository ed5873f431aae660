//! The loop on the member thread: wait, feed what came, perform what is asked, sleep until the next alarm.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Instant;

use arc_swap::ArcSwap;
use metastore_core::command::Command;
use metastore_core::input::{Input, Proposal};
use metastore_core::lease::LeaseQuery;
use metastore_core::member::Member;
use metastore_core::output::{Checkpoint, DiskOp, MemberInfo, Outcome, Output, Published, Refusal};
use metastore_core::raft::machine::BadDescription;

use crate::disk::log_thread::LogOp;
use crate::feed::Feed;
use crate::inbox;
use crate::node::Call;
use crate::peers::{Letter, Post};
use crate::syncs::Syncs;
use crate::waiting::{Answer, Mailbox, Token};

/// The tokens of the announcement and of stepping down; no connection thread has them.
const ANNOUNCEMENT: u64 = u64::MAX;
const STEP_DOWN: u64 = u64::MAX - 1;

/// Everything the member thread owns or sends to.
pub(crate) struct Driver {
    pub(crate) member: Member,
    pub(crate) calls: inbox::Receiver,
    pub(crate) log: SyncSender<LogOp>,
    pub(crate) checkpoints: SyncSender<Checkpoint>,
    pub(crate) published: Arc<ArcSwap<Published>>,
    /// Where replaced views go to be dropped: freeing a large tree would hold up the next write.
    pub(crate) replaced: Sender<Arc<Published>>,
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Where published views go for the watchers of each connection thread.
    pub(crate) feeds: Vec<Feed>,
    /// Where letters to other members go, those not handed over yet, and the members the post knows of.
    pub(crate) post: Post,
    pub(crate) letters: Vec<Letter>,
    pub(crate) members: Arc<[MemberInfo]>,
    /// Who waits until leadership is handed over.
    pub(crate) stepping_down: Option<Sender<()>>,
    /// Whether this member was removed from the cluster.
    pub(crate) removed: bool,
    pub(crate) syncs: Syncs,
    /// The origin of the member's time.
    pub(crate) origin: Instant,
    pub(crate) announcement: Announcement,
}

/// What a member tells the cluster when it starts: its name and where clients reach it.
pub(crate) struct Announcement {
    command: Command,
    proposed: bool,
    committed: bool,
    /// Told when the announcement is committed, and this member votes if it is to.
    ready: Option<SyncSender<Readiness>>,
}

/// The place where views are published, or why there will be none; told at the start, and again when the announcement
/// is committed.
pub(crate) type Readiness = Result<Arc<ArcSwap<Published>>, BadDescription>;

impl Announcement {
    pub(crate) fn new(command: Command, ready: SyncSender<Readiness>) -> Self {
        Self {
            command,
            proposed: false,
            committed: false,
            ready: Some(ready),
        }
    }
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// The log cannot be written any more: nothing more can be acknowledged.
    LogFailed(String),
    /// The member was removed from the cluster: it takes no part any more.
    Removed,
}

/// What one step collected from the channel.
#[derive(Default)]
struct Step {
    proposals: Vec<Proposal>,
    barriers: Vec<u64>,
    questions: Vec<LeaseQuery>,
    confirmations: Vec<Input>,
    letters: Vec<Input>,
    orders: Vec<Input>,
    stepping_down: Option<Sender<()>>,
    synced_to: Option<u64>,
    stop: bool,
}

impl Driver {
    /// Runs until stopped or until the disk fails.
    pub(crate) fn run(mut self) -> Ended {
        let mut outgoing: Vec<Vec<(Token, Answer)>> =
            self.mailboxes.iter().map(|_| Vec::new()).collect();
        self.perform(&mut outgoing);
        loop {
            self.announce(&mut outgoing);
            let mut step = self.wait();
            if let Some(done) = step.stepping_down.take() {
                self.stepping_down = Some(done);
            }
            if let Some(up_to) = step.synced_to {
                self.syncs.finish(up_to);
            }
            if let Some(reason) = step.log_failure() {
                return Ended::LogFailed(reason);
            }
            if step.stop {
                return Ended::Stopped;
            }
            for inputs in step.into_inputs() {
                for input in inputs {
                    self.member.handle(self.origin.elapsed(), input);
                    self.collect(&mut outgoing);
                }
                self.hand_over(&mut outgoing);
            }
            if self.removed {
                return Ended::Removed;
            }
        }
    }

    /// Proposes the announcement as soon as there is a leader to take it.
    fn announce(&mut self, outgoing: &mut [Vec<(Token, Answer)>]) {
        if self.announcement.proposed
            || self.announcement.committed
            || self.member.published().leader.is_none()
        {
            return;
        }
        self.announcement.proposed = true;
        let proposal = Proposal {
            token: ANNOUNCEMENT,
            command: self.announcement.command.clone(),
        };
        self.member
            .handle(self.origin.elapsed(), Input::Propose(vec![proposal]));
        self.perform(outgoing);
    }

    /// Committed means that this member has a leader and all its data. Otherwise it is tried again.
    fn announced(&mut self, answer: &Result<Outcome, Refusal>) {
        self.announcement.proposed = false;
        if answer.is_ok() {
            self.announcement.committed = true;
            tracing::info!("published local member to cluster through raft");
            self.say_ready();
        }
    }

    /// Who waits for a new member may take another away next: so it is ready when it counts.
    fn say_ready(&mut self) {
        if self.announcement.committed
            && self.announcement.ready.is_some()
            && self.member.votes_if_it_should()
            && let Some(ready) = self.announcement.ready.take()
        {
            // Whoever started this member may have given up.
            let _ = ready.send(Ok(Arc::clone(&self.published)));
        }
    }

    /// Waits for calls or an alarm.
    fn wait(&mut self) -> Step {
        let timeout = self
            .member
            .poll_timeout()
            .map(|at| at.saturating_sub(self.origin.elapsed()));
        let leads = self.member.published().leader == Some(self.member.id());
        let proposals = self.syncs.proposals(leads, Instant::now());
        let mut step = Step::default();
        for call in self.calls.take(timeout, proposals) {
            step.take(call);
        }
        step
    }

    /// Performs everything that is asked.
    fn perform(&mut self, outgoing: &mut [Vec<(Token, Answer)>]) {
        self.collect(outgoing);
        self.hand_over(outgoing);
    }

    /// Performs what is asked, but for waking those whom it concerns.
    fn collect(&mut self, outgoing: &mut [Vec<(Token, Answer)>]) {
        while let Some(output) = self.member.poll_output() {
            match output {
                Output::Disk(op) => self.perform_disk(op),
                Output::Publish(published) => {
                    self.note_leader(&published);
                    let replaced = self.published.swap(Arc::clone(&published));
                    self.feeds.iter().for_each(|feed| feed.put(&published));
                    // Without the dropping thread (at the very end) it is dropped here.
                    let _ = self.replaced.send(replaced);
                    self.follow(&published.members);
                    self.say_ready();
                }
                Output::Answer {
                    token: ANNOUNCEMENT,
                    answer,
                } => self.announced(&answer),
                Output::Answer { token, answer } => {
                    let token = Token::from_raw(token);
                    outgoing[token.thread()].push((token, Answer::Proposed(answer)));
                }
                Output::Compacted { revision } => {
                    tracing::info!(compact_revision = revision, "finished scheduled compaction");
                }
                Output::LeaseAnswer { token, answer } => {
                    let token = Token::from_raw(token);
                    outgoing[token.thread()].push((token, Answer::Lease(answer)));
                }
                Output::BarrierPassed { tokens, result } => {
                    for token in tokens.into_iter().map(Token::from_raw) {
                        outgoing[token.thread()].push((token, Answer::Barrier(result.clone())));
                    }
                }
                Output::Send { to, message } => self.letters.push(Letter { to, message }),
                Output::MembershipAnswer { token, answer } => {
                    let token = Token::from_raw(token);
                    outgoing[token.thread()].push((token, Answer::Membership(answer)));
                }
                Output::TransferAnswer {
                    token: STEP_DOWN,
                    answer,
                } => self.stepped_down(&answer),
                Output::TransferAnswer { token, answer } => {
                    let token = Token::from_raw(token);
                    outgoing[token.thread()].push((token, Answer::Transfer(answer)));
                }
                Output::Removed => self.removed = true,
                Output::Corrupt { index, by_majority } => {
                    complain_of_corruption(index, by_majority)
                }
                Output::Acquitted => {
                    tracing::warn!(
                        "a majority has the same data as this member, which serves again"
                    );
                }
            }
        }
    }

    /// Hands over what was collected, with one wake-up for each thread that it concerns.
    fn hand_over(&mut self, outgoing: &mut [Vec<(Token, Answer)>]) {
        self.post.deliver(&mut self.letters);
        self.feeds.iter().for_each(Feed::wake);
        for (mailbox, batch) in self.mailboxes.iter().zip(outgoing) {
            if !batch.is_empty() {
                mailbox.deliver(batch);
            }
        }
    }

    fn stepped_down(&mut self, answer: &Result<(), Refusal>) {
        if let Err(refusal) = answer {
            tracing::warn!(error = %refusal, "cannot hand over leadership before stopping");
        }
        if let Some(done) = self.stepping_down.take() {
            // Whoever waited may have lost patience.
            let _ = done.send(());
        }
    }

    /// Says who leads from now on, in the words that tools look for.
    fn note_leader(&mut self, published: &Published) {
        let before = self.published.load();
        if before.leader == published.leader {
            return;
        }
        let (id, term) = (self.member.id(), published.term);
        if published.leader == Some(id) {
            tracing::info!("{id:x} became leader at term {term}");
        }
        match (published.leader, before.leader) {
            (Some(leader), None) => {
                tracing::info!("raft.node: {id:x} elected leader {leader:x} at term {term}");
            }
            (Some(leader), Some(old)) => tracing::info!(
                "raft.node: {id:x} changed leader from {old:x} to {leader:x} at term {term}"
            ),
            (None, Some(old)) => {
                tracing::warn!("raft.node: {id:x} lost leader {old:x} at term {term}");
            }
            (None, None) => {}
        }
    }

    /// The connections to other members follow the membership.
    fn follow(&mut self, members: &Arc<[MemberInfo]>) {
        if !Arc::ptr_eq(members, &self.members) && !members.is_empty() {
            self.members = Arc::clone(members);
            self.post.follow(Arc::clone(members));
        }
    }

    fn perform_disk(&mut self, op: DiskOp) {
        // A send fails only when the receiving thread has ended after a failure that it has reported in a
        // call of its own, which ends this loop.
        let sent = match op {
            DiskOp::Write {
                ticket,
                records,
                sync,
            } => {
                if sync {
                    self.syncs.begin(ticket, Instant::now());
                }
                self.log
                    .send(LogOp::Write {
                        ticket,
                        records,
                        sync,
                    })
                    .is_ok()
            }
            DiskOp::DropCovered { index } => self.log.send(LogOp::DropCovered { index }).is_ok(),
            DiskOp::Checkpoint(checkpoint) => self.checkpoints.send(checkpoint).is_ok(),
        };
        if !sent {
            tracing::debug!("a disk thread has ended");
        }
    }
}

impl Step {
    fn take(&mut self, call: Call) {
        match call {
            Call::Propose(token, command) => self.proposals.push(Proposal {
                token: token.raw(),
                command,
            }),
            Call::Barrier(token) => self.barriers.push(token.raw()),
            Call::AskLease(token, question) => self.questions.push(LeaseQuery {
                token: token.raw(),
                question,
            }),
            Call::ChangeMembership(token, change) => {
                let token = token.raw();
                self.orders.push(Input::ChangeMembership { token, change });
            }
            Call::TransferLeader(token, to) => {
                let token = token.raw();
                self.orders.push(Input::TransferLeader { token, to });
            }
            Call::StepDown(done) => {
                self.stepping_down = Some(done);
                self.orders.push(Input::StepDown { token: STEP_DOWN });
            }
            Call::Letters { from, letters } => self.letters.extend(
                letters
                    .into_iter()
                    .map(|message| Input::Peer { from, message }),
            ),
            Call::Undelivered(letters) => self.letters.extend(
                letters
                    .into_iter()
                    .map(|(message, reason)| Input::PeerUnreachable { message, reason }),
            ),
            Call::Written { up_to, result } => {
                self.synced_to = Some(up_to);
                self.confirmations.push(Input::Written { up_to, result });
            }
            Call::Checkpointed { index, result } => self
                .confirmations
                .push(Input::Checkpointed { index, result }),
            Call::Stop => self.stop = true,
        }
    }

    fn log_failure(&self) -> Option<String> {
        self.confirmations.iter().find_map(|input| match input {
            Input::Written {
                result: Err(reason),
                ..
            } => Some(reason.clone()),
            _ => None,
        })
    }

    /// What came, in two groups whose outcomes are handed over together: confirmations and letters first, since they
    /// release answers, then what is asked. Nothing at all means that an alarm rang.
    fn into_inputs(self) -> [Vec<Input>; 2] {
        let mut told = self.confirmations;
        told.extend(self.letters);
        let mut inputs = Vec::new();
        if !self.proposals.is_empty() {
            inputs.push(Input::Propose(self.proposals));
        }
        if !self.questions.is_empty() {
            inputs.push(Input::AskLeases(self.questions));
        }
        if !self.barriers.is_empty() {
            inputs.push(Input::Barrier {
                tokens: self.barriers,
            });
        }
        inputs.extend(self.orders);
        if told.is_empty() && inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        [told, inputs]
    }
}

/// Says that this member's data are not those of the others, and what to do.
fn complain_of_corruption(index: u64, by_majority: bool) {
    match by_majority {
        true => tracing::error!(
            index,
            "this member's data differ from those of the others; it refuses writes and linearizable reads. \
             Remove it from the cluster, delete its data directory, and add it anew"
        ),
        false => tracing::error!(
            index,
            "this member's data differ from its leader's, and no majority says which are right; it refuses writes and \
             linearizable reads. Start the other members, and keep its data directory until they agree"
        ),
    }
}
