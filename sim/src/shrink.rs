//! Makes a failing seed smaller: leaves planned faults out, one after the other, as long as the same judge still
//! objects.

use std::io;

use crate::swarm::{child, judge_of};
use crate::world::{Options, World};

/// Prints the smallest run it finds. Answers false, as any run of a seed that fails.
pub(crate) fn shrink(seed: u64, options: &Options) -> io::Result<bool> {
    let fails = |options: &Options| -> io::Result<(Option<String>, String)> {
        let mut words = vec![seed.to_string()];
        words.extend(options.words());
        let output = child(&words)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((judge_of(&text).map(str::to_owned), text))
    };
    let (first, mut report) = fails(options)?;
    let Some(judge) = first else {
        println!("seed {seed} keeps every promise");
        return Ok(true);
    };
    let mut smallest = options.clone();
    for fault in World::draw(seed, options).plan {
        let mut smaller = smallest.clone();
        smaller.without.push(fault.number);
        let (still, text) = fails(&smaller)?;
        if still.as_deref() == Some(&judge) {
            println!("not needed: {fault}");
            (smallest, report) = (smaller, text);
        }
    }
    print!("{report}");
    Ok(false)
}
