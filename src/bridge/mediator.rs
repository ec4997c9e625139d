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
    /// Somebody asks for a break-in (`vmserial break`, the session). Answered by [`Output::BrokeIn`].
    BreakIn,
    /// The BREAK of [`Output::SendBreak`] went out (`Ok`: the way), or could not (`Err`: why).
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
    /// Bytes for the consoles of a shared port.
    ToConsole(Vec<u8>),
    /// Bytes of the target that nobody gets, to be counted.
    Dropped(usize),
    /// Keep what consoles type (`true`), or let it go to the target.
    HoldConsole(bool),
    /// Forget what consoles typed and was kept: the kernel that it was meant for is gone.
    ForgetKeys,
    /// Send a BREAK by the configured means (opening the break port if there is one); answered by [`Input::BreakSent`].
    SendBreak,
    /// The SysRq key after the BREAK, to the break port or the target.
    SendSysRq(u8),
    /// The break-in is over (stop seen or given up): the break port is closed.
    BreakInDone,
    /// How a break-in went, whoever asked for it.
    BrokeIn {
        /// The way of BREAK.
        way: String,
        /// Whether a stop was seen, or why BREAK could not be sent.
        result: Result<&'static str, String>,
    },
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

/// What happens when the debugger's connection does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// The target is held back.
    HoldTarget,
    /// What comes while this many bytes wait is dropped and counted.
    DropNewest(usize),
    /// The debugger is disconnected once more than this many bytes wait for it.
    Disconnect(usize),
}

/// A debug protocol's policy.
pub trait Mediator: Send {
    /// Takes an input and appends what follows from it. `now` never goes back.
    fn handle(&mut self, now: Instant, input: Input<'_>, outputs: &mut Vec<Output>);

    /// Returns when [`Input::Tick`] is due, if ever.
    fn deadline(&self) -> Option<Instant>;

    /// Returns what is known of the kernel, for `status`.
    fn kernel(&self) -> KernelState;

    /// Tells whether consoles share the port with the debugger: the target's text is theirs, in a history, and they type.
    fn has_consoles(&self) -> bool {
        false
    }

    /// Says what happens when the debugger does not keep up.
    fn lag(&self) -> Lag {
        Lag::HoldTarget
    }

    /// Tells whether bytes pass without being looked at from now on (a target that answered `QStartNoAckMode`).
    fn is_transparent(&self) -> bool {
        false
    }
}
