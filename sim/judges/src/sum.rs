//! Transfers move what accounts hold and neither make nor lose any: the sum is the same at every revision.

use metastore_proto::mvccpb::KeyValue;

use super::Failure;
use crate::model::{Keys, Op, at_or_after};

/// Accounts begin with this. It lies below the keys that others delete in intervals.
pub const PREFIX: &[u8] = b"a/";
/// How many accounts there are.
pub const ACCOUNTS: u64 = 4;
/// What each holds at first.
pub const OPENING_BALANCE: i64 = 100;

/// The key of an account.
pub fn account(number: u64) -> Vec<u8> {
    format!("a/{number}").into_bytes()
}

/// What an account holds; none if it holds no number.
pub fn balance(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Opens all accounts at once, unless they are open.
pub fn opening(client: u64) -> Op {
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

/// Moves an amount from one account to another as one transaction, which holds only if both are as they were read;
/// `mark` makes its values unlike those of any other.
pub fn order(from: &KeyValue, to: &KeyValue, amount: i64, mark: &[u8]) -> Op {
    let value = |account: &KeyValue, change: i64| {
        let balance = balance(&account.value).unwrap_or(0) + change;
        let mut value = format!("{balance} ").into_bytes();
        value.extend_from_slice(mark);
        (account.key.clone(), value)
    };
    Op::Txn {
        guards: [from, to]
            .map(|account| (account.key.clone(), account.mod_revision))
            .to_vec(),
        puts: vec![value(from, -amount), value(to, amount)],
        deletes: Vec::new(),
    }
}

/// Adds up the accounts as they are after a revision; before they are opened there is nothing to add.
pub fn conserved(keys: &Keys, revision: i64) -> Result<(), Failure> {
    let accounts = at_or_after(keys, PREFIX).take_while(|(key, _)| key.starts_with(PREFIX));
    let (mut sum, mut count) = (0, 0);
    for (key, account) in accounts {
        let Some(balance) = balance(&account.value) else {
            let story = format!(
                "{} holds no number at revision {revision}",
                key.escape_ascii()
            );
            return Err(Failure::new("sum", story));
        };
        sum += balance;
        count += 1;
    }
    let expected = i64::try_from(ACCOUNTS).unwrap_or(0);
    if count == 0 || (count == expected && sum == expected * OPENING_BALANCE) {
        return Ok(());
    }
    let story = format!(
        "at revision {revision} {count} accounts hold {sum}, not {expected} accounts with {}",
        expected * OPENING_BALANCE
    );
    Err(Failure::new("sum", story))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::model::fold;

    #[test]
    fn a_transfer_that_gives_without_taking_changes_the_sum() {
        let open = opening(1);
        let keys = fold(&Keys::new(), &open.effect(&Keys::new(), 2).changes, 2);
        let keys = keys.expect("accounts are opened");
        assert_eq!(conserved(&Keys::new(), 1), Ok(()));
        assert_eq!(conserved(&keys, 2), Ok(()));
        let give = Op::put(account(1), b"101 x".to_vec());
        let after = fold(&keys, &give.effect(&keys, 3).changes, 3).expect("a put");
        assert_eq!(conserved(&after, 3).map_err(|it| it.judge), Err("sum"));
        let gone = keys.without(&Rc::from(account(0).as_slice()));
        assert_eq!(conserved(&gone, 3).map_err(|it| it.judge), Err("sum"));
    }
}
