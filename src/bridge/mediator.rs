//! The place where a debug protocol's policy plugs into the engine: it sees all bytes and decides what passes.
//!
//! The engine owns streams, timers and the break-in's means; a mediator owns the protocol. It is a pure state machine
//! behind two calls: inputs come with the time, outputs are done in their order.

use crate::bridge::event::{Event, KernelState};
use std::time::Instant;

/// What a mediator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// The target's stream is open.
    TargetUp,
    /// The target's stream ended.
    TargetDown {
        /// Why.
        reason: &'a str,
    },
    /// The driver saw the VM reset; the stream may still be open.
    TargetReset,
    /// The driver says that the VM is paused (`true`) or goes on.
    TargetPaused(bool),
    /// Bytes of the target.
    FromTarget(&'a [u8]),
    /// The debugger's connection is there.
    DebuggerAttached,
    /// The debugger's connection ended.
    DebuggerDetached,
    /// Bytes of the debugger.
    FromDebugger(&'a [u8]),
    /// What the console's own port shows, as far as it is read (by a break-in, or told by
    /// [`BridgeHandle::console_text`](crate::bridge::BridgeHandle::console_text)): signs of a stop or of a new boot.
    ConsoleText(&'a [u8]),
    /// Somebody asks for a break-in (`vmserial break`, the session).
    BreakIn,
    /// The BREAK of [`Output::SendBreak`] went out (`Ok`: the way), or could not (`Err`: way and reason in one text).
    BreakSent(Result<&'a str, &'a str>),
    /// Free the kernel now, whatever the debugger does (`vmserial resume`). Answered by [`Output::Released`].
    Release,
    /// The bridge ends: free what must be freed. Answered by [`Output::Released`] within 4 s.
    End,
    /// [`Mediator::deadline`] has come.
    Tick,
}

/// What a mediator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the target.
    ToTarget(Vec<u8>),
    /// Bytes for the debugger.
    ToDebugger(Vec<u8>),
    /// Send a BREAK by the configured means (opening the break port if there is one); answered by [`Input::BreakSent`].
    SendBreak,
    /// The SysRq key after the BREAK, to the break port or the target.
    SendSysRq(u8),
    /// The break-in is over (stop seen or given up): the break port is closed.
    BreakInDone,
    /// Close the debugger's connection once it has what was written to it before.
    CloseDebugger {
        /// Why, for `client_detached`.
        reason: String,
    },
    /// Tell everybody.
    Event(Event),
    /// What [`Input::Release`] or [`Input::End`] asked for is done (`Ok`: what was done) or failed.
    Released(Result<String, String>),
}

/// A debug protocol's policy.
pub trait Mediator: Send {
    /// Takes an input and appends what follows from it. `now` never goes back.
    fn handle(&mut self, now: Instant, input: Input<'_>, outputs: &mut Vec<Output>);

    /// Returns when [`Input::Tick`] is due, if ever.
    fn deadline(&self) -> Option<Instant>;

    /// Returns what is known of the kernel, for `status`.
    fn kernel(&self) -> KernelState;

    /// Tells whether bytes pass without being looked at from now on (a target that answered `QStartNoAckMode`).
    fn is_transparent(&self) -> bool {
        false
    }
}
