use proptest::prelude::*;

use super::*;

const IDENTITY: LogIdentity = LogIdentity {
    cluster_id: 0xc1,
    member_id: 0x3e,
};
const HEADER: SegmentHeader = SegmentHeader {
    identity: IDENTITY,
    segment: 3,
    first_batch: 17,
    nonce: 0x5eed,
};
const LAST: Expected = Expected {
    identity: IDENTITY,
    segment: 3,
    first_batch: Some(17),
    last: true,
};

/// A segment image with room to spare, and where each batch begins and the last one ends.
fn image(batches: &[Vec<Record>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = HEADER.encode().to_vec();
    let mut bounds = vec![bytes.len()];
    let mut encoder = Encoder::new();
    for (sequence, batch) in (HEADER.first_batch..).zip(batches) {
        for record in batch {
            encoder.push(record.borrowed()).unwrap();
        }
        bytes.extend_from_slice(encoder.seal(sequence, &HEADER));
        encoder.clear();
        bounds.push(bytes.len());
    }
    bytes.resize(bytes.len() + 256, 0);
    (bytes, bounds)
}

fn records(contents: &SegmentContents<'_>) -> Vec<Vec<Record>> {
    contents
        .batches
        .iter()
        .map(|batch| batch.records().map(|record| record.to_record()).collect())
        .collect()
}

fn entry(index: u64, payload: &[u8]) -> Record {
    Record::Entry {
        index,
        payload: payload.to_vec(),
    }
}

fn three_batches() -> Vec<Vec<Record>> {
    vec![
        vec![Record::Opened, Record::Vote(b"v1".to_vec())],
        vec![
            entry(1, b"one"),
            entry(2, &[7; 700]),
            Record::Committed(b"c1".to_vec()),
        ],
        vec![entry(3, b"three"), entry(4, &[9; 1300])],
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    let payload = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (any::<u64>(), payload()).prop_map(|(index, payload)| Record::Entry { index, payload }),
        1 => payload().prop_map(Record::Vote),
        1 => payload().prop_map(Record::Committed),
        1 => any::<u64>().prop_map(|index| Record::TruncateFrom { index }),
        1 => (any::<u64>(), payload()).prop_map(|(index, payload)| Record::Purge { payload, index }),
        1 => Just(Record::Opened),
        1 => Just(Record::Closed),
    ]
}

/// Records with indexes so small that they often follow each other.
fn any_log() -> impl Strategy<Value = Vec<Record>> {
    let record = prop_oneof![
        6 => (0u64..6).prop_map(|index| entry(index, b"x")),
        2 => (0u64..6).prop_map(|index| Record::TruncateFrom { index }),
        1 => (0u64..6).prop_map(purge),
        1 => any_record(),
    ];
    prop::collection::vec(record, 0..8)
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(any_record(), 1..8), 2..8)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(batches in any_batches()) {
        let (bytes, bounds) = image(&batches);
        for last in [true, false] {
            let contents = decode_segment(&bytes, Expected { last, ..LAST }).unwrap();
            prop_assert_eq!(records(&contents), batches.clone());
            prop_assert_eq!(contents.end, *bounds.last().unwrap());
            prop_assert_eq!(contents.next_batch, 17 + batches.len() as u64);
            prop_assert_eq!(contents.torn, None);
        }
    }

    #[test]
    fn a_truncation_within_the_last_batch_recovers_exactly_the_batches_before(batches in any_batches(), at in any::<prop::sample::Index>(), zero_filled: bool) {
        let (mut bytes, bounds) = image(&batches);
        let [start, end] = bounds[bounds.len() - 2..] else { unreachable!() };
        let cut = start + at.index(end - start);
        // Padding that was cut is replaced by equal zeros, and nothing is lost.
        let whole = zero_filled && bytes[cut..end].iter().all(|&byte| byte == 0);
        if zero_filled { bytes[cut..].fill(0) } else { bytes.truncate(cut) };
        let contents = decode_segment(&bytes, LAST).unwrap();
        let kept = batches.len() - usize::from(!whole);
        prop_assert_eq!(records(&contents), batches[..kept].to_vec());
        prop_assert_eq!(contents.end, bounds[kept]);
    }

    #[test]
    fn a_byte_flipped_before_the_last_batch_is_refused_at_its_batch(batches in any_batches(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut bytes, bounds) = image(&batches);
        let at = at.index(bounds[bounds.len() - 2]);
        bytes[at] ^= flip;
        let corruption = decode_segment(&bytes, LAST).unwrap_err();
        let home = bounds.iter().rev().find(|&&start| start <= at).copied().unwrap_or(0);
        prop_assert_eq!(corruption.offset, home);
    }

    #[test]
    fn a_byte_flipped_in_the_last_batch_loses_at_most_that_batch(batches in any_batches(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut bytes, bounds) = image(&batches);
        let start = bounds[bounds.len() - 2];
        let at = start + at.index(bytes.len() - start);
        bytes[at] ^= flip;
        let contents = decode_segment(&bytes, LAST).unwrap();
        prop_assert!(contents.batches.len() >= batches.len() - 1);
        let kept = records(&contents);
        prop_assert_eq!(&kept[..], &batches[..kept.len()]);
        let torn = contents.torn.expect("the flipped byte is dropped");
        prop_assert!((torn.offset..torn.offset + torn.dropped_bytes).contains(&at));
        let sealed = decode_segment(&bytes, Expected { last: false, ..LAST });
        prop_assert!(sealed.is_err());
    }

    #[test]
    fn a_last_write_of_which_any_sectors_persist_is_whole_or_cut(batches in any_batches(), large in prop::collection::vec(any::<u8>(), 3000..9000), persisted in prop::collection::vec(any::<bool>(), 20)) {
        let mut batches = batches;
        batches.push(vec![entry(1, &large)]);
        let (whole, bounds) = image(&batches);
        let start = bounds[bounds.len() - 2];
        let mut bytes = whole.clone();
        bytes[start..].fill(0);
        for (sector, _) in persisted.iter().enumerate().filter(|(_, persisted)| **persisted) {
            let from = (start / 512 + sector) * 512;
            let range = from.max(start).min(whole.len())..(from + 512).min(whole.len());
            bytes[range.clone()].copy_from_slice(&whole[range]);
        }
        let contents = decode_segment(&bytes, LAST).unwrap();
        let kept = if bytes == whole { batches.len() } else { batches.len() - 1 };
        prop_assert_eq!(records(&contents), batches[..kept].to_vec());
    }

    #[test]
    fn no_input_makes_recovery_panic(batches in any_batches(), noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), cut in any::<prop::sample::Index>(), last: bool) {
        let (mut bytes, _) = image(&batches);
        for (at, byte) in noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(contents) = decode_segment(&bytes, Expected { last, ..LAST }) {
            prop_assert!(contents.end <= bytes.len() && !contents.batches.is_empty());
        }
    }

    #[test]
    fn random_bytes_after_a_good_header_are_refused(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = HEADER.encode().to_vec();
        bytes.extend_from_slice(&noise);
        prop_assert_eq!(decode_segment(&bytes, LAST).unwrap_err().offset, SEGMENT_HEADER_BYTES);
    }

    #[test]
    fn random_payloads_with_good_checksums_never_panic(payload in prop::collection::vec(any::<u8>(), 1..200), count in 0u32..4) {
        let bytes = forged(&payload, count);
        match decode_segment(&bytes, LAST) {
            Ok(contents) => prop_assert_eq!(contents.batches[0].records().count(), count as usize),
            Err(corruption) => prop_assert_eq!(corruption.offset, SEGMENT_HEADER_BYTES),
        }
    }

    #[test]
    fn what_replay_accepts_is_contiguous_from_the_checkpoint(batch in any_log(), checkpoint in prop::option::of(0u64..6)) {
        if let Ok(replayed) = fold(checkpoint, &batch) {
            let indexes = indexes(&replayed);
            prop_assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            prop_assert!(indexes.first().is_none_or(|&first| checkpoint.map_or(0, |index| index + 1) == first));
        }
    }
}

