//! One direction into one stream: bytes go straight through; only what the stream did not take is stored.

use crate::bridge::channel::Channel;
use std::io;
use std::task::{Context, Poll};

/// Capacity that an emptied rest keeps: more is given back, because a stall is rare and a port lives for days.
const KEPT_CAPACITY: usize = 4 << 10;

/// What a stream did not take yet.
#[derive(Debug, Default)]
pub struct Rest {
    bytes: Vec<u8>,
    written: usize,
}

impl Rest {
    /// Tells whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns how many bytes are owed.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Returns what is owed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Adds bytes behind what is owed already.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets everything; returns how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let owed = self.len();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.written = 0;
        owed
    }

    /// Writes what is owed. Ready when nothing is; returns how many bytes went out in this call.
    pub fn poll_write(
        &mut self,
        channel: &mut Channel,
        context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        let mut count = 0;
        while self.written < self.bytes.len() {
            match channel.poll_write_some(context, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => return (count, Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => {
                    self.written += written;
                    count += written;
                }
                Poll::Ready(Err(error)) => return (count, Poll::Ready(Err(error))),
                Poll::Pending => return (count, Poll::Pending),
            }
        }
        self.clear();
        (count, Poll::Ready(Ok(())))
    }

    /// Writes `bytes` after what is owed and keeps what the stream does not take. Returns how many bytes went out.
    ///
    /// # Errors
    ///
    /// The stream's error; what was not written is then owed still.
    pub fn forward(
        &mut self,
        channel: &mut Channel,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> (usize, io::Result<()>) {
        let mut written = 0;
        if self.is_empty() {
            while written < bytes.len() {
                match channel.poll_write_some(context, &bytes[written..]) {
                    Poll::Ready(Ok(0)) => {
                        self.push(&bytes[written..]);
                        return (written, Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => {
                        self.push(&bytes[written..]);
                        return (written, Err(error));
                    }
                    Poll::Pending => break,
                }
            }
        }
        self.push(&bytes[written..]);
        (written, Ok(()))
    }
}
