//! Equal inputs give equal outputs, byte for byte, in two processes: what every replay of a failure rests on.
//!
//! Hash seeds and addresses differ from process to process, so anything that depends on them shows here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use metastore_core::command::Request;
use metastore_core::compactor::AutoCompaction;
use metastore_core::input::{Input, Proposal};
use metastore_core::lease::{LeaseQuery, LeaseQuestion};
use metastore_core::member::{Member, Recovered, Settings, Sizes};
use metastore_core::output::{DiskOp, Output};
use metastore_core::snapshot::Encoder;
use metastore_proto::etcdserverpb::request_op::Request as Op;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest,
};

/// Set for the child processes: the seed of the run they print.
const SEED: &str = "METASTORE_DETERMINISM_SEED";

/// SplitMix64 (Steele, Lea, Flood 2014): enough to draw a workload.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key/{}", self.roll(40)).into_bytes()
    }

    fn lease(&mut self) -> i64 {
        1 + i64::try_from(self.roll(5)).expect("small")
    }

    fn request(&mut self) -> Request {
        match self.roll(12) {
            0 => Request::DeleteRange(DeleteRangeRequest {
                key: self.key(),
                range_end: b"key/3".to_vec(),
                prev_kv: true,
            }),
            1 => {
                let key = self.key();
                let put = PutRequest {
                    key: key.clone(),
                    value: b"in a txn".to_vec(),
                    ..PutRequest::default()
                };
                let delete = DeleteRangeRequest {
                    key: [key, b"/x".to_vec()].concat(),
                    ..DeleteRangeRequest::default()
                };
                let op = |request| RequestOp {
                    request: Some(request),
                };
                let success = vec![op(Op::RequestPut(put)), op(Op::RequestDeleteRange(delete))];
                Request::Txn(TxnRequest {
                    success,
                    ..TxnRequest::default()
                })
            }
            2 => Request::Compact(CompactionRequest {
                revision: i64::try_from(self.roll(300)).expect("small"),
                physical: self.roll(2) == 0,
            }),
            3 => Request::LeaseGrant(LeaseGrantRequest {
                id: self.lease(),
                ttl: 1,
            }),
            4 => Request::Put(PutRequest {
                key: self.key(),
                lease: self.lease(),
                ..PutRequest::default()
            }),
            _ => {
                let length = usize::try_from(self.roll(200)).expect("small");
                let value = vec![b'v'; length];
                Request::Put(PutRequest {
                    key: self.key(),
                    value,
                    prev_kv: true,
                    ..PutRequest::default()
                })
            }
        }
    }
}

/// Everything a member says while it serves a workload drawn from `seed`, on a disk that takes its time.
fn transcript(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut text = String::new();
    let mut now = Duration::ZERO;
    let mut member =
        Member::new(settings(seed), Recovered::default(), now).expect("nothing to recover");
    let mut unconfirmed = Vec::new();
    let mut token = 0;
    for _ in 0..2000 {
        describe(&mut member, &mut text, &mut unconfirmed);
        now += Duration::from_micros(dice.roll(3000));
        let input = match dice.roll(3) {
            0 if !unconfirmed.is_empty() => {
                let confirmed =
                    usize::try_from(dice.roll(unconfirmed.len() as u64)).expect("small");
                let up_to = unconfirmed[confirmed];
                unconfirmed.drain(..=confirmed);
                Input::Written {
                    up_to,
                    result: Ok(()),
                }
            }
            1 => Input::Tick,
            2 if dice.roll(4) == 0 => {
                token += 1;
                let question = LeaseQuestion::Renew(dice.lease());
                Input::AskLeases(vec![LeaseQuery { token, question }])
            }
            _ => {
                let proposals = (0..dice.roll(5)).map(|_| {
                    token += 1;
                    Proposal {
                        token,
                        command: dice.request().into(),
                    }
                });
                Input::Propose(proposals.collect())
            }
        };
        member.handle(now, input);
    }
    for frame in Encoder::new(member.published().view.clone(), b"end") {
        writeln!(text, "snapshot {frame:02x?}").expect("a string takes it");
    }
    writeln!(text, "state {:016x}", member.state_hash()).expect("a string takes it");
    text
}

