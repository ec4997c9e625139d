//! The logs of a port: what the target sent, written before anybody else gets it. A full disk never stops a session.
//!
//! The raw log has the bytes and nothing else; the JSON log has them with times, offsets and the marks of boots.

mod file;
mod record;

use crate::bridge::event::Event;
use crate::model::{LogSpec, Problem, Rotation};
use file::{Cut, LogFile, Unwritten};
use jiff::Timestamp;
use record::{Place, next_payload, push_mark, push_payload};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long a line that goes on is waited for: a prompt is in the log soon, and single bytes are not a record each.
const LINE_WAIT: Duration = Duration::from_millis(250);

/// Something that happens between two bytes of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// The target's stream is open; why. A boot begins.
    Up(&'a str),
    /// The target's stream ended; why.
    Away(&'a str),
    /// The VM was reset, and its stream stayed open. A boot begins.
    Reset,
}

/// The logs of a port.
#[derive(Debug)]
pub struct Capture {
    raw: Option<RawLog>,
    json: Option<JsonLog>,
    rotation: Option<Rotation>,
    /// Bytes of the stream so far, as far as known here.
    offset: u64,
    /// Boots so far.
    boot: u64,
}

impl Capture {
    /// Opens the logs, private and appended to.
    ///
    /// # Errors
    ///
    /// Precondition, with the system's words.
    pub fn open(spec: &LogSpec) -> Result<Self, Problem> {
        let mut capture = Self {
            raw: None,
            json: None,
            rotation: spec.rotation,
            offset: 0,
            boot: 0,
        };
        capture.set_raw(spec.raw.as_deref())?;
        capture.set_json(spec.json.as_deref())?;
        Ok(capture)
    }

    /// Begins another raw log, or ends it.
    ///
    /// # Errors
    ///
    /// As [`Capture::open`]; then the log goes on as it was.
    pub fn set_raw(&mut self, path: Option<&Path>) -> Result<(), Problem> {
        self.raw = match path {
            Some(path) => Some(RawLog {
                file: LogFile::open(path, self.rotation)?,
                missing: 0,
            }),
            None => None,
        };
        Ok(())
    }

    /// Begins another JSON log, or ends it.
    ///
    /// # Errors
    ///
    /// As [`Capture::open`]; then the log goes on as it was.
    pub fn set_json(&mut self, path: Option<&Path>) -> Result<(), Problem> {
        let Some(path) = path else {
            self.json = None;
            return Ok(());
        };
        let mut log = JsonLog {
            file: LogFile::open(path, self.rotation)?,
            place: self.place(),
            pending: Vec::new(),
            until: None,
            batch: Batch::default(),
            missing: 0,
            missing_from: 0,
            failing: false,
            torn: false,
        };
        let who = format!(
            "vmserial {}, pid {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        log.mark(self.place(), "opened", Some(&who));
        self.json = Some(log);
        Ok(())
    }

    /// Tells whether anything is written.
    pub fn is_on(&self) -> bool {
        self.raw.is_some() || self.json.is_some()
    }

    /// Returns the raw log's path.
    pub fn raw_path(&self) -> Option<&Path> {
        self.raw.as_ref().map(|log| log.file.path())
    }

    /// Returns the JSON log's path.
    pub fn json_path(&self) -> Option<&Path> {
        self.json.as_ref().map(|log| log.file.path())
    }

    /// Returns when an unfinished line is to be written.
    pub fn deadline(&self) -> Option<Instant> {
        self.json.as_ref().and_then(|log| log.until)
    }

    /// Writes the bytes of the stream at `offset`, the next ones. The first failure and the first success after one are told as events; each
    /// chunk is tried again.
    pub fn write(&mut self, now: Instant, offset: u64, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.is_on() {
            return events;
        }
        self.offset = offset;
        if let Some(log) = &mut self.raw {
            log.write(bytes, &mut events);
        }
        let place = self.place();
        if let Some(log) = &mut self.json {
            log.write(now, place, bytes, &mut events);
        }
        self.offset += bytes.len() as u64;
        events
    }

    /// Writes a mark into the JSON log, at an offset of the stream.
    pub fn mark(&mut self, offset: u64, mark: Mark<'_>) -> Vec<Event> {
        self.offset = offset;
        if matches!(mark, Mark::Up(_) | Mark::Reset) {
            self.boot += 1;
        }
        let place = self.place();
        let mut events = Vec::new();
        if let Some(log) = &mut self.json {
            match mark {
                Mark::Up(reason) => log.mark(place, "up", Some(reason)),
                Mark::Away(reason) => log.mark(place, "away", Some(reason)),
                Mark::Reset => log.mark(place, "reset", None),
            }
            log.flush(&mut events);
        }
        events
    }

    /// Writes a line that did not go on in time, if one is due.
    pub fn tick(&mut self, now: Instant) -> Vec<Event> {
        if self.deadline().is_some_and(|until| until <= now) {
            return self.finish();
        }
        Vec::new()
    }

    /// Writes what is pending.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(log) = &mut self.json {
            log.end_line();
            log.flush(&mut events);
        }
        events
    }

    fn place(&self) -> Place {
        Place {
            time: Timestamp::now(),
            boot: self.boot,
            offset: self.offset,
        }
    }
}

fn tell_rotations(file: &mut LogFile, events: &mut Vec<Event>) {
    for result in file.take_rotated() {
        let path = file.path().display();
        events.push(match result {
            Ok(()) => Event::Log {
                state: "rotated",
                reason: format!("`{path}` was full"),
            },
            Err(error) => Event::Log {
                state: "not_rotated",
                reason: format!("`{path}` grows, it cannot make room: {error}"),
            },
        });
    }
}

