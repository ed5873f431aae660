//! A socket that writes once per turn of its connection, however many answers the turn produced.
//!
//! The HTTP/2 layer flushes after every answer of a few hundred bytes, which costs a system call, a segment
//! and a wake-up of the client each. Here its writes and flushes go to a buffer; the buffer goes to the socket
//! when the connection has done all it can for now.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes kept back at most; with more, writing waits for the socket.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// The connection's end of the socket; cloning gives another handle on the same socket.
#[derive(Clone)]
pub(crate) struct Coalesced(Arc<Mutex<Socket>>);

struct Socket {
    io: TokioIo<TcpStream>,
    buffer: Vec<u8>,
    /// How much of the buffer is written.
    written: usize,
}

impl Coalesced {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Mutex::new(Socket {
            io: TokioIo::new(stream),
            buffer: Vec::new(),
            written: 0,
        })))
    }

    /// Runs a connection that uses this socket: after each of its turns, what it wrote goes out.
    pub(crate) async fn drive<T>(self, connection: impl Future<Output = T>) -> T {
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            let turn = connection.as_mut().poll(cx);
            // An error shows again at the connection's own next read or write, which ends it.
            let _ = self.lock().write_out(cx);
            turn
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Socket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    fn waiting(&self) -> usize {
        self.buffer.len() - self.written
    }

    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self.write_what_is_taken(cx);
        self.forget_written();
        done
    }

    fn write_what_is_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let written =
                ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        Poll::Ready(Ok(()))
    }

    /// Drops what is written once it is the larger part: a client that never takes all must not make the buffer grow,
    /// and so no more bytes are moved than were written.
    fn forget_written(&mut self) {
        if self.waiting() > self.written {
            return;
        }
        self.buffer.drain(..self.written);
        self.written = 0;
        // A burst of large answers must not hold its memory for as long as the connection lives.
        if self.buffer.is_empty() && self.buffer.capacity() >= BUFFER_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }

    /// Makes room for more, waiting for the socket if too much is kept back already.
    fn make_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting() < BUFFER_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.write_out(cx)
    }
}

impl Read for Coalesced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_read(cx, buf)
    }
}

impl Write for Coalesced {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.lock();
        ready!(socket.make_room(cx))?;
        socket.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.lock();
        ready!(socket.make_room(cx))?;
        let mut taken = 0;
        for part in parts {
            socket.buffer.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done at the end of the turn, see [`Coalesced::drive`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.lock();
        ready!(socket.write_out(cx))?;
        Pin::new(&mut socket.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn write(socket: &mut Coalesced, bytes: &[u8]) {
        let mut written = 0;
        while written < bytes.len() {
            let part = &bytes[written..bytes.len().min(written + 1000)];
            written += poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, part))
                .await
                .expect("a live socket");
        }
    }

    async fn pair() -> (Coalesced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (Coalesced::new(server), client)
    }

    #[tokio::test]
    async fn nothing_leaves_before_the_turn_ends_and_everything_after() {
        let (mut socket, mut client) = pair().await;
        write(&mut socket, b"kept back").await;
        let mut bytes = [0; 9];
        let early = tokio::time::timeout(
            std::time::Duration::from_millis(20),
            client.read_exact(&mut bytes),
        )
        .await;
        assert!(early.is_err());
        socket.clone().drive(async {}).await;
        client.read_exact(&mut bytes).await.expect("the bytes");
        assert_eq!(&bytes, b"kept back");
    }

    #[tokio::test]
    async fn more_than_the_buffer_holds_arrives_whole_and_in_order() {
        let (mut socket, mut client) = pair().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.expect("the bytes");
            received
        });
        socket
            .clone()
            .drive(async { write(&mut socket, &sent).await })
            .await;
        poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx))
            .await
            .expect("a clean end");
        assert!(reader.await.expect("no panic") == expected);
    }

    /// A pair whose socket takes only a little at a time, as that of a client far away does.
    async fn narrow_pair() -> (Coalesced, TcpStream) {
        let listener = TcpSocket::new_v4().expect("a socket");
        listener.set_send_buffer_size(16 << 10).expect("an option");
        listener
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("a port");
        let listener = listener.listen(1).expect("a listener");
        let client = TcpSocket::new_v4().expect("a socket");
        client.set_recv_buffer_size(16 << 10).expect("an option");
        let client = client
            .connect(listener.local_addr().expect("bound"))
            .await
            .expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (Coalesced::new(server), client)
    }

    #[tokio::test]
    async fn a_client_that_always_takes_part_and_never_all_does_not_make_the_buffer_grow() {
        const TURN_BYTES: usize = 4 << 10;
        let (mut socket, client) = narrow_pair().await;
        write(&mut socket, &vec![0; 200 << 10]).await;
        let (mut received, mut most) = (0, 0);
        let mut bytes = vec![0; TURN_BYTES];
        while received < 8 * BUFFER_BYTES_MAX {
            poll_fn(|cx| {
                // One turn: some is taken, and as much comes after it.
                let _ = socket.lock().write_out(cx);
                let _ = Pin::new(&mut socket).poll_write(cx, &[1; TURN_BYTES]);
                Poll::Ready(())
            })
            .await;
            assert!(socket.lock().waiting() > 0, "the client is behind");
            most = most.max(socket.lock().buffer.len());
            match client.try_read(&mut bytes) {
                Ok(taken) => received += taken,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
            tokio::task::yield_now().await;
        }
        assert!(
            most < 3 * BUFFER_BYTES_MAX,
            "{most} bytes are held back after the client took {received}"
        );
    }
}
