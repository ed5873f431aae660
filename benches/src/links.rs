//! The sockets of a run: connecting, writing what the connections say, reading what the server says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::http2::{Connection, Receiver};

/// Connections to one server or to several, numbered from 0.
pub(crate) struct Links {
    epoll: OwnedFd,
    links: Vec<Link>,
    losses: Vec<Loss>,
    buffer: Box<[u8]>,
}

/// A connection that ended.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    /// How many requests ended with it; each has had its reply.
    pub(crate) requests: usize,
}

struct Link {
    socket: TcpStream,
    connection: Connection,
    /// Has bytes to write that no one has tried to write yet.
    dirty: bool,
    /// The socket took no more; its readiness to write is awaited.
    blocked: bool,
    /// Nothing is read from it.
    paused: bool,
    open: bool,
}

impl Links {
    /// Opens a connection for each of `windows`, on which the server may send that many bytes ahead, and waits until
    /// the server has told its limits on each.
    pub(crate) fn connect<R: Receiver>(
        endpoint: SocketAddr,
        windows: &[u32],
        patience: Duration,
        receiver: &mut R,
    ) -> io::Result<Self> {
        let ends: Vec<_> = windows.iter().map(|window| (endpoint, *window)).collect();
        Self::spread(&ends, patience, receiver)
    }

    /// Opens a connection to each of `ends`, an endpoint with the bytes it may send ahead, otherwise like
    /// [`connect`](Self::connect).
    pub(crate) fn spread<R: Receiver>(
        ends: &[(SocketAddr, u32)],
        patience: Duration,
        receiver: &mut R,
    ) -> io::Result<Self> {
        let mut links = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            links: Vec::with_capacity(ends.len()),
            losses: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        for (index, (endpoint, window)) in ends.iter().enumerate() {
            let socket = TcpStream::connect_timeout(endpoint, patience)?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&links.epoll, &socket, data, EventFlags::IN)?;
            links.links.push(Link {
                socket,
                connection: Connection::new(*window),
                dirty: true,
                blocked: false,
                paused: false,
                open: true,
            });
        }
        let mut ready = Vec::new();
        while links
            .links
            .iter()
            .any(|link| link.open && !link.connection.ready())
        {
            links.flush(receiver)?;
            if !links.wait(patience, &mut ready)? {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server does not speak HTTP/2",
                ));
            }
            for index in ready.drain(..) {
                links.read(index, receiver)?;
            }
        }
        if links.links.iter().any(|link| !link.open) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server closed the connection",
            ));
        }
        Ok(links)
    }

    /// The connection `index`, to be given something to send.
    pub(crate) fn connection(&mut self, index: usize) -> &mut Connection {
        let link = &mut self.links[index];
        link.dirty = true;
        &mut link.connection
    }

    /// Whether the connection `index` takes requests.
    pub(crate) fn accepts(&self, index: usize) -> bool {
        let link = &self.links[index];
        link.open && link.connection.accepts()
    }

    /// Whether every connection takes requests.
    pub(crate) fn accept(&self) -> bool {
        (0..self.links.len()).all(|index| self.accepts(index))
    }

    /// The connections that ended since this was asked last.
    pub(crate) fn losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Reads no more from the connection `index` until [`resume`](Self::resume): what it is sent fills its windows.
    pub(crate) fn pause(&mut self, index: usize) -> io::Result<()> {
        self.links[index].paused = true;
        self.interest(index)
    }

    /// Reads from the connection `index` again.
    pub(crate) fn resume(&mut self, index: usize) -> io::Result<()> {
        self.links[index].paused = false;
        self.interest(index)
    }

    /// Writes what the connections have to say.
    pub(crate) fn flush<R: Receiver>(&mut self, receiver: &mut R) -> io::Result<()> {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if !link.dirty || link.blocked || !link.open {
                continue;
            }
            link.dirty = false;
            match link.write() {
                Ok(()) if link.connection.outbound().is_empty() => {}
                Ok(()) => {
                    link.blocked = true;
                    self.interest(index)?;
                }
                Err(error) => self.lose(index, error.to_string(), receiver)?,
            }
        }
        Ok(())
    }

    /// Waits for the sockets, puts the connections that have something to read into `ready`, and answers whether
    /// anything happened before `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<bool> {
        let empty = epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        let mut events = [empty; 64];
        let timeout = timeout.try_into().expect("a wait is not eternal");
        let count = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let (flags, data) = (event.flags, event.data);
            let index = usize::try_from(data.u64()).expect("the data is an index of these links");
            if flags.contains(EventFlags::OUT) {
                self.links[index].blocked = false;
                self.links[index].dirty = true;
                self.interest(index)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                ready.push(index);
            }
        }
        Ok(count > 0)
    }

    /// Reads once from the connection `index`.
    pub(crate) fn read<R: Receiver>(&mut self, index: usize, receiver: &mut R) -> io::Result<()> {
        let link = &mut self.links[index];
        if !link.open {
            return Ok(());
        }
        let lost = match link.socket.read(&mut self.buffer) {
            Ok(0) => Some("closed by the server".to_owned()),
            Ok(length) => {
                receiver.arrived(Instant::now());
                match link.connection.receive(&self.buffer[..length], receiver) {
                    Ok(()) => {
                        link.dirty |= !link.connection.outbound().is_empty();
                        None
                    }
                    Err(error) => Some(error.0.to_owned()),
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                None
            }
            Err(error) => Some(error.to_string()),
        };
        match lost {
            Some(reason) => self.lose(index, reason, receiver),
            None => Ok(()),
        }
    }

    fn lose<R: Receiver>(
        &mut self,
        index: usize,
        reason: String,
        receiver: &mut R,
    ) -> io::Result<()> {
        let link = &mut self.links[index];
        link.open = false;
        let requests = link.connection.lose(&reason, receiver);
        self.losses.push(Loss { reason, requests });
        // Closed sockets stay readable: without this, waiting would return at once for ever.
        Ok(epoll::delete(&self.epoll, &link.socket)?)
    }

    /// Tells the kernel what is awaited of the socket `index`.
    fn interest(&self, index: usize) -> io::Result<()> {
        let link = &self.links[index];
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !link.paused);
        flags.set(EventFlags::OUT, link.blocked);
        let data = EventData::new_u64(index as u64);
        Ok(epoll::modify(&self.epoll, &link.socket, data, flags)?)
    }
}

impl Link {
    /// Writes until all is written or the socket takes no more.
    fn write(&mut self) -> io::Result<()> {
        while !self.connection.outbound().is_empty() {
            match self.socket.write(self.connection.outbound()) {
                Ok(length) => self.connection.wrote(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const READ_BYTES: usize = 256 << 10;