fn failed(file: &LogFile, error: &std::io::Error) -> Event {
    Event::Log {
        state: "failed",
        reason: format!("cannot write `{}`: {error}", file.path().display()),
    }
}

fn again(file: &LogFile, missing: u64) -> Event {
    Event::Log {
        state: "written",
        reason: format!("{missing} bytes are missing in `{}`", file.path().display()),
    }
}

#[derive(Debug)]
struct RawLog {
    file: LogFile,
    missing: u64,
}

impl RawLog {
    fn write(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let failed_before = self.missing > 0;
        match self.file.append(bytes, Cut::Anywhere) {
            Ok(()) if failed_before => {
                events.push(again(&self.file, std::mem::take(&mut self.missing)));
            }
            Ok(()) => {}
            Err(Unwritten { written, error }) => {
                self.missing += (bytes.len() - written) as u64;
                if !failed_before {
                    events.push(failed(&self.file, &error));
                }
            }
        }
        tell_rotations(&mut self.file, events);
    }
}

/// Where a record ends in its batch, and which bytes of the stream it has.
#[derive(Debug, Clone, Copy)]
struct LineEnd {
    end: usize,
    offset: u64,
    count: u64,
}

/// Records that are to be written together.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    ends: Vec<LineEnd>,
}

#[derive(Debug)]
struct JsonLog {
    file: LogFile,
    /// Where and when the pending line began.
    place: Place,
    pending: Vec<u8>,
    until: Option<Instant>,
    batch: Batch,
    missing: u64,
    /// Offset of the first missing byte.
    missing_from: u64,
    failing: bool,
    /// Half a record stands at the file's end.
    torn: bool,
}

impl JsonLog {
    fn write(&mut self, now: Instant, place: Place, bytes: &[u8], events: &mut Vec<Event>) {
        if self.pending.is_empty() {
            self.place = place;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        while let Some(count) = next_payload(rest) {
            self.push(&rest[..count]);
            rest = &rest[count..];
            self.place.time = place.time;
        }
        let done = pending.len() - rest.len();
        pending.drain(..done);
        if pending.is_empty() {
            self.until = None;
        } else if done > 0 || self.until.is_none() {
            self.until = Some(now + LINE_WAIT);
        }
        self.pending = pending;
        self.flush(events);
    }

    fn push(&mut self, payload: &[u8]) {
        push_payload(&mut self.batch.lines, self.place, payload);
        let count = payload.len() as u64;
        self.batch.ends.push(LineEnd {
            end: self.batch.lines.len(),
            offset: self.place.offset,
            count,
        });
        self.place.offset += count;
    }

    /// A line that did not end is a record of its own.
    fn end_line(&mut self) {
        self.until = None;
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.push(&pending);
        }
    }

    fn mark(&mut self, place: Place, mark: &str, reason: Option<&str>) {
        self.end_line();
        push_mark(&mut self.batch.lines, place, mark, reason, None);
        self.batch.ends.push(LineEnd {
            end: self.batch.lines.len(),
            offset: place.offset,
            count: 0,
        });
    }

    fn flush(&mut self, events: &mut Vec<Event>) {
        if self.batch.lines.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        if self.missing > 0 || self.torn {
            self.prepend_loss(&mut batch);
        }
        match self.file.append(&batch.lines, Cut::Lines) {
            Ok(()) => {
                self.torn = false;
                if std::mem::take(&mut self.failing) {
                    events.push(again(&self.file, std::mem::take(&mut self.missing)));
                }
            }
            Err(Unwritten { written, error }) => {
                let whole = batch.ends.partition_point(|line| line.end <= written);
                let last = if whole == 0 { 0 } else { batch.ends[whole - 1].end };
                let half = (written - last) as u64;
                self.torn = (self.torn && whole == 0) || (half > 0 && !self.file.take_back(half));
                let lost: u64 = batch.ends[whole..].iter().map(|line| line.count).sum();
                if !std::mem::replace(&mut self.failing, true) {
                    events.push(failed(&self.file, &error));
                }
                if whole > 0 {
                    // The line that told the loss so far is in the file.
                    self.missing = 0;
                }
                if self.missing == 0
                    && let Some(first) = batch.ends.get(whole)
                {
                    self.missing_from = first.offset;
                }
                self.missing += lost;
            }
        }
        tell_rotations(&mut self.file, events);
        batch.lines.clear();
        batch.ends.clear();
        self.batch = batch;
    }

    /// What is missing is told in the file too, on a line of its own.
    fn prepend_loss(&self, batch: &mut Batch) {
        let mut lines = Vec::new();
        if self.torn {
            lines.push(b'\n');
        }
        if self.missing > 0 {
            let place = Place {
                time: Timestamp::now(),
                offset: self.missing_from,
                ..self.place
            };
            push_mark(&mut lines, place, "lost", None, Some(self.missing));
        }
        let shift = lines.len();
        lines.append(&mut batch.lines);
        batch.lines = lines;
        for line in &mut batch.ends {
            line.end += shift;
        }
        let first = LineEnd {
            end: shift,
            offset: self.missing_from,
            count: 0,
        };
        batch.ends.insert(0, first);
    }
}

impl Drop for JsonLog {
    fn drop(&mut self) {
        self.end_line();
        // Nobody is left to be told.
        self.flush(&mut Vec::new());
    }
}

#[cfg(test)]
mod tests;
