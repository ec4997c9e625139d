//! What a stream has beside its bytes: BREAK and modem lines.
//!
//! A VM's end that is telnet, RFC 2217 or a terminal device takes a BREAK by itself ([`ControlledStream::poll_break`]).
//! A client's end that is telnet or RFC 2217 asks for one inside its stream ([`ControlledStream::take_request`]).

use crate::bridge::channel::ByteStream;
use crate::model::NativeBreak;
use std::io;
use std::task::{Context, Poll};

/// What the other side of a stream asks for beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRequest {
    /// Send a BREAK.
    Break,
    /// Raise or drop lines.
    SetLines(LineChange),
}

/// Lines of our side to raise (`true`) or to drop; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineChange {
    /// Data terminal ready.
    pub dtr: Option<bool>,
    /// Request to send.
    pub rts: Option<bool>,
}

/// A byte stream with a control.
pub trait ControlledStream: ByteStream {
    /// Returns the kinds of BREAK that can be sent, the best first; empty if there is none.
    fn native_breaks(&self) -> &'static [NativeBreak];

    /// Sends one BREAK behind the bytes that were written already; called again until it is ready. Nothing is written
    /// meanwhile, and the deadline is the caller's: one that is given up is started anew by the next call.
    ///
    /// # Errors
    ///
    /// The stream's. `Unsupported` for a kind that it does not have.
    fn poll_break(&mut self, by: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes what the other side asked for at this place of its stream. To be called after each read, also after one
    /// that gave nothing: bytes behind a request are not read before it was taken, and nobody is woken for it.
    fn take_request(&mut self) -> Option<ControlRequest> {
        None
    }

    /// Raises or drops lines.
    ///
    /// # Errors
    ///
    /// The stream's. `Unsupported` where there are no lines.
    fn set_lines(&mut self, change: LineChange) -> io::Result<()> {
        let _ = change;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells, after the end of input, whether the peer has closed its other direction too, as far as that is known.
    fn peer_is_gone(&self) -> bool {
        false
    }

    /// Says why the input ended, where more is known than that it did.
    fn end_reason(&self) -> Option<String> {
        None
    }
}
