//! Clients that fight over a few keys: puts, deletes, guarded swaps, reads of now and then, compactions.

use crate::client::Client;
use crate::dice::Dice;
use crate::trace::now;
use metastore_judges::model::{Op, Selection, Survey};
use metastore_judges::{registers, sum};

/// Works until faults are over.
pub(crate) async fn fight(mut client: Client) {
    let compacts = client.number == 1 || client.dice.permille(200);
    let stream = format!("recalls {}", client.number);
    let mut recalls = Dice::new(client.cluster.world.seed, &stream);
    let stream = format!("surveys {} {}", client.number, client.cluster.round.get());
    let mut surveys = Dice::new(client.cluster.world.seed, &stream);
    while client.goes_on() {
        client.pause().await;
        if surveys.permille(client.cluster.world.survey_permille) {
            let op = match surveys.place(10) {
                0..=3 => survey(&client, &mut surveys),
                4 | 5 => echo(&mut client, &mut surveys),
                _ => select(&client, &mut surveys),
            };
            client.perform(op).await;
            // As below.
            if !client.goes_on() {
                return;
            }
        }
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

/// Two reads in one transaction, mostly guarded by what the history says of a key.
fn survey(client: &Client, dice: &mut Dice) -> Op {
    let keys = client.cluster.world.keys;
    let some = |dice: &mut Dice| numbered(dice.between(1, keys));
    let guards = (0..dice.between(0, 2)).map(|_| {
        let guard = some(dice);
        let at = changed_at(client, &guard);
        (guard, at)
    });
    let guards = guards.collect();
    let first = (some(dice), vec![0]);
    let second = match dice.place(3) {
        0 => (some(dice), Vec::new()),
        1 => (sum::PREFIX.to_vec(), b"a0".to_vec()),
        _ => (vec![0], vec![0]),
    };
    Op::Survey(Survey {
        guards,
        first,
        revision: some_revision(client, dice),
        second,
        serializable: [dice.permille(500), dice.permille(300)],
    })
}

/// Writes a key and reads what it has written, with the keys behind.
fn echo(client: &mut Client, dice: &mut Dice) -> Op {
    Op::Echo {
        key: numbered(dice.between(1, client.cluster.world.keys)),
        end: [Vec::new(), vec![0]][dice.place(2)].clone(),
        value: client.mark(),
    }
}

/// Reads a part of what there is, of whichever kind.
fn select(client: &Client, dice: &mut Dice) -> Op {
    let near = |dice: &mut Dice| {
        let back = i64::try_from(dice.between(0, 40)).unwrap_or(0);
        match dice.permille(250) {
            true => (client.seen - back).max(1),
            false => 0,
        }
    };
    Op::Select(Selection {
        interval: (
            numbered(dice.between(1, client.cluster.world.keys)),
            vec![0],
        ),
        revision: some_revision(client, dice),
        serializable: dice.permille(300),
        limit: [0, 1, 2, 4][dice.place(4)],
        descending: dice.permille(400),
        count_only: dice.permille(150),
        keys_only: dice.permille(250),
        changed: (near(dice), near(dice)),
        created: (near(dice), near(dice)),
    })
}

/// Rather the newest revision, sometimes an older one, and sometimes one that may not be there yet.
fn some_revision(client: &Client, dice: &mut Dice) -> i64 {
    let far = i64::try_from(dice.between(0, 30)).unwrap_or(0);
    match dice.place(10) {
        0..=5 => 0,
        6 | 7 => (client.seen - far).max(client.oldest()),
        _ => client.seen + far / 4,
    }
}

/// One of the registers that only operations on a single key touch. A new pair every few seconds: the search for an
/// order takes histories of a few hundred operations.
fn register(client: &mut Client) -> Op {
    let age = now().as_secs() / REGISTER_SECONDS;
    let mut key = registers::PREFIX.to_vec();
    key.extend(format!("{age}/{}", u8::from(client.dice.permille(500))).into_bytes());
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
    let at = changed_at(client, &guard);
    Op::Txn {
        guards: vec![(guard, at)],
        puts: vec![(put, client.value())],
        deletes: vec![delete],
    }
}

/// The revision that changed a key last, as far as a client knows; 0 for one that is not there.
fn changed_at(client: &Client, key: &[u8]) -> i64 {
    let known = client.cluster.judges.borrow().chronicle.keys(client.seen);
    let at = known.and_then(|keys| keys.get(key).map(|kv| kv.mod_revision));
    at.unwrap_or(0)
}

fn key(client: &mut Client) -> Vec<u8> {
    numbered(client.dice.between(1, client.cluster.world.keys))
}

fn numbered(number: u64) -> Vec<u8> {
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

/// How long a pair of registers is in use.
const REGISTER_SECONDS: u64 = 5;
