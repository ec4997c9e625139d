//! What is on its way to the target or to a client: pages in a pipe first, then bytes.

use crate::bridge::channel::Channel;
use crate::bridge::pump::Rest;
use crate::bridge::sys::Splice;
use std::io;
use std::task::{Context, Poll};

/// A chunk of this size or less ends bulk: copying is cheaper then.
const SMALL: usize = 32 << 10;

/// Bytes that a stream did not take yet, in their order.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Made at the first bulk.
    pipe: Option<Splice>,
    rest: Rest,
    /// The last chunk was full: the next goes without copying.
    bulk: bool,
    /// The system cannot move bytes so between these streams.
    never_bulk: bool,
}

impl Outbound {
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.inside() == 0
    }

    fn inside(&self) -> usize {
        self.pipe.as_ref().map_or(0, Splice::inside)
    }

    pub fn len(&self) -> usize {
        self.rest.len() + self.inside()
    }

    /// Returns the bytes that are not in the pipe; there is none where lines are added.
    pub fn bytes(&self) -> &[u8] {
        self.rest.bytes()
    }

    /// Takes out what the stream will not get any more. Bytes in a pipe that cannot be read again are lost.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = self
            .pipe
            .as_mut()
            .and_then(|pipe| pipe.take_out().ok())
            .unwrap_or_default();
        bytes.extend_from_slice(self.rest.bytes());
        self.clear();
        bytes
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.push(bytes);
    }

    /// Forgets everything; returns how many bytes that were. The next stream may be of another kind.
    pub fn clear(&mut self) -> usize {
        let owed = self.len();
        self.pipe = None;
        self.bulk = false;
        self.never_bulk = false;
        self.rest.clear();
        owed
    }

    /// Notes how big a chunk was, out of how much room for it.
    pub fn saw_chunk(&mut self, count: usize, room: usize) {
        self.bulk = count == room && !self.never_bulk;
    }

    /// Writes what is owed. Ready when nothing is; returns how many bytes went out in this call.
    pub fn poll_write(
        &mut self,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        let mut total = 0;
        if self.inside() > 0 {
            let (count, result) = self.poll_empty(channel, context);
            total = count;
            match result {
                Poll::Ready(Ok(())) => {}
                other => return (total, other),
            }
        }
        let (count, result) = self.rest.poll_write(channel, context);
        (total + count, result)
    }

    fn poll_empty(
        &mut self,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        let (Some(pipe), Some(stream)) = (&mut self.pipe, channel.native_stream()) else {
            return (0, Poll::Ready(Ok(())));
        };
        match pipe.poll_empty(stream, context) {
            (0, Poll::Ready(Err(error))) if error.kind() == io::ErrorKind::InvalidInput => {
                self.never_bulk = true;
                self.bulk = false;
                let result = pipe.take_out().map(|mut bytes| {
                    bytes.extend_from_slice(self.rest.bytes());
                    self.rest.clear();
                    self.rest.push(&bytes);
                });
                (0, Poll::Ready(result))
            }
            other => other,
        }
    }

    /// Writes `bytes` after what is owed and keeps what the target does not take. Returns how many bytes went out.
    pub fn forward(
        &mut self,
        channel: &mut Channel,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> (usize, io::Result<()>) {
        if self.inside() > 0 {
            self.rest.push(bytes);
            return (0, Ok(()));
        }
        self.rest.forward(channel, context, bytes)
    }

    /// Takes a big chunk of the other side without copying. `None` if this is not the time or not possible: read it then.
    pub fn poll_take(
        &mut self,
        from: &mut Channel,
        to: &mut Channel,
        context: &mut Context<'_>,
    ) -> Option<Poll<io::Result<usize>>> {
        if !self.bulk || !self.is_empty() {
            return None;
        }
        let (Some(source), Some(sink)) = (from.native_stream(), to.native_stream()) else {
            self.never_bulk = true;
            self.bulk = false;
            return None;
        };
        if self.pipe.is_none() {
            self.pipe = Splice::can_join(source, sink)
                .then(|| Splice::new().ok())
                .flatten();
        }
        let Some(pipe) = &mut self.pipe else {
            self.never_bulk = true;
            self.bulk = false;
            return None;
        };
        let result = pipe.poll_fill(source, context);
        match &result {
            Poll::Ready(Ok(count)) => self.bulk = *count > SMALL,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.never_bulk = true;
                self.bulk = false;
                return None;
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        Some(result)
    }
}
