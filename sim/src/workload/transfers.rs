//! Clients that move sums between accounts: read two, then take from one and give to the other in one transaction that
//! holds only if both are as they were read.

use metastore_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::history::Ending;
use crate::model::Op;

/// Accounts begin with this. It lies below the keys that others delete in intervals.
pub(crate) const PREFIX: &[u8] = b"a/";
/// How many accounts there are.
pub(crate) const ACCOUNTS: u64 = 4;
/// What each holds at first.
pub(crate) const OPENING_BALANCE: i64 = 100;

/// Works until faults are over.
pub(crate) async fn transfer(mut client: Client) {
    while client.goes_on() {
        client.pause().await;
        let all = Op::read(PREFIX.to_vec(), b"a0".to_vec());
        let Ending::Read(Ok(response)) = client.perform(all).await else {
            continue;
        };
        let op = match response.kvs.is_empty() {
            true => opening(client.number),
            false => order(&mut client, &response.kvs),
        };
        client.perform(op).await;
    }
}

/// Opens all accounts at once, unless they are open.
pub(crate) fn opening(client: u64) -> Op {
    let accounts = || (0..ACCOUNTS).map(account);
    Op::Txn {
        guards: accounts().map(|key| (key, 0)).collect(),
        puts: accounts()
            .map(|key| {
                (
                    key,
                    format!("{OPENING_BALANCE} opened by c{client}").into_bytes(),
                )
            })
            .collect(),
        deletes: Vec::new(),
    }
}

fn order(client: &mut Client, accounts: &[KeyValue]) -> Op {
    let from = client.dice.place(accounts.len());
    let beside = 1 + client.dice.place(accounts.len().max(2) - 1);
    let (from, to) = (&accounts[from], &accounts[(from + beside) % accounts.len()]);
    let held = balance(&from.value).unwrap_or(0);
    let most = u64::try_from(held).unwrap_or(0);
    let amount = i64::try_from(client.dice.between(0, most)).unwrap_or(0);
    let mark = client.mark();
    let value = |balance: i64| {
        let mut value = format!("{balance} ").into_bytes();
        value.extend_from_slice(&mark);
        value
    };
    let given = balance(&to.value).unwrap_or(0) + amount;
    Op::Txn {
        guards: [from, to]
            .map(|account| (account.key.clone(), account.mod_revision))
            .to_vec(),
        puts: vec![
            (from.key.clone(), value(held - amount)),
            (to.key.clone(), value(given)),
        ],
        deletes: Vec::new(),
    }
}

/// The key of an account.
pub(crate) fn account(number: u64) -> Vec<u8> {
    format!("a/{number}").into_bytes()
}

/// What an account holds; none if it holds no number.
pub(crate) fn balance(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split(' ').next()?.parse().ok()
}
