//! The simulator: whole clusters of the product's core in one process, on virtual time, judged from outside.

#![forbid(unsafe_code)]

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs RUSTFLAGS=\"--cfg madsim\", without which its libraries would use real time and real \
     randomness: start it with `cargo x sim`"
);

#[cfg(madsim)]
mod child;
#[cfg(madsim)]
mod client;
#[cfg(madsim)]
mod clock;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod command_line;
#[cfg(madsim)]
mod dice;
#[cfg(madsim)]
mod disk;
#[cfg(madsim)]
mod driver;
#[cfg(madsim)]
mod faults;
#[cfg(madsim)]
mod healing;
#[cfg(madsim)]
mod ingredients;
#[cfg(madsim)]
mod judging;
#[cfg(madsim)]
mod knobs;
#[cfg(madsim)]
mod machines;
#[cfg(madsim)]
mod mailbox;
#[cfg(madsim)]
mod majority;
#[cfg(madsim)]
mod moments;
#[cfg(madsim)]
mod network;
#[cfg(madsim)]
mod noticing;
#[cfg(madsim)]
mod operators;
#[cfg(madsim)]
mod perf;
#[cfg(madsim)]
mod plan;
#[cfg(madsim)]
mod plant;
#[cfg(madsim)]
mod rounds;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
mod scenario;
#[cfg(madsim)]
mod shrink;
#[cfg(madsim)]
mod sometimes;
#[cfg(madsim)]
mod storage;
#[cfg(madsim)]
mod swarm;
#[cfg(madsim)]
mod trace;
#[cfg(madsim)]
mod watching;
#[cfg(madsim)]
mod workload;
#[cfg(madsim)]
mod world;

/// Runs spend much of their time on asking for memory and giving it back.
#[cfg(madsim)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    command_line::main()
}

#[cfg(not(madsim))]
fn main() {}
