//! Transactions of any depth against a plain map of every revision: the same answers, the same refusals, the same keys.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metastore_fuzz::txn_vs_model::{Input, run};

fuzz_target!(|input: Input| run(&input));
