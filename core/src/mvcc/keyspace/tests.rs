//! The keyspace against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::record::{PutNumbers, RecordPacker};
use super::*;

fn record(key: &[u8], revision: i64, dead: bool) -> Record {
    let position = (revision, 0);
    let mut packer = RecordPacker::default();
    match dead {
        true => packer.tombstone(key, position),
        false => packer.put(
            key,
            b"",
            PutNumbers {
                position,
                create_revision: 2,
                version: 1,
                lease: 0,
            },
        ),
    }
}

fn key_of(number: u16) -> Vec<u8> {
    // Keys of different lengths, some a prefix of others.
    let text = format!("{number:05}");
    text.as_bytes()[..3 + usize::from(number % 3)].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Pushes, removals and ranges agree with a `BTreeMap`, also through a clone taken earlier.
    #[test]
    fn a_keyspace_agrees_with_a_plain_map(
        steps in prop::collection::vec((0u16..600, 0u8..4), 1..1500),
        ranges in prop::collection::vec((0u16..700, 0u16..700, 0u8..3), 8),
    ) {
        let mut keyspace = Keyspace::new();
        let mut model: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        let mut past = (keyspace.clone(), model.clone());
        for (step, &(number, verb)) in steps.iter().enumerate() {
            let key = key_of(number);
            let revision = step as i64 + 2;
            let exists = model.get(&key).copied();
            match (verb, exists) {
                (3, Some(false)) => {
                    keyspace.edit(&key, |_| (false, ()));
                    model.remove(&key);
                }
                (2 | 3, Some(true)) => {
                    keyspace.push(record(&key, revision, true));
                    model.insert(key, false);
                }
                (2 | 3, _) => {}
                _ => {
                    keyspace.push(record(&key, revision, false));
                    model.insert(key, true);
                }
            }
            if step == steps.len() / 2 {
                past = (keyspace.clone(), model.clone());
            }
        }
        for (keyspace, model) in [&past, &(keyspace, model)] {
            keyspace.validate();
            prop_assert_eq!(keyspace.len(), model.len());
            for &(from, to, kind) in &ranges {
                let (from, to) = (key_of(from), key_of(to));
                let range = match kind {
                    0 => KeyRange::One(&from),
                    1 => KeyRange::From(&from),
                    _ => KeyRange::Between(&from, &to),
                };
                let found: Vec<_> = keyspace.histories(range).map(|history| history.key().to_vec()).collect();
                let wanted: Vec<_> = model.keys().filter(|key| range.contains(key)).cloned().collect();
                prop_assert_eq!(found, wanted);
                let live = model.iter().filter(|(key, live)| range.contains(key) && **live).count();
                prop_assert_eq!(keyspace.count(range, i64::MAX - 1), live);
            }
            let rebuilt = Keyspace::from_sorted(keyspace.histories(KeyRange::ALL).cloned());
            rebuilt.validate();
            prop_assert_eq!(rebuilt.len(), model.len());
        }
    }
}

#[test]
fn keys_arriving_in_order_fill_their_leaves() {
    let mut keyspace = Keyspace::new();
    for number in 0..100 * LEAF_KEYS {
        keyspace.push(record(&number.to_be_bytes(), 2 + number as i64, false));
    }
    assert!(
        keyspace.leaves.len() <= 101,
        "{} leaves",
        keyspace.leaves.len()
    );
    keyspace.validate();
}

#[test]
fn emptied_leaves_are_given_back() {
    let mut keyspace = Keyspace::new();
    for number in 0..3200u32 {
        keyspace.push(record(&number.to_be_bytes(), 2, true));
    }
    for number in (0..3200u32).filter(|number| number % 100 != 0) {
        keyspace.edit(&number.to_be_bytes(), |_| (false, ()));
    }
    keyspace.validate();
    assert_eq!(keyspace.len(), 32);
    assert!(
        keyspace.leaves.len() < 16,
        "{} leaves",
        keyspace.leaves.len()
    );
}

#[test]
fn keys_of_one_leaf_with_one_tag_are_told_apart() {
    let alike: Vec<_> = (0..10_000u32)
        .map(u32::to_be_bytes)
        .filter(|key| tag_of(key) == 7)
        .take(LEAF_KEYS)
        .collect();
    let mut keyspace = Keyspace::new();
    for (revision, key) in alike.iter().enumerate() {
        keyspace.push(record(key, 2 + revision as i64, false));
    }
    keyspace.validate();
    assert_eq!(keyspace.leaves.len(), 1);
    for (revision, key) in alike.iter().enumerate() {
        let newest = keyspace
            .get(key)
            .map(|history| history.newest().mod_revision());
        assert_eq!(newest, Some(2 + revision as i64));
    }
}