/// A segment whose first batch holds `payload` under checksums that hold.
fn forged(payload: &[u8], records: u32) -> Vec<u8> {
    let mut bytes = HEADER.encode().to_vec();
    let padded = payload.len().next_multiple_of(8);
    let mut body = payload.to_vec();
    body.resize(padded, 0);
    let mut header = Vec::new();
    header.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    header.extend_from_slice(&records.to_le_bytes());
    header.extend_from_slice(&17u64.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c_append(HEADER.seed(), &header).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&body);
    bytes
}

fn refusal(bytes: &[u8], expected: Expected) -> CorruptionKind {
    decode_segment(bytes, expected).unwrap_err().kind
}

#[test]
fn a_damaged_batch_before_a_torn_one_is_damage_and_not_a_longer_tail() {
    let (mut bytes, bounds) = image(&three_batches());
    bytes[bounds[1] + 40] ^= 1;
    bytes[bounds[2] + 40] ^= 1;
    let proof = Proof::LaterBatch { offset: bounds[2] };
    let kind = CorruptionKind::BatchDamaged {
        sequence: 18,
        proof,
    };
    assert_eq!(
        decode_segment(&bytes, LAST),
        Err(Corruption {
            offset: bounds[1],
            kind
        })
    );
}

#[test]
fn a_zeroed_header_before_a_later_batch_is_not_the_end_of_the_log() {
    let (mut bytes, bounds) = image(&three_batches());
    bytes[bounds[1]..bounds[1] + BATCH_HEADER_BYTES].fill(0);
    assert_eq!(decode_segment(&bytes, LAST).unwrap_err().offset, bounds[1]);
}

