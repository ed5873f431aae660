//! Ports for servers that come and go.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Listeners on `count` ports of the loopback address that are free now; no port is answered twice by one process.
///
/// They lie below those the kernel gives to outgoing connections: while a server is down, a client that tries to reach
/// it could otherwise be given the very port as its own, be connected to itself, and keep the server from coming back.
pub(crate) fn reserve(count: usize) -> io::Result<Vec<TcpListener>> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let outgoing = range.split_whitespace().next().map(str::parse);
    let end = match outgoing {
        Some(Ok(port)) => port,
        _ => return Err(io::Error::other("the range of outgoing ports is not known")),
    };
    if end <= FIRST {
        let what = "the kernel gives all ports to outgoing connections";
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what));
    }
    let mut listeners = Vec::new();
    for _ in FIRST..end {
        if listeners.len() == count {
            break;
        }
        let port = FIRST + offset() % (end - FIRST);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    if listeners.len() < count {
        let what = "too few ports are free";
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what));
    }
    Ok(listeners)
}

/// Counts up from a number of this process's own, so that two processes seldom want the same port.
fn offset() -> u16 {
    let [.., low, lower] = std::process::id().to_be_bytes();
    u16::from_be_bytes([low, lower])
        .wrapping_mul(SPREAD)
        .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}

static NEXT: AtomicU16 = AtomicU16::new(0);
const FIRST: u16 = 10_240;
/// Processes with numbers that follow each other begin so far apart.
const SPREAD: u16 = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FIRST, reserve};

    #[test]
    fn no_port_is_given_twice_though_it_be_free_again() {
        let mut ports = BTreeSet::new();
        for _ in 0..4 {
            for listener in reserve(6).expect("free ports") {
                ports.insert(listener.local_addr().expect("an address").port());
            }
        }
        assert_eq!(ports.len(), 24);
        assert!(ports.iter().all(|port| *port >= FIRST));
    }
}
