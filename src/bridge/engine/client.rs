//! One attached client.

use super::outbound::Outbound;
use crate::bridge::channel::Channel;
use crate::bridge::handle::{ClientId, ClientStatus};
use crate::bridge::history::History;
use std::io;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// A skipping console goes on this far before the end, so that it does not skip again at once while it is flooded.
const RESUME_BEHIND: u64 = 1 << 20;

/// An attached client.
#[derive(Debug)]
pub(super) struct Client {
    pub id: ClientId,
    /// Index of its endpoint from 1; 0 is the control socket.
    pub slot: usize,
    pub peer: String,
    pub channel: Channel,
    /// Whether its bytes go to the target.
    pub writes: bool,
    /// It would write if the one writer did not.
    pub waits_to_write: bool,
    /// Bytes of its own: what it did not take, replies, added lines.
    pub rest: Outbound,
    /// Where it reads the history; `None` outside the console policy.
    pub cursor: Option<u64>,
    /// Its input ended; it may still read.
    pub input_ended: bool,
    /// When to look again whether a half-closed peer is gone altogether.
    pub look_again: Option<Instant>,
    /// It is detached for this reason once it has its rest.
    pub closing: Option<String>,
    /// It takes nothing any more, for this reason; what it said before is still being read.
    pub output_broken: Option<String>,
    /// It was told that its input is refused while the target is away.
    pub told_away: bool,
    /// It was told that its input is held while the kernel is stopped.
    pub told_held: bool,
    /// What it has typed and was not read yet was for a kernel that is gone.
    pub forgets_input: bool,
    /// Its output was ended (half-close passed on).
    pub output_ended: bool,
    last_byte: u8,
    pub sent: u64,
    pub received: u64,
    pub skipped: u64,
}

impl Client {
    pub fn new(id: ClientId, slot: usize, channel: Channel, writes: bool, cursor: Option<u64>) -> Self {
        Self {
            id,
            slot,
            peer: channel.facts().peer.clone(),
            channel,
            writes,
            waits_to_write: false,
            rest: Outbound::default(),
            cursor,
            input_ended: false,
            look_again: None,
            closing: None,
            output_broken: None,
            told_away: false,
            told_held: false,
            forgets_input: false,
            output_ended: false,
            last_byte: b'\n',
            sent: 0,
            received: 0,
            skipped: 0,
        }
    }

    /// Tells whether it is one of any number; else it has the policy's only place.
    pub fn is_console(&self) -> bool {
        self.cursor.is_some()
    }

    /// Adds a line of ours, on a line of its own.
    pub fn add_line(&mut self, text: &str) {
        let before = self.rest.bytes().last().copied().unwrap_or(self.last_byte);
        if before != b'\n' {
            self.rest.push(b"\r\n");
        }
        self.rest.push(text.as_bytes());
        self.rest.push(b"\r\n");
    }

    /// Tells whether it has everything that is meant for it.
    pub fn is_up_to_date(&self, history: Option<&History>) -> bool {
        if self.output_broken.is_some() {
            return true;
        }
        self.rest.is_empty()
            && match (self.cursor, history) {
                (Some(cursor), Some(history)) => cursor == history.end(),
                _ => true,
            }
    }

    /// Writes what is meant for it. Returns how many bytes it took and what it skipped.
    ///
    /// # Errors
    ///
    /// The stream's: the client is gone.
    pub fn write_out(
        &mut self,
        context: &mut Context<'_>,
        history: Option<&History>,
    ) -> io::Result<(usize, Option<u64>)> {
        let mut total = 0;
        let mut skipped = None;
        loop {
            if !self.rest.is_empty() {
                let last = self.rest.bytes().last().copied();
                let (count, result) = self.rest.poll_write(&mut self.channel, context);
                total += count;
                self.sent += count as u64;
                match result {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return Ok((total, skipped)),
                }
                self.last_byte = last.unwrap_or(self.last_byte);
            }
            let (Some(cursor), Some(history)) = (self.cursor, history) else {
                return Ok((total, skipped));
            };
            let mut piece = history.piece(cursor);
            if piece.skipped > 0 {
                let from = piece.offset.max(history.end().saturating_sub(RESUME_BEHIND));
                piece = history.piece(from);
                let bytes = from - cursor;
                self.skipped += bytes;
                skipped = Some(skipped.unwrap_or(0) + bytes);
                self.cursor = Some(from);
                self.add_line(&format!("[vmserial: {bytes} bytes skipped]"));
                continue;
            }
            if piece.bytes.is_empty() {
                return Ok((total, skipped));
            }
            match self.channel.poll_write_some(context, piece.bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.last_byte = piece.bytes[count - 1];
                    self.cursor = Some(cursor + count as u64);
                    self.sent += count as u64;
                    total += count;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok((total, skipped)),
            }
        }
    }

    pub fn status(&self) -> ClientStatus {
        ClientStatus {
            connection: self.id,
            client: self.slot,
            peer: self.peer.clone(),
            writes: self.writes,
            waits_to_write: self.waits_to_write,
            sent: self.sent,
            received: self.received,
            skipped: self.skipped,
        }
    }
}
