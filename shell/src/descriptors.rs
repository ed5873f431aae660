//! Open files and sockets of the process: how many there may be, and how many of them are for clients.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Kept for the log, for checkpoints, for other members and for those who ask for the health, so that they go on when
/// clients have taken all else. Most are for members that are called and do not answer: some 18 sockets on either way.
const RESERVED: u64 = 200;

/// Of those, how many connections may ask for the health alone: they are answered also when clients have taken all else.
const HEALTH: usize = 32;

/// What is taken where the system sets no limit, or where it cannot be asked.
const UNLIMITED: u64 = 1 << 20;

/// How many connections there may be at a time; each takes a permit and has it to its end.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Of clients.
    pub(crate) clients: Arc<Semaphore>,
    /// Of those who ask for the health alone.
    pub(crate) health: Arc<Semaphore>,
}

/// The system's limit leaves nothing for clients.
#[derive(Debug, thiserror::Error)]
#[error(
    "only {limit} files may be open at a time, and {RESERVED} of them are needed for the log and other members; raise \
     the limit with `ulimit -n`, or with LimitNOFILE= where systemd starts the server"
)]
pub struct TooFew {
    /// Files and sockets.
    limit: u64,
}

/// Raises the limit on open files as far as this process may, and tells the room that it leaves.
///
/// # Errors
/// Where the limit is so low that no client could connect.
pub(crate) fn make_room() -> Result<Room, TooFew> {
    let limit = raise();
    let clients = limit.saturating_sub(RESERVED);
    if clients == 0 {
        return Err(TooFew { limit });
    }
    let clients = usize::try_from(clients).unwrap_or(usize::MAX);
    Ok(Room {
        clients: Arc::new(Semaphore::new(clients.min(Semaphore::MAX_PERMITS))),
        health: Arc::new(Semaphore::new(HEALTH)),
    })
}

#[cfg(target_os = "linux")]
fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match current == maximum {
        true => maximum,
        false => match setrlimit(Resource::Nofile, raised) {
            Ok(()) => maximum,
            Err(error) => {
                tracing::warn!(%error, limit = current, "cannot raise the limit on open files");
                current
            }
        },
    };
    limit.unwrap_or(UNLIMITED)
}

#[cfg(not(target_os = "linux"))]
fn raise() -> u64 {
    UNLIMITED
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{Resource, getrlimit};

    use super::*;

    #[test]
    fn the_limit_is_raised_and_clients_leave_some_of_it_to_the_log() {
        let room = make_room().expect("the tests may open some files");
        let limits = getrlimit(Resource::Nofile);
        assert_eq!(limits.current, limits.maximum);
        let clients = room.clients.available_permits() as u64;
        assert_eq!(clients, limits.maximum.unwrap_or(UNLIMITED) - RESERVED);
    }
}
