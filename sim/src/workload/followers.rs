//! Clients that only read, and only from one member, whatever it has: they follow it through its lives.

use std::time::Duration;

use madsim::time::sleep;

use crate::client::Client;
use metastore_judges::model::Op;

/// Works until faults are over.
pub(crate) async fn follow(mut client: Client) {
    client.go_anywhere();
    let member = client.member;
    while client.goes_on() {
        client.pause().await;
        client.member = member;
        if client.cluster.life(member).is_none() {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        let (key, end): (&[u8], &[u8]) = match client.dice.place(3) {
            0 => (b"k01", b""),
            1 => (b"a/", b"a0"),
            _ => (b"\0", b"\0"),
        };
        let back = i64::try_from(client.dice.between(1, 30)).unwrap_or(1);
        let past = client.dice.permille(200) && client.seen - back >= client.oldest();
        let op = Op::Read {
            key: key.to_vec(),
            end: end.to_vec(),
            revision: if past { client.seen - back } else { 0 },
            serializable: true,
        };
        client.perform(op).await;
    }
}
