//! The two tasks that write a member's disk, and the crashes that are placed at what they do.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::codec;
use metastore_core::output::Checkpoint;
use metastore_core::raft::types::Vote;
use metastore_core::snapshot::Encoder;
use metastore_core::wal::Record;

use crate::cluster::{Cluster, Life, bump};
use crate::driver::Call;
use crate::plant::{Plant, without};
use crate::sometimes::Situation;
use crate::trace::now;

/// Work for the log's task, in order.
pub(crate) enum LogOp {
    Write {
        ticket: u64,
        records: Vec<Record>,
        sync: bool,
    },
    DropCovered {
        index: u64,
    },
    /// Finish the log in good order and end the life, which begins again after a while.
    Stop {
        down: Duration,
    },
    /// Only wakes the task.
    Nothing,
}

/// Where in a disk operation the power goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    During,
    After,
}

/// What goes into one batch.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    last_ticket: Option<u64>,
    urgent: bool,
}

/// Writes the log of one life: takes whatever waits, writes it as one batch, confirms once.
pub(crate) async fn write_log(cluster: Rc<Cluster>, life: Rc<Life>) {
    let mut batch = Batch::default();
    let mut lazy_until = None;
    loop {
        let deadline = if batch.urgent {
            Some(now())
        } else {
            lazy_until
        };
        let op = life.log.recv_until(deadline).await;
        if !life.alive.get() {
            return;
        }
        match op {
            Some(LogOp::Write {
                ticket,
                records,
                sync,
            }) => {
                batch.records.extend(kept(&cluster, records));
                batch.last_ticket = Some(ticket);
                batch.urgent |= sync;
                lazy_until.get_or_insert_with(|| now() + LAZY_DELAY);
            }
            Some(LogOp::DropCovered { index }) => {
                if crash_at(&cluster, &life, Moment::Before, "before it drops segments") {
                    return;
                }
                let dropped = cluster.disk(life.id).borrow_mut().drop_covered(index);
                let some = &cluster.sometimes;
                some.saw_if(dropped > 0, Situation::SegmentsDropped);
                let id = life.id;
                cluster
                    .trace
                    .detail(format_args!("m{id} drops {dropped} segments up to {index}"));
            }
            Some(LogOp::Stop { down }) => {
                let hasty = cluster.world.plant == Some(Plant::StopsHastily);
                let waits = batch.last_ticket.is_some() && !hasty;
                let taken = std::mem::take(&mut batch);
                if waits && commit(&cluster, &life, taken).await.is_none() {
                    return;
                }
                cluster.sometimes.saw_if(waits, Situation::DrainedAtStop);
                return cluster.stopped(&life, down);
            }
            Some(LogOp::Nothing) => {}
            None => {
                lazy_until = None;
                let taken = std::mem::take(&mut batch);
                if commit(&cluster, &life, taken).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Writes one batch; answers nothing when the life ended over it.
async fn commit(cluster: &Rc<Cluster>, life: &Rc<Life>, batch: Batch) -> Option<()> {
    let disk = cluster.disk(life.id);
    let Some(up_to) = batch.last_ticket else {
        return Some(());
    };
    if disk.borrow().is_full(&batch.records) {
        disk.borrow_mut().begin_segment();
        sync(cluster, life, "a new segment").await?;
    }
    if crash_at(cluster, life, Moment::Before, "before a log write") {
        return None;
    }
    let fault = life.log_fault.take();
    if let Some((error, over)) = fault.filter(|(_, over)| now() < *over && cluster.faulty.get()) {
        let down = over - now();
        disk.borrow_mut().fail_write(&batch.records, error);
        cluster.sometimes.saw(Situation::DiskRefused);
        cluster.crash(
            life.id,
            &format!("because a log write failed ({error:?})"),
            down,
        );
        return None;
    }
    disk.borrow_mut().begin_write(&batch.records);
    // Votes that are not durable are a fault of their own.
    let early = cluster.world.plant == Some(Plant::AckBeforeSync)
        && batch.records.iter().all(|record| vote(record).is_none());
    if early {
        life.inbox.push(Call::Written { up_to });
    }
    sync(cluster, life, "a log write").await?;
    note_votes(cluster, life.id, &batch.records);
    cluster.trace.detail(format_args!(
        "m{} synced {} records up to ticket {up_to}",
        life.id,
        batch.records.len()
    ));
    if crash_at(
        cluster,
        life,
        Moment::After,
        "after a log write, before it is confirmed",
    ) {
        return None;
    }
    if !early {
        life.inbox.push(Call::Written { up_to });
    }
    Some(())
}

/// Tells the judges whose election has become durable here.
fn note_votes(cluster: &Cluster, id: u64, records: &[Record]) {
    let votes = records.iter().filter_map(vote);
    votes.for_each(|vote| cluster.voted(id, &vote));
}

/// The vote that a record is.
pub(crate) fn vote(record: &Record) -> Option<Vote> {
    match record {
        Record::Vote(bytes) => Some(codec::decode(bytes).expect("the core wrote a vote")),
        _ => None,
    }
}

/// Waits for the disk to sync what is pending, and completes it unless the power goes meanwhile.
async fn sync(cluster: &Rc<Cluster>, life: &Rc<Life>, what: &str) -> Option<()> {
    let (takes, crash_after) = {
        let mut faults = cluster.faults.borrow_mut();
        let takes = faults.between(1, cluster.world.sync_ms_max) * slowness(cluster, life.id);
        (takes, faults.between(0, takes))
    };
    sleep(Duration::from_millis(crash_after)).await;
    if !life.alive.get() {
        return None;
    }
    if crash_at(cluster, life, Moment::During, &format!("during {what}")) {
        return None;
    }
    sleep(Duration::from_millis(takes - crash_after)).await;
    if !life.alive.get() {
        return None;
    }
    cluster.disk(life.id).borrow_mut().complete_write();
    Some(())
}

/// Writes the checkpoints of one life, one after the other.
pub(crate) async fn write_checkpoints(cluster: Rc<Cluster>, life: Rc<Life>) {
    while let Some(checkpoint) = life.checkpoints.recv().await {
        if !life.alive.get()
            || write_checkpoint(&cluster, &life, checkpoint)
                .await
                .is_none()
        {
            return;
        }
        let unwritten = &life.unwritten_checkpoints;
        unwritten.set(unwritten.get() - 1);
    }
}

/// Writes one; answers nothing when the life ended over it.
async fn write_checkpoint(
    cluster: &Rc<Cluster>,
    life: &Rc<Life>,
    checkpoint: Checkpoint,
) -> Option<()> {
    let Checkpoint {
        index,
        view,
        description,
        awaited: _,
    } = checkpoint;
    let description = without(cluster.world.plant, &view, description.encode());
    let pieces = cluster.world.sizes().piece_bytes;
    let frames = Encoder::with_frames(view, &description, pieces);
    let bytes = frames.collect::<Vec<_>>().concat();
    let length = bytes.len() as u64;
    let disk = cluster.disk(life.id);
    disk.borrow_mut().begin_checkpoint(index, bytes);
    if cluster.world.plant == Some(Plant::DropsLogEarly) {
        disk.borrow_mut().drop_covered(index);
    }
    let takes = cluster
        .faults
        .borrow_mut()
        .between(1, 4 * cluster.world.sync_ms_max);
    let longer = life.checkpoint_takes_longer.take();
    sleep(longer + Duration::from_millis(takes * slowness(cluster, life.id))).await;
    if !life.alive.get() || crash_at(cluster, life, Moment::During, "during a checkpoint") {
        return None;
    }
    let id = life.id;
    let ills = cluster.ills.borrow();
    let fails = ills.get(&id).is_some_and(|ills| ills.checkpoints_fail > 0);
    drop(ills);
    if fails {
        disk.borrow_mut().forget_checkpoint();
        cluster.sometimes.saw(Situation::CheckpointFailed);
        // What a member makes of its own state does not lie ahead of that.
        let installs = index > life.published.borrow().applied;
        cluster.sometimes.saw_if(installs, Situation::InstallFailed);
        let trace = &cluster.trace;
        trace.note(format_args!("m{id} cannot write its checkpoint at {index}"));
        life.inbox.push(Call::Checkpointed {
            index,
            result: Err("no space left on device".into()),
        });
        return Some(());
    }
    disk.borrow_mut().complete_checkpoint();
    bump(&cluster.counts.checkpoints);
    cluster.trace.note(format_args!(
        "m{id} wrote a checkpoint at {index}, {length} bytes"
    ));
    if crash_at(cluster, life, Moment::After, "after a checkpoint") {
        cluster.sometimes.saw(Situation::CheckpointUnconfirmed);
        return None;
    }
    life.inbox.push(Call::Checkpointed {
        index,
        result: Ok(length),
    });
    Some(())
}

/// How many times as long as usual a sync takes.
fn slowness(cluster: &Cluster, id: u64) -> u64 {
    let ills = cluster.ills.borrow();
    let slow = ills.get(&id).and_then(|ills| ills.slow.iter().max());
    slow.copied().unwrap_or(1)
}

/// The records that reach the disk.
fn kept(cluster: &Cluster, mut records: Vec<Record>) -> Vec<Record> {
    let lost: fn(&Record) -> bool = match cluster.world.plant {
        Some(Plant::VoteNotDurable) => |record| matches!(record, Record::Vote(_)),
        Some(Plant::TruncationNotDurable) => |record| matches!(record, Record::TruncateFrom { .. }),
        _ => return records,
    };
    for record in records.iter_mut().filter(|record| lost(record)) {
        // Something has to be written, and this says nothing.
        *record = Record::Opened;
    }
    records
}

/// Perhaps crashes the member now.
fn crash_at(cluster: &Rc<Cluster>, life: &Life, moment: Moment, at: &str) -> bool {
    let odds = match moment {
        // Between begin and end lies what decides most.
        Moment::Before | Moment::After => cluster.world.crash_permille.div_ceil(2),
        Moment::During => cluster.world.crash_permille,
    };
    let crashes = cluster.faults.borrow_mut().permille(odds) && cluster.faulty.get();
    if crashes {
        let down = cluster.down_time();
        cluster.crash(life.id, at, down);
    }
    crashes
}

/// How long records wait that nobody asked to have synced.
const LAZY_DELAY: Duration = Duration::from_millis(50);
