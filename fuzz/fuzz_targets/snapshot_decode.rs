//! Snapshots: any bytes in any pieces are read without a panic, damage never becomes another state, and what comes back
//! is what was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metastore_fuzz::snapshot_decode::{Input, run};

fuzz_target!(|input: Input<'_>| run(&input));
