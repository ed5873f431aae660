//! Clients that move sums between accounts: read two, then take from one and give to the other in one transaction that
//! holds only if both are as they were read.

use metastore_proto::mvccpb::KeyValue;

use crate::client::Client;
use metastore_judges::history::Ending;
use metastore_judges::model::Op;
use metastore_judges::sum;

/// Works until faults are over.
pub(crate) async fn transfer(mut client: Client) {
    while client.goes_on() {
        client.pause().await;
        let all = Op::read(sum::PREFIX.to_vec(), b"a0".to_vec());
        let Ending::Read(Ok(response)) = client.perform(all).await else {
            continue;
        };
        let op = match response.kvs.is_empty() {
            true => sum::opening(client.number),
            false => order(&mut client, &response.kvs),
        };
        client.perform(op).await;
    }
}

fn order(client: &mut Client, accounts: &[KeyValue]) -> Op {
    let from = client.dice.place(accounts.len());
    let beside = 1 + client.dice.place(accounts.len().max(2) - 1);
    let (from, to) = (&accounts[from], &accounts[(from + beside) % accounts.len()]);
    let held = sum::balance(&from.value).unwrap_or(0);
    let most = u64::try_from(held).unwrap_or(0);
    let amount = i64::try_from(client.dice.between(0, most)).unwrap_or(0);
    let mark = client.mark();
    sum::order(from, to, amount, &mark)
}
