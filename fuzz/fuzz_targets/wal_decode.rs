//! Segments: any bytes are read without a panic, and damage to a log costs at most its last write or is an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metastore_fuzz::wal_decode::{Input, run};

fuzz_target!(|input: Input<'_>| run(&input));
