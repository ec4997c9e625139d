//! Runs one debug session over bridges that are up: break in, debugger, free the kernel.

use crate::bridge::{BridgeHandle, Event, KernelState};
use crate::debugger::gdb::{self, GdbAddress, GdbMode};
use crate::model::{BreakIn, DebuggerSpec, FailureKind, Problem, TargetName};
use crate::runner::foreground::{self, Foreground, Input as Keys};
use crate::runner::sys::TerminalState;
use crate::runner::{RunError, Status};
use crate::session::Front;
use crate::session::banner::BannerScanner;
use crate::session::events::{SessionEvent, SessionEvents};
use crate::session::state::{Command, End, Input, Session, Wanted};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the user wants the session.
#[derive(Debug, Clone)]
pub struct DebugOptions {
    /// With a person at gdb's prompt, or scripts only.
    pub mode: GdbMode,
    /// gdb scripts, run in this order after ours.
    pub scripts: Vec<PathBuf>,
    /// Further arguments for gdb.
    pub debugger_arguments: Vec<String>,
    /// Leave the kernel as gdb leaves it (`--leave-stopped`).
    pub leave_stopped: bool,
    /// Ways of breaking in; empty leaves it to the bridge when gdb attaches.
    pub ways: Vec<BreakIn>,
    /// How long to try.
    pub patience: Duration,
    /// Where the session's gdb script is written.
    pub folder: PathBuf,
}

/// Frees a kernel that stands in a hypervisor's gdb stub. Returns what was done, or why it could not.
pub type FreeStub = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the debugger talks through.
#[derive(Clone)]
pub enum DebugPort {
    /// A bridge of ours on kgdb's port.
    Bridge(BridgeHandle),
    /// The hypervisor's gdb stub, which gdb is attached to straight: it stops the kernel itself.
    Stub(FreeStub),
}

/// The ports of a session.
#[derive(Clone)]
pub struct SessionPorts {
    /// The console's bridge, if there is one.
    pub console: Option<BridgeHandle>,
    /// The debugger's.
    pub debug: DebugPort,
    /// Where gdb finds the kernel.
    pub address: GdbAddress,
}

/// Checks that the debugger is there, before anything is changed for its sake.
///
/// # Errors
///
/// Not found: it is not.
pub fn check_debugger(debugger: &DebuggerSpec) -> Result<(), Problem> {
    foreground::find(gdb::program(debugger))
        .map(drop)
        .map_err(not_started)
}

fn not_started(error: RunError) -> Problem {
    match error {
        RunError::ProgramNotFound { program, .. } => {
            Problem::new(FailureKind::NotFound, format!("the debugger `{program}` is not installed"))
                .hint("Install it (Debian, Ubuntu: `apt-get install gdb`), or name another one in `debugger: {program: …}`.")
        }
        error => Problem::new(FailureKind::Host, chain(&error)),
    }
}

/// Runs the session to its end. The kernel is free afterwards, unless the end says otherwise.
///
/// # Errors
///
/// As `vmserial debug` is documented: no break-in is [`FailureKind::Deadline`], a gdb that failed and a kernel that
/// could not be freed [`FailureKind::Host`], a missing gdb [`FailureKind::NotFound`], Ctrl-C [`FailureKind::Interrupted`].
pub fn run(
    target: &TargetName,
    debugger: &DebuggerSpec,
    ports: &SessionPorts,
    options: &DebugOptions,
    events: &SessionEvents,
    front: &mut dyn Front,
) -> Result<(), Problem> {
    watch(ports, events);
    let wanted = Wanted {
        ways: options.ways.clone(),
        patience: options.patience,
        leave_stopped: options.leave_stopped,
        debugger_owns_interrupt: options.mode == GdbMode::Interactive,
    };
    let mut run = Run {
        debugger,
        ports,
        options,
        events,
        front,
        child: None,
        terminal: None,
        not_started: None,
    };
    let mut session = Session::new(wanted, now());
    loop {
        let input = match session.deadline() {
            Some(deadline) => events
                .next_before(deadline)
                .map_or(Some(Input::Tick), |event| run.input(event)),
            None => run.input(events.next()),
        };
        let Some(input) = input else { continue };
        for command in session.handle(now(), input) {
            if let Some(end) = run.perform(command) {
                return run.finish(target, end);
            }
        }
    }
}

fn now() -> Instant {
    Instant::now()
}

