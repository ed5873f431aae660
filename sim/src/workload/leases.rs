//! Clients that hold a lease: they grant it, hang keys on it, renew it for a while through any member, and then give it
//! back or let it run out. Some grant the same id again as soon as its lease is gone, or just when its time is over, while
//! its end is under way. Others ask how the leases stand.

use std::rc::Rc;
use std::time::Duration;

use madsim::task::spawn_local;
use madsim::time::sleep;
use metastore_core::lease::LeaseError;
use metastore_core::output::Refusal;

use crate::client::Client;
use crate::dice::Dice;
use crate::trace::now;
use crate::world::World;
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// Works until faults are over.
pub(crate) async fn hold(mut client: Client) {
    for number in 1.. {
        if !client.goes_on() {
            return;
        }
        client.pause().await;
        let id = i64::try_from(client.number * 10_000 + number).unwrap_or(1);
        let ttl_seconds = i64::try_from(client.dice.between(2, 6)).unwrap_or(2);
        let granted = client.perform(Op::Grant { id, ttl_seconds }).await;
        if let Ending::Wrote(_) = granted {
            let left = live(&mut client, id, ttl_seconds).await;
            again(&mut client, id, left).await;
        }
    }
}

/// How a holder left its lease.
enum Left {
    /// It has heard that it is gone.
    Gone,
    /// To run out: its time is over at about this.
    RunsOut(Duration),
    /// It does not know, or has no time to say.
    Somehow,
}

async fn live(client: &mut Client, id: i64, ttl_seconds: i64) -> Left {
    let full = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(2));
    let mut runs_out = now() + full;
    let rounds = client.dice.between(0, 8);
    for key in 0..client.dice.between(1, 3) {
        hang(client, id, key).await;
    }
    for _ in 0..rounds {
        if !client.goes_on() {
            return Left::Somehow;
        }
        let third = u64::try_from(ttl_seconds * 1000 / 3).unwrap_or(1000);
        let rest = client.dice.between(third / 2, third);
        sleep(Duration::from_millis(rest)).await;
        if client.dice.permille(300) {
            client.go_anywhere();
        }
        let asked = now();
        match client.perform(Op::Renew { id }).await {
            Ending::Renewed { ttl_seconds: 0 } => return Left::Gone,
            Ending::Renewed { .. } => runs_out = asked + full,
            _ => {}
        }
        if client.dice.permille(400) {
            let key = client.dice.between(0, 3);
            hang(client, id, key).await;
        }
    }
    if client.dice.permille(400) {
        let revoked = client.perform(Op::Revoke { id }).await;
        renew_in_vain(client, id).await;
        return match is_gone(&revoked) {
            true => Left::Gone,
            false => Left::Somehow,
        };
    }
    Left::RunsOut(runs_out)
}

/// Whether whoever revoked a lease knows that it is gone.
fn is_gone(revoked: &Ending) -> bool {
    matches!(
        revoked,
        Ending::Wrote(_) | Ending::Refused(Refusal::Lease(LeaseError::NotFound))
    )
}

/// Sometimes grants the id of a lease once more, whose end may be under way, and lives with that for a while.
async fn again(client: &mut Client, id: i64, left: Left) {
    let round = client.cluster.round.get();
    let mut dice = Dice::new(client.cluster.world.seed, &format!("again {id} {round}"));
    if !client.goes_on() || dice.permille(500) {
        return;
    }
    // What is too short is granted for a second.
    let ttl_seconds = i64::try_from(dice.between(0, 4)).unwrap_or(1) - 1;
    let grant = Op::Grant { id, ttl_seconds };
    let granted = match left {
        Left::Somehow => return,
        Left::Gone => client.perform(grant).await,
        Left::RunsOut(at) => {
            // It goes out when its end is about to be proposed, right behind a revocation. Without faults that is on its
            // way for some ten milliseconds.
            let at = (at + Duration::from_millis(10))
                .saturating_sub(Duration::from_millis(dice.between(0, 60)));
            sleep(at.saturating_sub(now())).await;
            if !client.goes_on() {
                return;
            }
            let mut second = Client::new(Rc::clone(&client.cluster), client.number + 60);
            second.member = client.member;
            let granted = spawn_local(async move { second.perform(grant).await });
            client.perform(Op::Revoke { id }).await;
            match granted.await {
                Ok(granted) => granted,
                Err(_) => return,
            }
        }
    };
    if let Ending::Wrote(_) = granted {
        live_again(client, id, &mut dice).await;
    }
}

