//! The store against a plain map of every revision: puts, deletes, compactions, sweeps, reads, snapshots.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metastore_fuzz::apply_vs_model::{Op, run};

fuzz_target!(|ops: Vec<Op>| run(&ops));