/// Turns what the bridges say into session events, on threads that end with the bridges.
fn watch(ports: &SessionPorts, events: &SessionEvents) {
    if let Some(console) = &ports.console {
        let mut output = console.output();
        let sender = events.sender();
        let debug = ports.debug.clone();
        events.spawn("console-watch", move || {
            let mut scanner = BannerScanner::default();
            loop {
                match output.blocking_recv() {
                    Ok(chunk) => {
                        sender.send(SessionEvent::ConsoleActivity);
                        // The debug port itself tells nothing of a reset; it needs no answer.
                        if let DebugPort::Bridge(debug) = &debug {
                            drop(debug.console_text(chunk.bytes.clone()));
                        }
                        if let Some(sign) = scanner.push(&chunk.bytes) {
                            sender.send(SessionEvent::KernelStopped(format!("console: {sign}")));
                        }
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                        scanner = BannerScanner::default()
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                }
            }
        });
    }
    let DebugPort::Bridge(debug) = &ports.debug else {
        return;
    };
    let mut bridge_events = debug.events();
    let sender = events.sender();
    events.spawn("debug-watch", move || {
        loop {
            match bridge_events.blocking_recv() {
                Ok(record) => match &record.event {
                    Event::Kernel {
                        state: KernelState::Stopped,
                    } => {
                        sender.send(SessionEvent::KernelStopped("debug port: kgdb answers".to_owned()));
                    }
                    Event::KernelGone { reason } => sender.send(SessionEvent::KernelGone(reason.clone())),
                    Event::GdbRefused { reason } => {
                        sender.send(SessionEvent::DebuggerRefused(reason.clone()))
                    }
                    Event::Stopped { reason, .. } => {
                        sender.send(SessionEvent::BridgeEnded(reason.clone()));
                        return;
                    }
                    _ => {}
                },
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    });
}

struct Run<'a> {
    debugger: &'a DebuggerSpec,
    ports: &'a SessionPorts,
    options: &'a DebugOptions,
    events: &'a SessionEvents,
    front: &'a mut dyn Front,
    child: Option<Foreground>,
    terminal: Option<TerminalState>,
    not_started: Option<Problem>,
}

impl Run<'_> {
    /// Tells the user about an event and translates it for the machine; `None` if the machine need not know.
    fn input(&mut self, event: SessionEvent) -> Option<Input> {
        Some(match event {
            SessionEvent::ConsoleActivity => Input::ConsoleActivity,
            SessionEvent::KernelStopped(sign) => {
                if self.child.is_none() {
                    self.front.status(&format!("Kernel stopped ({sign})."));
                }
                Input::KernelStopped(sign)
            }
            SessionEvent::KernelGone(reason) => {
                self.front
                    .warning(&format!("the kernel that gdb talked to is gone: {reason}"));
                return None;
            }
            SessionEvent::DebuggerRefused(reason) => {
                self.front.warning(&format!("gdb was turned away: {reason}"));
                return None;
            }
            SessionEvent::WayFailed(reason) => Input::WayFailed(reason),
            SessionEvent::DebuggerNotStarted => Input::DebuggerNotStarted,
            SessionEvent::DebuggerEnded(status) => {
                self.child = None;
                // Settings that a killed debugger left behind are put back here.
                self.terminal = None;
                match status {
                    Ok(Status::Exited(0)) => Input::DebuggerEnded(true),
                    Ok(status) => {
                        self.front.warning(&format!("gdb {status}"));
                        Input::DebuggerEnded(false)
                    }
                    Err(error) => {
                        self.front.warning(&format!("cannot wait for gdb: {error}"));
                        Input::DebuggerEnded(false)
                    }
                }
            }
            SessionEvent::Interrupt => Input::Interrupt,
            SessionEvent::Terminate => Input::Terminate,
            SessionEvent::BridgeEnded(reason) => Input::BridgeEnded(reason),
            SessionEvent::Released(result) => {
                match &result {
                    Ok(what) if what.is_empty() => {}
                    Ok(what) => self.front.status(&sentence(what)),
                    Err(reason) => self
                        .front
                        .warning(&format!("the kernel could not be freed: {reason}")),
                }
                Input::Released(result)
            }
        })
    }

    /// Does what the machine wants; an end is returned.
    fn perform(&mut self, command: Command) -> Option<End> {
        match command {
            Command::BreakIn(way) => self.break_in(way),
            Command::StartDebugger => {
                if let Err(problem) = self.start_debugger() {
                    self.not_started = Some(problem);
                    self.events
                        .sender()
                        .send(SessionEvent::DebuggerEnded(Ok(Status::Exited(1))));
                }
            }
            Command::TerminateDebugger => {
                if let Some(child) = &self.child
                    && child.terminate().is_err()
                {
                    child.kill();
                }
            }
            Command::KillDebugger => {
                if let Some(child) = &self.child {
                    child.kill();
                }
            }
            Command::Release => self.release(),
            Command::Finish(end) => return Some(end),
        }
        None
    }

    fn release(&mut self) {
        let sender = self.events.sender();
        let free: FreeStub = match &self.ports.debug {
            DebugPort::Bridge(debug) => {
                let reply = debug.release();
                self.events.spawn("release", move || {
                    let result = reply.wait().unwrap_or_else(|gone| Err(gone.to_string()));
                    sender.send(SessionEvent::Released(result));
                });
                return;
            }
            DebugPort::Stub(free) => Arc::clone(free),
        };
        self.events
            .spawn("release", move || sender.send(SessionEvent::Released(free())));
    }

    fn break_in(&mut self, way: BreakIn) {
        let sender = self.events.sender();
        let (console, debug) = (self.ports.console.clone(), &self.ports.debug);
        let console = match (console, debug) {
            (Some(console), _) => console,
            (None, DebugPort::Bridge(debug)) => {
                // The debugger's own bridge goes its way when gdb attaches.
                let reply = debug.break_in();
                self.events
                    .spawn("break-in", move || report(&sender, reply.wait()));
                return;
            }
            (None, DebugPort::Stub(_)) => {
                sender.send(SessionEvent::WayFailed(
                    "a gdb stub stops the VM by itself".to_owned(),
                ));
                return;
            }
        };
        match way {
            BreakIn::Qmp | BreakIn::Break => {
                self.front.status("Breaking in: BREAK and `g` on the console.");
                let reply = console.break_in();
                self.events
                    .spawn("break-in", move || report(&sender, reply.wait()));
            }
            BreakIn::Sysrq => {
                self.front
                    .status("Breaking in: `echo g > /proc/sysrq-trigger` at the console's shell.");
                // CR, because kdb and a raw shell know no LF; the first one ends whatever stands in the line.
                let reply = console.type_bytes(&b"\recho g > /proc/sysrq-trigger\r"[..]);
                self.events.spawn("break-in", move || {
                    let answer = reply.wait();
                    report(&sender, answer.map(|result| result.map(|()| String::new())));
                });
            }
        }
    }

    fn start_debugger(&mut self) -> Result<(), Problem> {
        let text =
            gdb::session_script(self.debugger, &self.ports.address, self.options.mode).map_err(|error| {
                Problem::new(FailureKind::Configuration, format!("{error}: {}", error.source))
            })?;
        let script = self.options.folder.join("session.gdb");
        write_private(&script, &text)?;
        let command = gdb::invocation(
            self.debugger,
            &script,
            &self.options.scripts,
            &self.options.debugger_arguments,
            self.options.mode,
        );
        self.front.status(&format!("Starting `{command}`"));
        let keys = match self.options.mode {
            GdbMode::Interactive => Keys::Child,
            GdbMode::Batch => Keys::Nobody,
        };
        self.terminal = Some(TerminalState::save());
        let sender = self.events.sender();
        let child = Foreground::start(&command, keys, move |status| {
            sender.send(SessionEvent::DebuggerEnded(status))
        });
        self.child = Some(child.map_err(not_started)?);
        Ok(())
    }

    fn finish(self, target: &TargetName, end: End) -> Result<(), Problem> {
        let resume = format!("Free the kernel with `vmserial resume {target}`.");
        Err(match end {
            End::Done => return Ok(()),
            End::DebuggerFailed | End::DebuggerNotStarted => match self.not_started {
                Some(problem) => problem,
                None => Problem::new(FailureKind::Host, "gdb ended without success"),
            },
            End::NoBreakIn(reasons) => Problem::new(
                FailureKind::Deadline,
                format!("the kernel did not stop in its debugger; tried {}", reasons.join("; ")),
            )
            .hint("Check in the guest: `cat /sys/module/kgdboc/parameters/kgdboc` names the debug port, `cat /proc/sys/kernel/sysrq` is 1.")
            .hint("A kernel without CONFIG_KGDB prints the SysRq help without `debug(g)`."),
            End::Interrupted => Problem::new(FailureKind::Interrupted, "interrupted"),
            End::Terminated => Problem::new(FailureKind::Interrupted, "ended by a signal"),
            End::BridgeEnded(reason) => {
                Problem::new(FailureKind::ConnectionLost, format!("the bridge ended: {reason}")).hint(resume)
            }
            End::NotReleased(reason) => {
                Problem::new(FailureKind::Host, format!("the kernel could not be freed: {reason}")).hint(resume)
            }
        })
    }
}

fn report(
    sender: &crate::session::events::EventSender,
    answer: Result<Result<String, String>, crate::bridge::Gone>,
) {
    match answer {
        Ok(Ok(_way)) => {}
        Ok(Err(reason)) => sender.send(SessionEvent::WayFailed(reason)),
        Err(gone) => sender.send(SessionEvent::WayFailed(gone.to_string())),
    }
}

/// Makes a sentence of a fragment.
fn sentence(fragment: &str) -> String {
    let mut characters = fragment.chars();
    let first: String = characters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", characters.as_str())
}

/// Replaces a file of ours; it names paths of the user's and is nobody else's to read.
fn write_private(path: &std::path::Path, text: &str) -> Result<(), Problem> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| {
        Problem::new(
            FailureKind::Host,
            format!("cannot write `{}`: {error}", path.display()),
        )
    };
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
