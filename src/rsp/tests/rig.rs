//! The machine between a test's gdb and the simulated kgdb, with a clock of its own.

use super::sim::Sim;
use crate::rsp::framing::packet;
use crate::rsp::{Config, Event, Freed, Input, KernelState, Machine, Output, Planted, PortKind, WhenGdbDies};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub struct Rig {
    pub machine: Machine,
    pub sim: Sim,
    pub now: Instant,
    /// What gdb has received and no test has looked at.
    pub gdb: Vec<u8>,
    pub console: Vec<u8>,
    pub dropped: usize,
    pub events: Vec<Event>,
    pub planted: Planted,
    pub closed: Option<String>,
    pub released: Vec<Freed>,
    pub held: bool,
    /// How often held keys were to be forgotten.
    pub forgotten: usize,
    pub breaks: usize,
    pub keys: usize,
    /// Whether BREAK can be sent.
    pub break_works: bool,
    /// Whether the console's own port is read.
    pub console_seen: bool,
    /// How the target's bytes are cut.
    pub chunk: usize,
    /// All that went to the target.
    pub to_target: Vec<u8>,
}

impl Rig {
    pub fn new(port: PortKind, change: impl FnOnce(&mut Config)) -> Self {
        Self::with(Sim::new(port == PortKind::Shared), port, change)
    }

    /// A machine that finds a kernel as it is.
    pub fn with(sim: Sim, port: PortKind, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(port);
        change(&mut config);
        let planted = config.planted.clone();
        let mut rig = Self {
            machine: Machine::new(config),
            sim,
            now: Instant::now(),
            gdb: Vec::new(),
            console: Vec::new(),
            dropped: 0,
            events: Vec::new(),
            planted,
            closed: None,
            released: Vec::new(),
            held: false,
            forgotten: 0,
            breaks: 0,
            keys: 0,
            break_works: true,
            console_seen: true,
            chunk: usize::MAX,
            to_target: Vec::new(),
        };
        rig.input(Input::TargetUp);
        rig
    }

    /// A port of kgdb's own, whose dead gdbs are reported.
    pub fn own() -> Self {
        Self::new(PortKind::Own, |_| {})
    }

    pub fn shared() -> Self {
        Self::new(PortKind::Shared, |_| {})
    }

    pub fn freeing(port: PortKind) -> Self {
        Self::new(port, |config| config.when_gdb_dies = WhenGdbDies::Free)
    }

    pub fn input(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.machine.handle(self.now, input, &mut outputs);
        let mut queue: VecDeque<Output> = outputs.into();
        loop {
            while let Some(output) = queue.pop_front() {
                let mut more = Vec::new();
                self.perform(output, &mut more);
                queue.extend(more);
            }
            if !self.sim.out.is_empty() {
                let bytes = std::mem::take(&mut self.sim.out);
                for chunk in bytes.chunks(self.chunk) {
                    let mut more = Vec::new();
                    self.machine
                        .handle(self.now, Input::TargetBytes(chunk), &mut more);
                    queue.extend(more);
                }
            } else if !self.sim.console.is_empty() {
                let text = std::mem::take(&mut self.sim.console);
                if self.console_seen {
                    let mut more = Vec::new();
                    self.machine
                        .handle(self.now, Input::ConsoleText(&text), &mut more);
                    queue.extend(more);
                }
            } else if queue.is_empty() {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output, more: &mut Vec<Output>) {
        match output {
            Output::ToTarget(bytes) => {
                self.to_target.extend_from_slice(&bytes);
                self.sim.receive(&bytes);
            }
            Output::ToGdb(bytes) => self.gdb.extend(bytes),
            Output::ToConsole(bytes) => self.console.extend(bytes),
            Output::Dropped(count) => self.dropped += count,
            Output::SendBreak => {
                self.breaks += 1;
                let result = if self.break_works {
                    self.sim.send_break();
                    Ok(())
                } else {
                    Err("qmp: no answer within 500 ms".to_owned())
                };
                self.machine.handle(self.now, Input::BreakSent(result), more);
            }
            Output::SendBreakKey => {
                self.keys += 1;
                self.sim.break_key();
            }
            Output::BreakInDone => {}
            Output::CloseGdb { reason } => {
                self.closed = Some(reason);
                self.machine.handle(self.now, Input::GdbDetached, more);
            }
            Output::HoldConsole(hold) => self.held = hold,
            Output::ForgetKeys => self.forgotten += 1,
            Output::Planted(planted) => self.planted = planted,
            Output::Event(event) => self.events.push(event),
            Output::Released(freed) => self.released.push(freed),
        }
    }

    /// Lets time go by, with every deadline on the way.
    pub fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.input(Input::Tick);
        while let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) {
            self.now = deadline.max(self.now);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub fn wait_ms(&mut self, milliseconds: u64) {
        self.wait(Duration::from_millis(milliseconds));
    }

    /// gdb sends a packet. Returns what it got for it at once.
    pub fn ask(&mut self, data: &str) -> String {
        self.input(Input::GdbBytes(&packet(data.as_bytes())));
        self.heard()
    }

    /// gdb sends a packet and acknowledges the reply.
    pub fn talk(&mut self, data: &str) -> String {
        let heard = self.ask(data);
        if heard.contains('$') {
            self.input(Input::GdbBytes(b"+"));
        }
        heard
    }

    /// What gdb got since the last look.
    pub fn heard(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.gdb)).into_owned()
    }

    /// gdb attaches to a kernel and gets its first answer, whatever must be done for that.
    pub fn attach(&mut self) {
        self.input(Input::GdbAttached);
        self.input(Input::GdbBytes(b"+"));
        self.input(Input::GdbBytes(&packet(b"qSupported:xmlRegisters=i386")));
        self.wait_ms(1700);
        assert_eq!(self.heard(), "+$#00");
        self.input(Input::GdbBytes(b"+"));
        assert_eq!(self.talk("?"), "+$S05#b8");
    }

    pub fn kernel(&self) -> KernelState {
        self.machine.kernel()
    }

    pub fn has(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}