#[test]
fn the_image_of_a_batch_inside_a_torn_payload_proves_nothing() {
    let stranger = SegmentHeader { nonce: 1, ..HEADER };
    let mut encoder = Encoder::new();
    encoder.push(RecordRef::Opened).unwrap();
    let decoy = encoder.seal(18, &stranger).to_vec();
    let (mut bytes, bounds) = image(&[vec![Record::Opened], vec![entry(1, &decoy.repeat(8))]]);
    bytes[bounds[1]] ^= 1;
    let contents = decode_segment(&bytes, LAST).unwrap();
    assert_eq!(contents.torn.map(|torn| torn.offset), Some(bounds[1]));
}

#[test]
fn a_segment_of_another_member_cluster_place_or_version_is_refused() {
    let (bytes, _) = image(&three_batches());
    let of = |cluster_id, member_id| Expected {
        identity: LogIdentity {
            cluster_id,
            member_id,
        },
        ..LAST
    };
    assert_eq!(
        refusal(&bytes, of(0xc2, 0x3e)),
        CorruptionKind::WrongCluster { found: 0xc1 }
    );
    assert_eq!(
        refusal(&bytes, of(0xc1, 0x3f)),
        CorruptionKind::WrongMember { found: 0x3e }
    );
    assert_eq!(
        refusal(&bytes, Expected { segment: 4, ..LAST }),
        CorruptionKind::WrongSegment { found: 3 }
    );
    let gap = CorruptionKind::SequenceGap {
        expected: 16,
        found: 17,
    };
    assert_eq!(
        refusal(
            &bytes,
            Expected {
                first_batch: Some(16),
                ..LAST
            }
        ),
        gap
    );

    let mut newer = bytes.clone();
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..60]);
    newer[60..64].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(
        refusal(&newer, LAST),
        CorruptionKind::NewerVersion { version: 2 }
    );
}

#[test]
fn a_batch_taken_out_of_the_middle_is_a_gap() {
    let (mut bytes, bounds) = image(&three_batches());
    bytes.drain(bounds[1]..bounds[2]);
    let kind = CorruptionKind::SequenceGap {
        expected: 18,
        found: 19,
    };
    assert_eq!(
        decode_segment(&bytes, LAST),
        Err(Corruption {
            offset: bounds[1],
            kind
        })
    );
}

#[test]
fn an_unknown_record_is_refused_as_newer() {
    assert_eq!(
        refusal(&forged(&[99, 0], 1), LAST),
        CorruptionKind::UnknownRecord { tag: 99 }
    );
    assert_eq!(
        refusal(&forged(&[6, 0], 2), LAST),
        CorruptionKind::MalformedRecord
    );
    assert_eq!(
        refusal(&forged(&[1, 3, 0, 0, 0], 1), LAST),
        CorruptionKind::MalformedRecord
    );
    assert_eq!(
        refusal(&forged(&[2, 0xff, 0xff, 0xff, 0xff, 0x0f], 1), LAST),
        CorruptionKind::MalformedRecord
    );
}

#[test]
fn a_record_larger_than_a_batch_is_refused_and_the_batch_is_as_before() {
    let mut encoder = Encoder::new();
    encoder.push(RecordRef::Vote(b"v")).unwrap();
    let before = encoder.sealed_len();
    let huge = vec![0; BATCH_PAYLOAD_BYTES_MAX];
    assert_eq!(encoder.push(RecordRef::Vote(&huge)), Err(BatchFull));
    assert_eq!((encoder.sealed_len(), encoder.records()), (before, 1));
}

