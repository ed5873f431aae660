//! The sockets that are listened on, and what is asked of the system for every connection.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::{Config, Url};
use crate::connections::Serves;
use crate::server::StartError;

/// Connections that may wait to be accepted; the system may allow fewer. Many come at once when a member is back.
const BACKLOG: i32 = 4096;

/// After so long without a word the system asks whether the other end is still there, and then again and again.
const SILENCE: Duration = Duration::from_secs(30);

/// Where clients connect, and what each place serves.
pub(crate) fn for_clients(config: &Config) -> Result<Vec<(TcpListener, Serves)>, StartError> {
    let split = !config.listen_client_http_urls.is_empty();
    let grpc = if split { Serves::GrpcOnly } else { Serves::All };
    let clients = config
        .listen_client_urls
        .iter()
        .map(|url| (url, grpc, "--listen-client-urls"));
    let http = config
        .listen_client_http_urls
        .iter()
        .map(|url| (url, Serves::HttpOnly, "--listen-client-http-urls"));
    let metrics = config
        .listen_metrics_urls
        .iter()
        .map(|url| (url, Serves::HealthOnly, "--listen-metrics-urls"));
    clients
        .chain(http)
        .chain(metrics)
        .map(|(url, serves, flag)| Ok((listen(url, flag)?, serves)))
        .collect()
}

/// Where other members connect.
pub(crate) fn for_peers(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let urls = config.listen_peer_urls.iter();
    urls.map(|url| listen(url, "--listen-peer-urls")).collect()
}

/// Has the system notice that the host at the other end is gone: what has not said anything yet, or nothing for long,
/// would keep its socket for ever.
pub(crate) fn notice_death(socket: &impl AsFd) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(SILENCE);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

fn listen(url: &Url, flag: &'static str) -> Result<TcpListener, StartError> {
    let refused = |source| StartError::Listen {
        url: url.to_string(),
        flag,
        source,
    };
    let address = url
        .socket_address()
        .ok_or_else(|| refused(io::ErrorKind::AddrNotAvailable.into()))?;
    let listener = bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// As in Go, an address that stands for all of them stands for those of both families: `0.0.0.0` takes IPv6, too.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        match bind_socket(all, true) {
            // Without IPv6 there is one family only.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    bind_socket(address, false)
}

fn bind_socket(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if both_families {
        socket.set_only_v6(false)?;
    }
    // A restart is not to wait until the system has forgotten the connections of the life before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn all_addresses_are_those_of_both_families() {
        for all in ["0.0.0.0:0", "[::]:0"] {
            let listener = bind(all.parse().expect("an address")).expect("a port");
            let port = listener.local_addr().expect("bound").port();
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 is taken");
            let without_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err();
            let connected = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok();
            assert!(connected || without_ipv6, "{all}");
        }
    }

    #[test]
    fn an_address_of_one_family_is_that_alone() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        assert!(listener.local_addr().expect("bound").is_ipv4());
    }

    #[test]
    fn a_port_in_use_is_not_tried_another_way() {
        let taken = bind("0.0.0.0:0".parse().expect("an address")).expect("a port");
        let port = taken.local_addr().expect("bound").port();
        for all in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
            let refused = bind(all.parse().expect("an address")).expect_err("it is in use");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn the_system_asks_after_a_silent_end() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let socket = TcpStream::connect(address).expect("a listener");
        notice_death(&socket).expect("a socket takes it");
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().expect("it tells"));
        assert_eq!(socket.tcp_keepalive_time().expect("it tells"), SILENCE);
    }
}
