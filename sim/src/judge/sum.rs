//! Transfers move what accounts hold and neither make nor lose any: the sum is the same at every revision.

use super::Failure;
use crate::model::{Keys, at_or_after};
use crate::workload::transfers::{self, ACCOUNTS, OPENING_BALANCE, PREFIX};

/// Adds up the accounts as they are after a revision; before they are opened there is nothing to add.
pub(crate) fn conserved(keys: &Keys, revision: i64) -> Result<(), Failure> {
    let accounts = at_or_after(keys, PREFIX).take_while(|(key, _)| key.starts_with(PREFIX));
    let (mut sum, mut count) = (0, 0);
    for (key, account) in accounts {
        let Some(balance) = transfers::balance(&account.value) else {
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
    use crate::model::{Op, fold};

    #[test]
    fn a_transfer_that_gives_without_taking_changes_the_sum() {
        let open = transfers::opening(1);
        let keys = fold(&Keys::new(), &open.effect(&Keys::new(), 2).changes, 2);
        let keys = keys.expect("accounts are opened");
        assert_eq!(conserved(&Keys::new(), 1), Ok(()));
        assert_eq!(conserved(&keys, 2), Ok(()));
        let give = Op::put(transfers::account(1), b"101 x".to_vec());
        let after = fold(&keys, &give.effect(&keys, 3).changes, 3).expect("a put");
        assert_eq!(conserved(&after, 3).map_err(|it| it.judge), Err("sum"));
        let gone = keys.without(&Rc::from(transfers::account(0).as_slice()));
        assert_eq!(conserved(&gone, 3).map_err(|it| it.judge), Err("sum"));
    }
}
