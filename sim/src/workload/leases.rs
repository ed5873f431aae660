//! Clients that hold a lease: they grant it, hang keys on it, renew it for a while through any member, and then give it
//! back or let it run out.

use std::time::Duration;

use madsim::time::sleep;

use crate::client::Client;
use crate::dice::Dice;
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
            live(&mut client, id, ttl_seconds).await;
        }
    }
}

async fn live(client: &mut Client, id: i64, ttl_seconds: i64) {
    let rounds = client.dice.between(0, 8);
    for key in 0..client.dice.between(1, 3) {
        hang(client, id, key).await;
    }
    for _ in 0..rounds {
        if !client.goes_on() {
            return;
        }
        let third = u64::try_from(ttl_seconds * 1000 / 3).unwrap_or(1000);
        let rest = client.dice.between(third / 2, third);
        sleep(Duration::from_millis(rest)).await;
        if client.dice.permille(300) {
            client.go_anywhere();
        }
        if let Ending::Renewed { ttl_seconds: 0 } = client.perform(Op::Renew { id }).await {
            return;
        }
        if client.dice.permille(400) {
            let key = client.dice.between(0, 3);
            hang(client, id, key).await;
        }
    }
    if client.dice.permille(400) {
        client.perform(Op::Revoke { id }).await;
        renew_in_vain(client, id).await;
    }
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