async fn live_again(client: &mut Client, id: i64, dice: &mut Dice) {
    let put = Op::Put {
        key: format!("h/{id}/0").into_bytes(),
        value: client.mark(),
        lease: id,
    };
    client.perform(put).await;
    for _ in 0..dice.between(0, 3) {
        sleep(Duration::from_millis(dice.between(100, 600))).await;
        if !client.goes_on() {
            return;
        }
        if let Ending::Renewed { ttl_seconds: 0 } = client.perform(Op::Renew { id }).await {
            return;
        }
    }
    if dice.permille(300) {
        client.perform(Op::Revoke { id }).await;
    }
}

/// How many clients ask how leases stand.
pub(crate) fn askers(world: &World) -> u64 {
    u64::from(world.holders > 0)
}

/// Asks any member how leases stand, those of holders among the newest, and which there are.
pub(crate) async fn ask(mut client: Client) {
    while client.goes_on() {
        client.pause().await;
        let rest = client.dice.between(20, 400);
        sleep(Duration::from_millis(rest)).await;
        client.go_anywhere();
        let ids = newest_granted(&client);
        let op = match client.dice.place(4) {
            0 => Op::Leases,
            _ if ids.is_empty() => Op::Leases,
            _ => Op::TimeToLive {
                id: ids[client.dice.place(ids.len())],
                keys: client.dice.permille(700),
            },
        };
        client.perform(op).await;
    }
}

/// The leases that were asked for last.
fn newest_granted(client: &Client) -> Vec<i64> {
    let history = client.cluster.history.borrow();
    let grants = history.iter().rev().filter_map(|record| match record.op {
        Op::Grant { id, .. } => Some(id),
        _ => None,
    });
    grants.take(ASKED_FOR).collect()
}

/// Sometimes asks once more for a lease that was given back, anywhere.
async fn renew_in_vain(client: &mut Client, id: i64) {
    let mut dice = Dice::new(client.cluster.world.seed, &format!("in vain {id}"));
    if client.goes_on() && dice.permille(400) {
        let serving = client.cluster.serving();
        client.member = serving[dice.place(serving.len())];
        client.perform(Op::Renew { id }).await;
    }
}

/// Grants many leases in a row, each with a key, and lets them all run out.
pub(crate) async fn storm(mut client: Client) {
    for number in 1..=client.cluster.world.storm_leases {
        if !client.goes_on() {
            return;
        }
        let id = i64::try_from(client.number * 10_000 + number).unwrap_or(1);
        let ttl_seconds = STORM_SECONDS;
        let granted = client.perform(Op::Grant { id, ttl_seconds }).await;
        if let Ending::Wrote(_) = granted
            && client.goes_on()
        {
            hang(&mut client, id, 0).await;
        }
    }
}

/// So many of the newest leases are asked for.
const ASKED_FOR: usize = 4;

/// Long enough to grant all of a storm, so that they end under another leader together.
const STORM_SECONDS: i64 = 6;

async fn hang(client: &mut Client, lease: i64, key: u64) {
    // Below the keys that others delete in intervals; one in four is a key that holders fight over.
    let owner = if client.dice.permille(250) { 0 } else { lease };
    let put = Op::Put {
        key: format!("h/{owner}/{key}").into_bytes(),
        value: client.value(),
        lease,
    };
    client.perform(put).await;
}
