//! Chunks in and out of order.

use metastore_proto::etcdserverpb::PutRequest;

use super::*;
use crate::command::{Command, Request};
use crate::raft::machine::describe;
use crate::raft::types::SnapshotMeta;
use crate::snapshot::Encoder;
use crate::state::State;

const NOW: Duration = Duration::from_secs(1);

/// A state of a few megabytes.
fn state() -> State {
    let mut state = State::new();
    for number in 0..4_000_u64 {
        let put = Request::Put(PutRequest {
            key: number.to_be_bytes().to_vec(),
            value: vec![1; 1_000],
            ..PutRequest::default()
        });
        let applied = state.apply(number, &Command::from(put));
        applied.expect("a plain put");
    }
    state
}

/// The chunks of a transfer of this state by the leader of this term.
fn chunks(state: &State, term: u64, transfer: u64) -> Vec<Chunk> {
    let checkpoint = describe(&SnapshotMeta::default(), state.view(), 0);
    let about = checkpoint.description.encode();
    let frames: Vec<Vec<u8>> = Encoder::new(checkpoint.view, &about).collect();
    let count = frames.len();
    let vote = Vote::new_committed(term, 1);
    let chunk = |(number, frame): (usize, Vec<u8>)| Chunk {
        vote,
        transfer,
        number: number as u64,
        last: number + 1 == count,
        frame: frame.into(),
    };
    frames.into_iter().enumerate().map(chunk).collect()
}

/// Hands chunks in, each as the call of its number; gives what became of the last of them.
fn take_all(assembly: &mut Assembly, chunks: impl IntoIterator<Item = Chunk>) -> Taken {
    let mut taken = Taken::Acknowledged;
    for chunk in chunks {
        taken = assembly.take(chunk.number, chunk, NOW);
    }
    taken
}

fn assert_whole(taken: Taken, state: &State) -> SharedInstallation {
    let Taken::Whole {
        snapshot,
        installation,
        ..
    } = taken
    else {
        panic!("not all is there");
    };
    let copy = State::from_view(&snapshot.snapshot.view, 0);
    copy.validate();
    assert_eq!(copy.hash(), state.hash());
    installation
}

/// What the leader hears at the end.
fn installed() -> Reply {
    answered_with(Vote::new_committed(1, 1))
}

#[test]
fn chunks_in_order_are_a_snapshot_again() {
    let state = state();
    let chunks = chunks(&state, 1, 1);
    assert!(chunks.len() > 6);
    let mut assembly = Assembly::new(Duration::from_secs(1));
    assert_whole(take_all(&mut assembly, chunks), &state);
    assert!(!assembly.is_busy());
}

#[test]
fn chunks_that_overtake_one_another_or_come_twice_are_a_snapshot_again() {
    let state = state();
    let mut chunks = chunks(&state, 1, 1);
    let count = chunks.len();
    for at in (0..count - 1).step_by(2) {
        chunks.swap(at, at + 1);
    }
    chunks.insert(3, chunks[1].clone());
    chunks.swap(count, count - 1);
    let mut assembly = Assembly::new(Duration::from_secs(1));
    assert_whole(take_all(&mut assembly, chunks), &state);
}

#[test]
fn the_newest_question_for_the_end_is_answered_and_repeats_of_it_are_answered_alike() {
    let state = state();
    let chunks = chunks(&state, 1, 1);
    let last = chunks[chunks.len() - 1].clone();
    let mut assembly = Assembly::new(Duration::from_secs(1));
    let installation = assert_whole(take_all(&mut assembly, chunks.clone()), &state);
    for call in [100, 102, 101] {
        let asked = assembly.take(call, last.clone(), NOW);
        assert!(matches!(asked, Taken::Awaited));
    }
    let early = assembly.take(103, chunks[0].clone(), NOW);
    assert!(matches!(early, Taken::Acknowledged), "it came twice");
    assert_eq!(installation.borrow_mut().end(installed()), Some(102));
    for call in [102, 104] {
        let asked = assembly.take(call, last.clone(), NOW + SILENCE_MIN * 2);
        assert!(matches!(asked, Taken::Ended(Reply::Snapshot(_))));
    }
    assert_eq!(assembly.alarm(), None);
}

#[test]
fn a_last_chunk_that_comes_alone_is_no_question() {
    let state = state();
    let mut few = chunks(&state, 1, 1);
    few.truncate(2);
    few[1].last = true;
    let mut assembly = Assembly::new(Duration::from_secs(1));
    for call in 0..3 {
        let taken = assembly.take(call, few[1].clone(), NOW);
        assert!(matches!(taken, Taken::Acknowledged));
    }
}

#[test]
fn a_newer_transfer_replaces_an_older_one_and_late_chunks_of_that_change_nothing() {
    let state = state();
    let (old, new) = (chunks(&state, 1, 7), chunks(&state, 2, 1));
    let mut assembly = Assembly::new(Duration::from_secs(1));
    take_all(&mut assembly, old[..3].iter().cloned());
    take_all(&mut assembly, new[..3].iter().cloned());
    let late = take_all(&mut assembly, old[3..].iter().cloned());
    assert!(matches!(late, Taken::Refused(_)));
    assert_whole(take_all(&mut assembly, new[3..].iter().cloned()), &state);
    let again = take_all(&mut assembly, old.iter().cloned());
    assert!(matches!(again, Taken::Refused(_)), "it is over");
    assert!(!assembly.is_busy());
}

#[test]
fn a_damaged_chunk_ends_the_transfer() {
    let state = state();
    let mut chunks = chunks(&state, 1, 1);
    let mut frame = chunks[2].frame.to_vec();
    frame[100] ^= 1;
    chunks[2].frame = frame.into();
    let mut assembly = Assembly::new(Duration::from_secs(1));
    let refused = take_all(&mut assembly, chunks[..3].iter().cloned());
    assert!(matches!(refused, Taken::Refused(_)));
    assert!(!assembly.is_busy());
    let refused = take_all(&mut assembly, chunks[3..].iter().cloned());
    assert!(matches!(refused, Taken::Refused(_)));
}

#[test]
fn no_more_chunks_are_kept_than_may_be_under_way() {
    let state = state();
    let mut chunks = chunks(&state, 1, 1);
    let far = chunks.remove(CHUNKS_MAX);
    let mut assembly = Assembly::new(Duration::from_secs(1));
    let refused = take_all(&mut assembly, [far]);
    assert!(matches!(refused, Taken::Refused(_)));
    assert!(!assembly.is_busy());
}

#[test]
fn a_silent_transfer_is_dropped_at_its_alarm() {
    let state = state();
    let mut assembly = Assembly::new(Duration::from_secs(1));
    take_all(&mut assembly, chunks(&state, 1, 1).into_iter().take(2));
    let alarm = assembly.alarm().expect("a transfer is under way");
    assembly.drop_silent(alarm - Duration::from_nanos(1));
    assert!(assembly.is_busy());
    assembly.drop_silent(alarm);
    assert!(!assembly.is_busy());
    assert_eq!(assembly.alarm(), None);
}
