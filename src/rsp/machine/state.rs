//! The parts of the machine's state.

use crate::rsp::request::Request;
use std::time::Instant;

/// The gdb that is attached.
#[derive(Debug, Default)]
pub(super) struct Gdb {
    /// It has sent something.
    pub spoken: bool,
    /// Its packets pass while the kernel is stopped. Before that they are held and we find out.
    pub let_through: bool,
    /// Its first packet went out on what was known of the kernel, and has no acknowledgement yet.
    pub trusting: bool,
    /// Its newest packet that has not gone out.
    pub held: Option<Vec<u8>>,
    /// It told the kernel to run and waits for the stop.
    pub waits: bool,
    /// It asked for a repeat of the last packet.
    pub wants_repeat: bool,
    /// The kernel that it talked to is gone: it is answered by us.
    pub gone: bool,
    /// Our last answer, in case it asks for a repeat.
    pub answer: Vec<u8>,
}

/// A packet of gdb's on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub packet: Vec<u8>,
    pub request: Request,
    pub at: Instant,
    pub acknowledged: bool,
}

/// A packet of ours on its way.
#[derive(Debug)]
pub(super) struct Ours {
    pub packet: Vec<u8>,
    pub acknowledged: bool,
    /// How often kgdb asked for it again.
    pub refused: u8,
}

/// Recognises our own bytes coming back: a tty's echo.
#[derive(Debug)]
pub(super) struct Echo {
    pattern: Vec<u8>,
    matched: usize,
}

impl Echo {
    /// ttys wrap long lines, so the packet's start is enough.
    const ENOUGH: usize = 20;

    pub fn of(packet: &[u8]) -> Self {
        Self {
            pattern: packet[..packet.len().min(Self::ENOUGH)].to_vec(),
            matched: 0,
        }
    }

    /// Takes one byte; true when the pattern is whole. The pattern has its only `$` in front.
    pub fn feed(&mut self, byte: u8) -> bool {
        if self.pattern.get(self.matched) == Some(&byte) {
            self.matched += 1;
        } else {
            self.matched = usize::from(byte == b'$');
        }
        let whole = self.matched == self.pattern.len();
        if whole {
            self.matched = 0;
        }
        whole
    }
}

/// Why we talk to the kernel ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// gdb's held packet is to be let through.
    Attach,
    /// The kernel is to be freed.
    Free(FreeFor),
    /// A kernel has stopped that does not know our gdb: is it a new one?
    NewKernel,
    /// The console of a stopped kernel shows text: is the kernel still there?
    Verify,
}

/// Who wants the kernel freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FreeFor {
    /// gdb died.
    Death,
    /// `vmserial resume`.
    Resume,
    /// The end of the bridge.
    End,
}

/// Where we stand with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A dead gdb's packet is on its way: its acknowledgement tells.
    AwaitAck,
    /// `$?#3f` went out.
    Probe,
    /// BREAK and `g` are on their way.
    BreakIn,
    /// `g` went out: a sign, or the late answer to the probe, is the proof.
    Late,
    /// Proof is there: quiet, until late answers have come.
    Settle,
    /// `$Hg0#df` went out: the current thread, whatever a dead gdb had selected.
    SelectThread,
    /// `$p10#d1` went out: the program counter.
    ReadCounter,
    /// `$g#67` went out: kgdb knows no `p`.
    ReadRegisters,
    /// `$P10=…` went out.
    WriteCounter,
    /// `$D#44` went out.
    Detach,
    /// gdb's packet went out without proof.
    LetGo,
    /// gdb's packets are held until a stop shows.
    Hold,
    /// `$qC#b4` went out, which changes nothing.
    Verify,
}

/// What we are about.
#[derive(Debug)]
pub(super) struct Errand {
    pub goal: Goal,
    pub step: Step,
    pub until: Option<Instant>,
    /// Probes that were sent.
    pub probes: u8,
    /// A probe came back as it was: no late answer can come.
    pub echoed: bool,
    /// A break-in was tried.
    pub broke: bool,
    /// When settling ends, however noisy it is.
    pub settle_by: Option<Instant>,
}

impl Errand {
    pub fn new(goal: Goal) -> Self {
        Self {
            goal,
            step: Step::Probe,
            until: None,
            probes: 0,
            echoed: false,
            broke: false,
            settle_by: None,
        }
    }

    pub fn is_free(&self) -> bool {
        matches!(self.goal, Goal::Free(_))
    }
}

/// How far a break-in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakStep {
    /// The kernel was let run a moment ago: BREAK would be lost.
    Holding,
    /// BREAK was asked for.
    Sending,
    /// BREAK is out; `g` follows.
    Pausing,
    /// `g` is out.
    Waiting,
}

/// A break-in on its way.
#[derive(Debug)]
pub(super) struct BreakIn {
    pub step: BreakStep,
    pub until: Option<Instant>,
    /// Somebody asked for it (`vmserial break`): a stop is what was wanted, gdb or not.
    pub asked: bool,
    /// It is tried for the second time.
    pub again: bool,
    /// SysRq has answered: BREAK and key were heard.
    pub heard: bool,
}

impl BreakIn {
    /// The key that follows a BREAK is taken as SysRq; before the BREAK goes out all may type.
    pub fn holds_keys(&self) -> bool {
        self.step != BreakStep::Holding
    }
}

/// A stop that our gdb's kernel would have told otherwise: a new kernel, or somebody reads old messages.
#[derive(Debug)]
pub(super) struct Doubt {
    pub until: Instant,
    /// Said by kdb: its prompt is the proof.
    pub kdb: bool,
}
