//! The seeds that are written rather than found: operations that provably lead into the situations they are named for.
//!
//! Each is kept as `corpus/TARGET/seed-NAME`. A test reads it back and runs it; with `WRITE_SEEDS=1` it is written anew,
//! which is due after every change of the inputs' types.

mod apply_vs_model;
mod encode;
mod snapshot_decode;
mod txn_vs_model;
mod wal_decode;

use std::fmt::Debug;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};

use encode::{Encode, encoded};

/// Holds the seed on the disk to this input, which has to be what a target reads from it, and hands it to the target.
fn check<'i, I>(target: &str, name: &str, input: &I, bytes: &'i mut Vec<u8>, run: impl Fn(&I))
where
    I: Encode + Arbitrary<'i> + Debug,
{
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("corpus/{target}/seed-{name}"));
    *bytes = encoded(input);
    if std::env::var_os("WRITE_SEEDS").is_some() {
        std::fs::write(&path, &*bytes).expect("the corpus can be written");
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == *bytes,
        "{} is not as it should be: WRITE_SEEDS=1 writes it",
        path.display()
    );
    let read = I::arbitrary_take_rest(Unstructured::new(bytes)).expect("nothing is missing");
    assert_eq!(format!("{read:?}"), format!("{input:?}"));
    run(&read);
}
