//! Clients that fight over a few keys: puts, deletes, guarded swaps, reads of now and then, compactions.

use crate::client::Client;
use crate::dice::Dice;
use metastore_judges::model::Op;
use metastore_judges::registers;

/// Works until faults are over.
pub(crate) async fn fight(mut client: Client) {
    let compacts = client.number == 1 || client.dice.permille(200);
    let stream = format!("recalls {}", client.number);
    let mut recalls = Dice::new(client.cluster.world.seed, &stream);
    while client.goes_on() {
        client.pause().await;
        if recalls.permille(client.cluster.world.recall_permille) {
            let op = match recalls.place(10) {
                0 | 1 => flash(&mut client, &mut recalls),
                2 => Op::put(last_key(&mut recalls), client.mark()),
                _ => recall(&mut client, &mut recalls),
            };
            client.perform(op).await;
            // Its end may have been long in coming.
            if !client.goes_on() {
                return;
            }
        }
        let op = choose(&mut client, compacts);
        client.perform(op).await;
    }
}

fn choose(client: &mut Client, compacts: bool) -> Op {
    match client.dice.between(0, 99) {
        0..=29 => Op::put(key(client), client.value()),
        30..=39 => {
            let (key, end) = interval(client);
            Op::Delete { key, end }
        }
        40..=54 => swap(client),
        55..=57 if compacts => Op::Compact {
            revision: not_long_ago(client),
            physical: client.dice.permille(300),
        },
        55..=69 => register(client),
        70..=85 => {
            let (key, end) = interval(client);
            Op::read(key, end)
        }
        86..=92 => {
            let (key, end) = interval(client);
            Op::Read {
                key,
                end,
                revision: 0,
                serializable: true,
            }
        }
        _ => {
            let (key, end) = interval(client);
            Op::Read {
                key,
                end,
                revision: older(client),
                serializable: false,
            }
        }
    }
}

/// Reads the past and writes, in one transaction.
fn recall(client: &mut Client, dice: &mut Dice) -> Op {
    let back = i64::try_from(dice.between(0, 60)).unwrap_or(0);
    let key = |dice: &mut Dice| format!("k{:02}", dice.between(1, 4)).into_bytes();
    Op::Recall {
        key: key(dice),
        end: if dice.permille(500) {
            vec![0]
        } else {
            Vec::new()
        },
        revision: (client.seen - back).max(client.oldest()),
        to: key(dice),
        value: client.mark(),
    }
}

/// Changes one of the last keys twice in one revision.
fn flash(client: &mut Client, dice: &mut Dice) -> Op {
    Op::Flash {
        key: last_key(dice),
        value: client.mark(),
    }
}

/// A key that has only its like behind it.
fn last_key(dice: &mut Dice) -> Vec<u8> {
    format!("z{}", dice.between(1, 2)).into_bytes()
}

/// One of the registers that only operations on a single key touch.
fn register(client: &mut Client) -> Op {
    let mut key = registers::PREFIX.to_vec();
    key.push(b'0' + u8::from(client.dice.permille(500)));
    match client.dice.place(5) {
        0 | 1 => Op::put(key, client.mark()),
        2 => Op::Delete {
            key,
            end: Vec::new(),
        },
        _ => Op::read(key, Vec::new()),
    }
}

/// Guarded by what the history says of a key, which is often right and sometimes outdated.
fn swap(client: &mut Client) -> Op {
    let (guard, put) = (key(client), key(client));
    let mut delete = key(client);
    if delete == put {
        // A transaction must not put and delete one key.
        delete = b"kother".to_vec();
    }
    let known = client.cluster.judges.borrow().chronicle.keys(client.seen);
    let at = known
        .and_then(|keys| keys.get(guard.as_slice()).map(|kv| kv.mod_revision))
        .unwrap_or(0);
    Op::Txn {
        guards: vec![(guard, at)],
        puts: vec![(put, client.value())],
        deletes: vec![delete],
    }
}

fn key(client: &mut Client) -> Vec<u8> {
    let number = client.dice.between(1, client.cluster.world.keys);
    format!("k{number:02}").into_bytes()
}

fn interval(client: &mut Client) -> (Vec<u8>, Vec<u8>) {
    let start = key(client);
    let end = match client.dice.between(0, 9) {
        0..=5 => Vec::new(),
        6..=8 => key(client),
        _ => vec![0],
    };
    (start, end)
}

/// A revision to compact at.
fn not_long_ago(client: &mut Client) -> i64 {
    let most = client.cluster.world.compaction_back_max;
    let back = i64::try_from(client.dice.between(0, most)).unwrap_or(0);
    (client.seen - back).max(client.oldest())
}

/// A revision that this client knows to exist, rather a recent one.
fn older(client: &mut Client) -> i64 {
    let back = i64::try_from(client.dice.between(0, 50)).unwrap_or(0);
    (client.seen - back).max(client.oldest())
}
