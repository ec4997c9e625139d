//! The console and its events, as far as Wine shows them: it takes a Unix terminal for the console, and SIGINT for Ctrl-C.

use super::place::command;
use super::rig::{Program, trial, with_deadlines};
use crate::kit::{PATIENCE, Sandbox, read_until};
use libtest_mimic::Trial;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("ctrl_c_ends_it_cleanly", ctrl_c_ends_it_cleanly),
        trial(
            "the_console_comes_back_as_it_was",
            the_console_comes_back_as_it_was,
        ),
    ]
}

fn ctrl_c_ends_it_cleanly() {
    let sandbox = Sandbox::new();
    let uart = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:tcp:{}", uart.local_addr().unwrap());
    let mut bridge = Program::bridge(&sandbox, &[&target, "listen:tcp:127.0.0.1:0"]);
    let mut vm = with_deadlines(uart.accept().unwrap().0);
    bridge.wait_target("up", "connected");
    // Wine makes the console event of it.
    crate::kit::kill(bridge.pid(), "INT");
    assert_eq!(
        vm.read(&mut [0; 8]).unwrap(),
        0,
        "the VM's end sees an end, no reset"
    );
    let (code, said) = bridge.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains(r#""event":"stopped""#), "{said}");
}

fn the_console_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    let uart = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("connect:tcp:{}", uart.local_addr().unwrap());
    let words = ["console-mode", "vmserial.exe", "console", &target];
    let mut console = OnTerminal::start(command(&sandbox, "testkit.exe", &words));
    let mut vm = with_deadlines(uart.accept().unwrap().0);
    let before = console.wait("before ");
    console.wait("Escape key is ^]");
    let during = console.wait("during ");
    assert_ne!(before, during);
    // Ctrl-Z is the target's. (Wine's console makes nothing of Ctrl-C and of arrows: `docs/dev/windows.md`.)
    console.keys.write_all(b"a\x01\x1a\rb").unwrap();
    assert_eq!(read_until(&mut vm, b"b"), b"a\x01\x1a\rb");
    console.keys.write_all(b"\x1d.").unwrap();
    assert_eq!(console.wait("after "), before);
    assert_eq!(console.wait("ended "), "0");
    assert_eq!(console.end(), Some(0));
}

/// A Windows program on a terminal: its console, which Wine has only there.
pub struct OnTerminal {
    child: Child,
    pub keys: File,
    screen: Receiver<Vec<u8>>,
    shown: Vec<u8>,
    /// So much of it was waited for.
    passed: usize,
}

impl OnTerminal {
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || File::options().read(true).write(true).open(&name).unwrap();
        // Wine's console leaves it to the terminal to make signals and to swallow keys.
        let terminal = open();
        let mut raw = tcgetattr(&terminal).unwrap();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).unwrap();
        let child = command
            .env("TERM", "xterm")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let mut terminal = File::from(master);
        let keys = terminal.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The terminal's end is an error.
            while let Ok(count @ 1..) = terminal.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            screen,
            shown: Vec::new(),
            passed: 0,
        }
    }

    /// Waits until the screen has shown `part`, and returns what follows up to the end of that line. The console draws:
    /// between the characters of a line there is nothing, between lines anything.
    fn wait(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8_lossy(&self.shown).into_owned();
            if let Some(at) = text.find(part) {
                let rest = &text[at + part.len()..];
                if let Some(end) = rest.find(['\r', '\n', '\x1b']) {
                    return rest[..end].trim().to_owned();
                }
            }
            self.more(part, until);
        }
    }

    /// Waits until the screen has shown `part`, behind what was waited for so before.
    pub fn shows(&mut self, part: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let at = self.shown[self.passed..]
                .windows(part.len())
                .position(|shown| shown == part.as_bytes());
            if let Some(at) = at {
                self.passed += at + part.len();
                return;
            }
            self.more(part, until);
        }
    }

    /// All that the screen has shown.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    fn more(&mut self, part: &str, until: Instant) {
        match self
            .screen
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(bytes) => self.shown.extend(bytes),
            Err(error) => panic!(
                "no `{part}` ({error}): {:?}",
                String::from_utf8_lossy(&self.shown)
            ),
        }
    }

    /// Waits for its end and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        crate::kit::wait_until("the Windows program ends", || {
            self.child.try_wait().unwrap().map(|status| status.code())
        })
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