fn settings(seed: u64) -> Settings {
    Settings {
        id: 1,
        initial_members: BTreeMap::from([(1, vec!["http://127.0.0.1:2380".to_owned()])]),
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_secs(1),
        pre_vote: true,
        request_timeout: Duration::from_secs(7),
        snapshot_entries: 100,
        catch_up_entries: 50,
        checkpoint_log_bytes: 20_000,
        checkpoint_entries: None,
        auto_compaction: AutoCompaction::Off,
        learners_max: 1,
        strict_reconfiguration: true,
        comparison_interval: None,
        sizes: Sizes::default(),
        lease_record_interval: Some(Duration::from_secs(60)),
        seed,
        incarnation: 0,
    }
}

fn describe(member: &mut Member, text: &mut String, unconfirmed: &mut Vec<u64>) {
    while let Some(output) = member.poll_output() {
        match output {
            Output::Disk(DiskOp::Write {
                ticket,
                records,
                sync,
            }) => {
                unconfirmed.push(ticket);
                writeln!(text, "write {ticket} {sync} {records:02x?}")
            }
            Output::Disk(DiskOp::Checkpoint(checkpoint)) => {
                writeln!(
                    text,
                    "checkpoint {} {:02x?}",
                    checkpoint.index,
                    checkpoint.description.encode()
                )
            }
            Output::Disk(DiskOp::DropCovered { index }) => writeln!(text, "drop {index}"),
            Output::Send { to, message } => writeln!(text, "send {to} {message:?}"),
            Output::Publish(published) => writeln!(
                text,
                "publish {} {} {} {:?} {}",
                published.applied,
                published.term,
                published.view.revision(),
                published.leader,
                published.bytes_in_use
            ),
            Output::Answer { token, answer } => writeln!(text, "answer {token} {answer:?}"),
            Output::Compacted { revision } => writeln!(text, "compacted {revision}"),
            Output::LeaseAnswer { token, answer } => writeln!(text, "lease {token} {answer:?}"),
            Output::MembershipAnswer { token, answer } => {
                writeln!(text, "members {token} {answer:?}")
            }
            Output::TransferAnswer { token, answer } => {
                writeln!(text, "transfer {token} {answer:?}")
            }
            Output::Removed => writeln!(text, "removed"),
            Output::Corrupt { index, .. } => writeln!(text, "corrupt {index}"),
            Output::Acquitted => writeln!(text, "acquitted"),
            Output::BarrierPassed { tokens, result } => {
                writeln!(text, "barrier {tokens:?} {result:?}")
            }
        }
        .expect("a string takes it");
    }
}

fn in_another_process(seed: u64) -> String {
    let this = std::env::current_exe().expect("the path of this test");
    let child = Command::new(this)
        .args([
            "--exact",
            "a_child_prints_its_transcript",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(SEED, seed.to_string())
        .output()
        .expect("a child process");
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let printed = String::from_utf8(child.stdout).expect("text");
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("> "))
        .collect();
    lines.join("\n")
}

/// Says nothing unless it is run as a child of the test below.
#[test]
fn a_child_prints_its_transcript() {
    let Ok(seed) = std::env::var(SEED) else {
        return;
    };
    let text = transcript(seed.parse().expect("a seed"));
    assert!(!text.is_empty());
    println!();
    for line in text.lines() {
        println!("> {line}");
    }
}

#[test]
fn equal_inputs_give_equal_outputs_in_two_processes() {
    for seed in [1, 2, 3] {
        let (one, two) = (in_another_process(seed), in_another_process(seed));
        assert!(
            one.contains("> answer") && one.contains("> checkpoint") && one.contains("> state"),
            "seed {seed}"
        );
        let differs = one.lines().zip(two.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_outputs() {
    assert_ne!(transcript(1), transcript(2));
}
