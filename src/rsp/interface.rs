//! What goes into the machine and what comes out of it.

use crate::rsp::kernel::KernelState;
use crate::rsp::planted::Planted;

/// Whose port kgdb is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// kgdb has the port for itself; a break-in goes through another one.
    Own,
    /// kgdb shares the port with the console.
    Shared,
}

/// What happens to a kernel whose gdb went away without `D` or `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenGdbDies {
    /// It is freed at once (`vmserial debug`).
    Free,
    /// [`Event::KernelLeftStopped`] says so; it is freed at [`Input::Release`] (`vmserial bridge`).
    Report,
}

/// How a machine is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose port it is.
    pub port: PortKind,
    /// Whether there is a way to send BREAK.
    pub can_break: bool,
    /// See [`WhenGdbDies`].
    pub when_gdb_dies: WhenGdbDies,
    /// What an earlier machine on this port had written down (see [`Output::Planted`]).
    pub planted: Planted,
}

impl Config {
    /// Makes the configuration of a port on which nothing was planted before.
    pub fn new(port: PortKind) -> Self {
        Self {
            port,
            can_break: true,
            when_gdb_dies: WhenGdbDies::Report,
            planted: Planted::default(),
        }
    }
}

/// Something that the machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// The target's stream is open.
    TargetUp,
    /// The target's stream ended.
    TargetGone {
        /// Why.
        reason: &'a str,
    },
    /// The driver saw the VM reset; the stream may still be open.
    TargetReset,
    /// The driver says that the VM is paused (`true`) or goes on.
    VmPaused(bool),
    /// Bytes of the target.
    TargetBytes(&'a [u8]),
    /// What the console shows on another port, as far as it is read. Unused on a shared port.
    ConsoleText(&'a [u8]),
    /// gdb's connection is there.
    GdbAttached,
    /// Bytes of gdb.
    GdbBytes(&'a [u8]),
    /// gdb's connection ended.
    GdbDetached,
    /// Somebody asks for a break-in (`vmserial break`).
    BreakRequested,
    /// The BREAK of [`Output::SendBreak`] went out, or could not (the way and the reason).
    BreakSent(Result<(), String>),
    /// Find out whether the kernel is stopped and free it (`vmserial resume`). Answered by [`Output::Released`].
    Resume,
    /// The bridge ends: free what must be freed. Answered by [`Output::Released`] within 4 s.
    Release {
        /// Leave a stopped kernel as it is (`--leave-stopped`).
        leave_stopped: bool,
    },
    /// [`Machine::deadline`](crate::rsp::Machine::deadline) has come.
    Tick,
}

/// Something that the machine wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the target.
    ToTarget(Vec<u8>),
    /// Bytes for gdb.
    ToGdb(Vec<u8>),
    /// Bytes for the consoles (shared port only).
    ToConsole(Vec<u8>),
    /// Bytes of the target that nobody gets, to be counted: answers to our own packets, stops that nobody asked for and,
    /// on a port of kgdb's own, all that comes while no gdb is attached.
    Dropped(usize),
    /// Send a BREAK; answered by [`Input::BreakSent`].
    SendBreak,
    /// Send the SysRq key `g`, to the break port or the target.
    SendBreakKey,
    /// The break-in is over, one way or the other: the break port may be closed.
    BreakInDone,
    /// Close gdb's connection once it has what was written to it before.
    CloseGdb {
        /// Why.
        reason: String,
    },
    /// Hold the consoles' keys back (`true`), or let them through.
    HoldConsole(bool),
    /// Forget the keys that were held (shared port only): the kernel that they were typed for is gone, or stays stopped.
    ForgetKeys,
    /// Write this down before doing what follows: it is what frees the kernel if this process is killed.
    Planted(Planted),
    /// Tell everybody.
    Event(Event),
    /// [`Input::Release`] or [`Input::Resume`] is done.
    Released(Freed),
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What is known of the kernel changed.
    Kernel(KernelState),
    /// The kernel that gdb talked to is gone; gdb is answered by us until it leaves.
    KernelGone {
        /// How that was seen.
        reason: String,
    },
    /// The kernel stands still and no debugger is there to let it go on.
    KernelLeftStopped,
    /// gdb was turned away.
    GdbRefused {
        /// Why.
        reason: String,
    },
    /// gdb's bytes are held: the kernel neither answers nor echoes.
    GdbHeld {
        /// What is waited for.
        reason: String,
    },
    /// How a break-in went.
    Break(BreakResult),
}

/// How a break-in went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakResult {
    /// The kernel stopped.
    Stopped,
    /// The kernel was stopped already, nothing was sent.
    AlreadyStopped,
    /// BREAK and `g` went out, and no sign of a stop came back.
    NoStop,
    /// BREAK could not be sent (the way and the reason).
    Failed(String),
}

/// What became of the kernel at [`Input::Release`] or [`Input::Resume`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freed {
    /// It was stopped, or had breakpoints planted, and runs without them now.
    Freed,
    /// It ran with nothing planted, as far as is known: it was left alone.
    LeftAlone,
    /// It was left stopped, as asked for.
    LeftStopped,
    /// The target is away: there is nothing to free.
    TargetAway,
    /// It could not be freed.
    Failed {
        /// What was tried and what came back.
        reason: String,
    },
}