fn fold(checkpoint: Option<u64>, records: &[Record]) -> Result<Replayed, ReplayError> {
    let mut replay = Replay::new(checkpoint);
    records
        .iter()
        .try_for_each(|record| replay.apply(record.borrowed()))?;
    replay.finish()
}

fn indexes(replayed: &Replayed) -> Vec<u64> {
    replayed.entries.iter().map(|(index, _)| *index).collect()
}

fn purge(index: u64) -> Record {
    Record::Purge {
        payload: b"p".to_vec(),
        index,
    }
}

#[test]
fn the_last_vote_and_the_last_committed_position_count() {
    let records = [b"a", b"b"].map(|payload| Record::Vote(payload.to_vec()));
    let replayed = fold(None, &records).unwrap();
    assert_eq!(
        (replayed.vote, replayed.committed),
        (Some(b"b".to_vec()), None)
    );
}

#[test]
fn entries_under_the_checkpoint_are_not_kept() {
    let entries: Vec<_> = (3..9).map(|index| entry(index, b"x")).collect();
    assert_eq!(indexes(&fold(Some(5), &entries).unwrap()), [6, 7, 8]);
    assert_eq!(indexes(&fold(Some(20), &entries).unwrap()), [0u64; 0]);
    assert_eq!(
        fold(Some(1), &entries),
        Err(ReplayError::EntriesMissing {
            expected: 2,
            found: 3
        })
    );
    assert_eq!(
        fold(None, &entries),
        Err(ReplayError::EntriesMissing {
            expected: 0,
            found: 3
        })
    );
}

#[test]
fn a_truncated_entry_is_replaced_by_the_one_written_after() {
    let records = [
        entry(0, b"a"),
        entry(1, b"b"),
        entry(2, b"c"),
        Record::TruncateFrom { index: 1 },
        entry(1, b"d"),
    ];
    let replayed = fold(None, &records).unwrap();
    assert_eq!(replayed.entries, [(0, b"a".to_vec()), (1, b"d".to_vec())]);
}

#[test]
fn an_entry_out_of_order_is_refused() {
    let gap = fold(None, &[entry(0, b""), entry(2, b"")]);
    assert_eq!(
        gap,
        Err(ReplayError::EntryOutOfOrder {
            expected: 1,
            found: 2
        })
    );
    let twice = fold(None, &[entry(0, b""), entry(0, b"")]);
    assert_eq!(
        twice,
        Err(ReplayError::EntryOutOfOrder {
            expected: 1,
            found: 0
        })
    );
}

#[test]
fn a_purge_beyond_the_log_lets_entries_continue_after_it() {
    let replayed = fold(Some(500), &[entry(0, b""), purge(500), entry(501, b"x")]).unwrap();
    assert_eq!(indexes(&replayed), [501]);
    assert_eq!(replayed.purged, Some((500, b"p".to_vec())));
}

#[test]
fn a_purge_repeated_at_the_head_of_the_oldest_segment_allows_later_entries() {
    let replayed = fold(Some(100), &[purge(50), entry(80, b""), entry(81, b"")]).unwrap();
    assert_eq!(indexes(&replayed), [0u64; 0]);
}

#[test]
fn a_purge_no_checkpoint_covers_is_refused() {
    let error = ReplayError::CheckpointMissing {
        purged: 7,
        checkpoint: None,
    };
    assert_eq!(fold(None, &[purge(7)]), Err(error));
    let error = ReplayError::CheckpointMissing {
        purged: 7,
        checkpoint: Some(6),
    };
    assert_eq!(fold(Some(6), &[purge(7)]), Err(error));
    assert_eq!(
        fold(Some(9), &[purge(7), purge(6)]),
        Err(ReplayError::PurgeWentBack {
            purged: 7,
            found: 6
        })
    );
    let voided = fold(Some(9), &[purge(7), Record::TruncateFrom { index: 5 }]);
    assert_eq!(
        voided,
        Err(ReplayError::TruncatesPurged {
            purged: 7,
            found: 5
        })
    );
}

#[test]
fn only_a_log_that_ends_with_closed_was_closed_cleanly() {
    assert!(
        fold(None, &[Record::Opened, Record::Closed])
            .unwrap()
            .closed_cleanly
    );
    assert!(
        !fold(None, &[Record::Closed, Record::Opened])
            .unwrap()
            .closed_cleanly
    );
    assert!(!fold(None, &[]).unwrap().closed_cleanly);
}
