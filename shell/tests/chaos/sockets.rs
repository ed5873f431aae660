//! Which process a connection comes from: the kernel is asked for the one socket, since its table of all of them takes
//! milliseconds to read.

use std::fs;
use std::io;
use std::net::SocketAddrV4;

/// The number of the open socket with this local address and this remote one.
///
/// # Errors
///
/// When there is none, or the kernel does not answer such questions.
pub(crate) fn inode(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<u32> {
    let question = question(local, remote);
    let mut answer = [0_u8; 512];
    // SAFETY: each call is given a buffer and its length, and the descriptor is closed before the function returns.
    let length = unsafe {
        let socket = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            libc::NETLINK_INET_DIAG,
        );
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let sent = libc::send(socket, question.as_ptr().cast(), question.len(), 0);
        let length = match sent {
            ..0 => sent,
            _ => libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0),
        };
        let error = io::Error::last_os_error();
        libc::close(socket);
        usize::try_from(length).map_err(|_| error)?
    };
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < INODE_AT + 4 || kind != BY_FAMILY {
        return Err(io::ErrorKind::NotFound.into());
    }
    let inode = answer[INODE_AT..INODE_AT + 4].try_into();
    Ok(u32::from_ne_bytes(inode.expect("four bytes")))
}

/// The numbers of all sockets that a process has open.
pub(crate) fn open_in(pid: u32) -> Vec<u32> {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes = targets.filter_map(|target| {
        let inode = target.to_str()?.strip_prefix("socket:[")?;
        inode.strip_suffix(']')?.parse().ok()
    });
    inodes.collect()
}

/// A message of the kernel's socket diagnosis (`sock_diag(7)`): its header, a request, and the two ends of the
/// connection.
fn question(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    const LENGTH: u32 = 72;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes());
    // No number, no sender.
    message.extend([0; 8]);
    message.extend([2, 6, 0, 0]);
    // In whatever state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for end in [local, remote] {
        message.extend(end.ip().octets());
        message.extend([0; 12]);
    }
    // On whatever interface, with whatever cookie.
    message.extend(0_u32.to_ne_bytes());
    message.extend([u8::MAX; 8]);
    message
}

/// The kind of such a message, and of its answer.
const BY_FAMILY: u16 = 20;
/// Where in the answer the inode is: behind a header, four bytes, the two ends, and four numbers.
const INODE_AT: usize = 16 + 4 + 48 + 16;

#[test]
fn a_socket_belongs_to_the_process_that_opened_it() {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let SocketAddr::V4(remote) = listener.local_addr().expect("an address") else {
        panic!("the loopback has four bytes");
    };
    let stream = TcpStream::connect(remote).expect("it listens");
    let SocketAddr::V4(local) = stream.local_addr().expect("an address") else {
        panic!("the loopback has four bytes");
    };
    let inode = inode(local, remote).expect("an open socket");
    assert!(open_in(std::process::id()).contains(&inode));
    assert!(!open_in(1).contains(&inode), "that is another process");
    drop(stream);
}
