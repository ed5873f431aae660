//! How the process ends by a signal.

use std::{io, process};

/// The first process of its system, or of its container.
const INIT: u32 = 1;

/// Ends the process by this signal as if nobody had handled it, so that its parent sees which it was. The first process
/// of a system or a container exits with 0 instead: to it, a signal that nobody handles does nothing.
///
/// # Errors
/// Returns only if the system refuses, or for a signal whose default is not the end of a process.
pub fn end_by(signal: i32) -> io::Result<()> {
    if process::id() == INIT {
        process::exit(0);
    }
    signal_hook::low_level::emulate_default_handler(signal)
}
