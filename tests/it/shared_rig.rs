//! A shell on a port that a real kgdb shares: a console of the bridge that is read all along, a real gdb, and a process in the
//! guest that prints `$ + - #` all the time.

use crate::guest::{Gdb, Guest};
use crate::kit::{PATIENCE, Running, Sandbox, connect, contains};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

pub const TICK: &str = "tick 3 $5 + 3 - 1 #42";
pub const HELD: &str = "[vmserial: kernel stopped, input held]";

/// A console of the bridge, read all along.
pub struct Shell {
    stream: UnixStream,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Shell {
    pub fn open(sandbox: &Sandbox) -> Self {
        let stream = connect(&sandbox.path("shell"));
        stream.set_read_timeout(None).unwrap();
        let seen: Arc<(Mutex<Vec<u8>>, Condvar)> = Arc::default();
        let (mut reader, kept) = (stream.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                kept.0.lock().unwrap().extend_from_slice(&buffer[..count]);
                kept.1.notify_all();
            }
        });
        Self { stream, seen }
    }

    pub fn type_text(&self, text: &str) {
        (&self.stream).write_all(text.as_bytes()).unwrap();
    }

    pub fn mark(&self) -> usize {
        self.seen.0.lock().unwrap().len()
    }

    /// Waits until the console shows `part` after the mark.
    pub fn wait(&self, mark: usize, part: &str) {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().unwrap();
        while !contains(&seen[mark..], part.as_bytes()) {
            let left = until.saturating_duration_since(Instant::now());
            let shown = String::from_utf8_lossy(&seen[mark..]).into_owned();
            assert!(!left.is_zero(), "no `{part}`; the console shows `{shown}`");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap()).into_owned()
    }

    /// Fails unless the console shows text only, and every line of the ticking process whole.
    pub fn assert_text_only(&self) {
        let shown = self.shown();
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains("tick 3")).collect();
        // The last line may be on its way; the shell's prompt and its echo, and SysRq's words, share lines with the process.
        let whole = |line: &&&str| !line.contains("echo") && !line.contains("sysrq:");
        for line in lines.iter().rev().skip(1).filter(whole) {
            assert!(line.contains(TICK), "`{line}` in {shown}");
        }
        assert!(!lines.is_empty(), "it ticks: {shown}");
        for packet in ["$T05", "$OK#9a", "$qSupported", "$?#3f", "$D#44"] {
            assert!(!shown.contains(packet), "`{packet}` on the console: {shown}");
        }
    }
}

/// A guest that ticks on its console, a bridge with gdb and console on it.
pub struct Stage {
    pub sandbox: Sandbox,
    pub guest: Guest,
    pub bridge: Running,
    pub shell: Shell,
    pub gdb: Gdb,
}

impl Stage {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let guest = Guest::shared(&sandbox);
        Self::on(sandbox, guest)
    }

    pub fn on(sandbox: Sandbox, guest: Guest) -> Self {
        tick(&guest);
        let bridge = guest.shared_bridge(&sandbox);
        let shell = Shell::open(&sandbox);
        let gdb = guest.gdb();
        Self {
            sandbox,
            guest,
            bridge,
            shell,
            gdb,
        }
    }

    pub fn attach(&mut self) -> String {
        self.gdb.attach(&self.sandbox)
    }

    /// Attaches to a kernel that then stands where SysRq put it.
    pub fn attach_to_a_running_kernel(&mut self) {
        self.shell.wait(0, TICK);
        let said = self.attach();
        let trace = self.gdb.command("bt");
        assert!(
            trace.contains("sysrq_handle_dbg"),
            "{said}{trace}\n{}\n{}\nsent: {}",
            self.gdb.program.said(),
            String::from_utf8_lossy(&self.bridge.wait_output(b"")),
            self.guest.console.guest_was_sent((0, 0))
        );
    }

    /// Lets the kernel run, and waits until it does.
    pub fn continue_and_tick(&mut self) {
        let sent = self.guest.console.mark();
        self.gdb.type_line("continue");
        self.guest.console.wait_to_guest(sent, "$c#63");
        let runs = self.guest.console.mark();
        self.guest.console.wait_from_guest(runs, TICK);
    }

    /// How often the bridge has told this.
    pub fn told(&mut self, event: &str) -> usize {
        let said = self.bridge.wait_output(event.as_bytes());
        String::from_utf8_lossy(&said).matches(event).count()
    }

    pub fn end(mut self) {
        self.bridge.signal("TERM");
        assert_eq!(self.bridge.wait_end(), 0);
        self.shell.assert_text_only();
        self.guest.assert_well();
    }
}

pub fn tick(guest: &Guest) {
    guest.shell(&format!("{{ while :; do echo '{TICK}'; sleep 0.2; done & }}"));
}
