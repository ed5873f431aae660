//! What the clients do: the same kinds of work that the simulator's clients do.

use std::rc::Rc;
use std::time::Duration;

use metastore_judges::history::Ending;
use metastore_judges::model::Op;
use metastore_judges::{registers, sum};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::client::Client;
use super::run::Run;
use super::watchers;

/// Sets all clients to work, until faults are over.
pub(crate) fn begin(run: &Rc<Run>) {
    let client = |number| Client::new(Rc::clone(run), number);
    for number in 1..=6 {
        spawn_local(fight(client(number)));
    }
    for number in 101..=102 {
        spawn_local(transfer(client(number)));
    }
    for number in 201..=203 {
        spawn_local(hold(client(number)));
    }
    for number in 301..=304 {
        spawn_local(watchers::watch(client(number)));
    }
}

/// Fights over a few keys: puts, deletes, guarded swaps, reads of now and then, compactions.
async fn fight(mut client: Client) {
    while client.goes_on() {
        client.pause().await;
        let op = choose(&mut client);
        client.perform(op).await;
    }
}

fn choose(client: &mut Client) -> Op {
    let draw = client.dice.below(100);
    let (key, end) = interval(client);
    match draw {
        0..=29 => Op::put(key, client.value()),
        30..=39 => Op::Delete { key, end },
        40..=54 => swap(client),
        55 if client.number == 1 => Op::Compact {
            revision: older(client),
            physical: client.dice.percent(30),
        },
        55..=69 => register(client),
        70..=85 => Op::read(key, end),
        86..=92 => Op::Read {
            key,
            end,
            revision: 0,
            serializable: true,
        },
        _ => Op::Read {
            key,
            end,
            revision: older(client),
            serializable: false,
        },
    }
}

/// One of the registers that only operations on a single key touch. A new pair after a while: the search for an order
/// takes histories of a few hundred operations.
fn register(client: &mut Client) -> Op {
    let age = client.run.time().as_secs() / 20;
    let mut key = registers::PREFIX.to_vec();
    key.extend(format!("{age}/{}", client.dice.below(2)).into_bytes());
    match client.dice.below(5) {
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
    let known = client.run.chronicle.borrow().keys(client.seen);
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
    format!("k{:02}", 1 + client.dice.below(12)).into_bytes()
}

fn interval(client: &mut Client) -> (Vec<u8>, Vec<u8>) {
    let start = key(client);
    let end = match client.dice.below(10) {
        0..=5 => Vec::new(),
        6..=8 => key(client),
        _ => vec![0],
    };
    (start, end)
}

/// A revision that the chronicler has read already, rather a recent one: what he has not read must not be compacted.
fn older(client: &mut Client) -> i64 {
    let back = client.dice.between(0, 300);
    let read = client.run.chronicle.borrow().last();
    (client.seen.min(read) - back).max(1)
}

/// Moves sums between accounts: reads two, then takes from one and gives to the other in one transaction that holds
/// only if both are as they were read.
async fn transfer(mut client: Client) {
    while client.goes_on() {
        client.pause().await;
        let all = Op::read(sum::PREFIX.to_vec(), b"a0".to_vec());
        let Some(Ending::Read(Ok(response))) = client.perform(all).await else {
            continue;
        };
        let accounts = &response.kvs;
        let op = if accounts.is_empty() {
            sum::opening(client.number)
        } else {
            let from = client.dice.index(accounts.len());
            let beside = 1 + client.dice.index(accounts.len() - 1);
            let (from, to) = (&accounts[from], &accounts[(from + beside) % accounts.len()]);
            let held = sum::balance(&from.value).unwrap_or(0);
            let amount = client.dice.between(0, held.max(0));
            let mark = client.mark();
            sum::order(from, to, amount, &mark)
        };
        client.perform(op).await;
    }
}

/// Holds leases: grants one, hangs keys on it, renews it for a while through any member, and then gives it back or lets
/// it run out.
async fn hold(mut client: Client) {
    for number in 1.. {
        client.pause().await;
        if !client.goes_on() {
            return;
        }
        let id = i64::try_from(client.number * 100_000 + number).unwrap_or(1);
        let ttl_seconds = client.dice.between(2, 6);
        let granted = client.perform(Op::Grant { id, ttl_seconds }).await;
        if let Some(Ending::Wrote(_)) = granted {
            live(&mut client, id, ttl_seconds).await;
        }
    }
}

async fn live(client: &mut Client, id: i64, ttl_seconds: i64) {
    for key in 0..1 + client.dice.below(3) {
        hang(client, id, key).await;
    }
    for _ in 0..client.dice.below(9) {
        if !client.goes_on() {
            return;
        }
        let third = u64::try_from(ttl_seconds * 1000 / 3).unwrap_or(1000);
        sleep(Duration::from_millis(
            third / 2 + client.dice.below(third / 2),
        ))
        .await;
        if client.dice.percent(30) {
            client.go_anywhere();
        }
        if let Some(Ending::Renewed { ttl_seconds: 0 }) = client.perform(Op::Renew { id }).await {
            return;
        }
        if client.dice.percent(40) {
            let key = client.dice.below(4);
            hang(client, id, key).await;
        }
    }
    if client.dice.percent(40) {
        client.perform(Op::Revoke { id }).await;
    }
}

async fn hang(client: &mut Client, lease: i64, key: u64) {
    // Below the keys that others delete in intervals; one in four is a key that holders fight over.
    let owner = if client.dice.percent(25) { 0 } else { lease };
    let put = Op::Put {
        key: format!("h/{owner}/{key}").into_bytes(),
        value: client.value(),
        lease,
    };
    client.perform(put).await;
}
