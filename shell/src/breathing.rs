//! A stream that lets others have a turn: a long answer must not keep its connection thread for itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

/// Pauses for one turn of the thread each time it has yielded so many bytes without a pause.
pub(crate) struct Breathing<S: Stream> {
    stream: S,
    weigh: fn(&S::Item) -> usize,
    bytes: usize,
}

/// A fraction of a millisecond of encoding.
const BYTES_PER_TURN: usize = 128 << 10;

impl<S: Stream> Breathing<S> {
    /// `weigh` tells the bytes of an item.
    pub(crate) fn new(stream: S, weigh: fn(&S::Item) -> usize) -> Self {
        Self {
            stream,
            weigh,
            bytes: 0,
        }
    }
}

impl<S: Stream + Unpin> Stream for Breathing<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.bytes >= BYTES_PER_TURN {
            self.bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.stream).poll_next(cx);
        match &next {
            Poll::Ready(Some(item)) => self.bytes += (self.weigh)(item),
            _ => self.bytes = 0,
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::stream;

    use super::*;

    #[test]
    fn it_pauses_after_a_turns_bytes_and_loses_nothing() {
        let items = stream::iter(vec![BYTES_PER_TURN / 2; 5]);
        let mut breathing = Breathing::new(items, |bytes| *bytes);
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        loop {
            match Pin::new(&mut breathing).poll_next(&mut cx) {
                Poll::Ready(Some(_)) => seen.push('i'),
                Poll::Pending => seen.push('.'),
                Poll::Ready(None) => break,
            }
        }
        assert_eq!(seen.iter().collect::<String>(), "ii.ii.i");
    }
}
