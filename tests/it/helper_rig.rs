//! A client of `vmserial helper`, written from `docs/dev/helper-protocol.md` and from nothing else.

use crate::kit::{PATIENCE, wait_until};
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

pub const OPEN: u8 = 1;
pub const OPENED: u8 = 2;
pub const FAILED: u8 = 3;
pub const DATA: u8 = 4;
pub const CREDIT: u8 = 5;
pub const END: u8 = 6;
pub const CLOSE: u8 = 7;
pub const BREAK: u8 = 8;
pub const BREAK_DONE: u8 = 9;
pub const PING: u8 = 10;
pub const PONG: u8 = 11;

/// What either end may send before more is granted.
const WINDOW: u32 = 256 * 1024;

/// What an end says first.
pub fn greeting(words: &str) -> Vec<u8> {
    let mut bytes = format!("{words}\n").into_bytes();
    bytes.extend(0..=255_u8);
    bytes
}

enum Said {
    Greeting(String),
    Frame(u32, u8, Vec<u8>),
}

fn read_frames(mut from: impl Read, said: impl Fn(Said) -> bool) {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(byte[0]);
    }
    let mut all = [0; 256];
    if from.read_exact(&mut all).is_err() || !all.iter().copied().eq(0..=255) {
        return;
    }
    said(Said::Greeting(String::from_utf8_lossy(&line).into_owned()));
    let mut head = [0; 9];
    while from.read_exact(&mut head).is_ok() {
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut content = vec![0; number(5) as usize];
        if from.read_exact(&mut content).is_err() || !said(Said::Frame(number(1), head[0], content)) {
            return;
        }
    }
}

/// A helper that runs, and what it said.
pub struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<Said>,
    errors: Receiver<String>,
    waiting: HashMap<u32, VecDeque<(u8, Vec<u8>)>>,
    credit: HashMap<u32, usize>,
    newest: u32,
}

impl Helper {
    /// Starts one, without a word to it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || read_frames(stdout, |said| sender.send(said).is_ok()));
        let (sender, errors) = channel();
        let mut stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut all = String::new();
            // What is no text is no use to anybody.
            let _ = stderr.read_to_string(&mut all);
            sender.send(all)
        });
        Self {
            stdin: child.stdin.take(),
            child,
            said,
            errors,
            waiting: HashMap::new(),
            credit: HashMap::new(),
            newest: 0,
        }
    }

    /// Starts one and presents us.
    pub fn greeted(command: &mut Command) -> Self {
        let mut helper = Self::start(command);
        let words = helper.hello();
        assert!(words.starts_with("vmserial-helper 1 "), "{words}");
        helper.raw(&greeting("vmserial-client 1 0.0.1"));
        helper
    }

    /// Returns its greeting.
    pub fn hello(&mut self) -> String {
        match self.said.recv_timeout(PATIENCE) {
            Ok(Said::Greeting(words)) => words,
            _ => panic!(
                "no greeting: {}",
                self.errors.recv_timeout(PATIENCE).unwrap_or_default()
            ),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        // One that is ending says why elsewhere.
        let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
    }

    pub fn send(&mut self, stream: u32, kind: u8, content: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend(stream.to_be_bytes());
        bytes.extend((content.len() as u32).to_be_bytes());
        bytes.extend(content);
        self.raw(&bytes);
    }

    /// Takes one frame of any stream in.
    fn take(&mut self) {
        match self.said.recv_timeout(PATIENCE) {
            Ok(Said::Frame(stream, CREDIT, content)) => {
                let more = u32::from_be_bytes(content.try_into().unwrap());
                *self.credit.entry(stream).or_default() += more as usize;
            }
            Ok(Said::Frame(stream, kind, content)) => {
                self.waiting.entry(stream).or_default().push_back((kind, content));
            }
            Ok(Said::Greeting(words)) => panic!("a second greeting: {words}"),
            Err(error) => panic!(
                "the helper says nothing ({error}): {}",
                self.errors.try_recv().unwrap_or_default()
            ),
        }
    }

    /// Returns the next frame of a stream that is no credit.
    pub fn next(&mut self, stream: u32) -> (u8, Vec<u8>) {
        loop {
            if let Some(frame) = self.waiting.get_mut(&stream).and_then(VecDeque::pop_front) {
                return frame;
            }
            self.take();
        }
    }

    /// Returns the text of the next frame, which must be of this kind.
    pub fn text(&mut self, stream: u32, kind: u8) -> String {
        let (got, content) = self.next(stream);
        let text = String::from_utf8_lossy(&content).into_owned();
        assert_eq!(got, kind, "{text:?}");
        text
    }

    /// Asks for an endpoint; returns the stream.
    pub fn ask(&mut self, endpoint: &str) -> u32 {
        self.newest += 1;
        let content = [&WINDOW.to_be_bytes(), endpoint.as_bytes()].concat();
        self.send(self.newest, OPEN, &content);
        self.newest
    }

    /// Opens an endpoint; returns the stream and whether it can be half-closed.
    pub fn open(&mut self, endpoint: &str) -> (u32, bool) {
        let stream = self.ask(endpoint);
        let (kind, content) = self.next(stream);
        assert_eq!(kind, OPENED, "{:?}", String::from_utf8_lossy(&content));
        let window = u32::from_be_bytes(content[..4].try_into().unwrap());
        self.credit.insert(stream, window as usize);
        (stream, content[4] & 1 != 0)
    }

    /// What may be sent now.
    pub fn credit(&self, stream: u32) -> usize {
        self.credit.get(&stream).copied().unwrap_or_default()
    }

    /// Sends as much as is granted; returns how much that was.
    pub fn send_some(&mut self, stream: u32, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.credit(stream)).min(32 * 1024);
        if count > 0 {
            self.send(stream, DATA, &bytes[..count]);
            *self.credit.get_mut(&stream).unwrap() -= count;
        }
        count
    }

    /// Sends `bytes`, reads `expected` bytes and grants as many as it read, all at the same time.
    pub fn exchange(&mut self, stream: u32, bytes: &[u8], expected: usize) -> Vec<u8> {
        let (mut sent, mut got) = (0, Vec::new());
        while sent < bytes.len() || got.len() < expected {
            if sent < bytes.len() {
                let count = self.send_some(stream, &bytes[sent..]);
                sent += count;
                if count > 0 {
                    continue;
                }
            }
            match self.waiting.get_mut(&stream).and_then(VecDeque::pop_front) {
                None => self.take(),
                Some((DATA, content)) => {
                    self.send(stream, CREDIT, &(content.len() as u32).to_be_bytes());
                    got.extend(content);
                }
                Some((kind, content)) => {
                    panic!("frame {kind}: {:?}", String::from_utf8_lossy(&content))
                }
            }
        }
        got
    }

    /// Closes its standard input, and waits for its end: its exit code and what it said on standard error.
    pub fn end(&mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        self.ended()
    }

    /// Waits for its end by itself.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let status = wait_until("the helper ends", || self.child.try_wait().unwrap());
        (
            status.code(),
            self.errors.recv_timeout(PATIENCE).unwrap_or_default(),
        )
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
