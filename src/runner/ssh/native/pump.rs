//! Moves the bytes of one open channel.

use super::line::{Line, Step};
use super::pipe::{LinkError, Pipe};
use crate::runner::Status;
use ssh2::Channel;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// How long the rest of a given-up channel is delivered, and its close waited for.
pub const LAST_BYTES: Duration = Duration::from_secs(2);

const CHUNK: usize = 32 * 1024;

/// A channel that is open. Its calls have keys from `key` to `key + 15`.
pub struct Open {
    /// A multiple of 16.
    pub key: u64,
    /// The channel.
    pub channel: Channel,
    /// Its user's end.
    pub pipe: Arc<Pipe>,
    /// It has a standard error and a status.
    pub is_command: bool,
    /// We said that we say no more.
    pub eof_sent: bool,
}

/// Moves what can be moved. Returns whether something was, and whether the channel is over.
pub fn pump(line: &mut Line, open: &mut Open) -> Result<(bool, bool), String> {
    let mut moved = write_some(line, open)?;
    moved |= read_some(line, open)?;
    let ended = open.channel.eof();
    let mut state = open.pipe.lock();
    if ended && !state.incoming_ended {
        state.incoming_ended = true;
        state.status_follows = open.is_command;
        moved = true;
        open.pipe.tell(state);
        state = open.pipe.lock();
    }
    if let Some(since) = state.dropped
        && (state.outgoing.is_empty() || since.elapsed() > LAST_BYTES)
        && line.sticky.is_none_or(|sticky| sticky >> 4 != open.key >> 4)
    {
        return Ok((true, true));
    }
    let both_ended = state.outgoing_ended && open.eof_sent;
    drop(state);
    if !ended {
        return Ok((moved, false));
    }
    if !open.is_command && both_ended {
        open.pipe.end(Ok(None));
        return Ok((true, true));
    }
    // Its own close is waited for: ours would end a command that goes on behind closed output.
    let channel = &mut open.channel;
    match line.attempt(open.key | 6, |_| channel.wait_close()) {
        Step::Done(()) => {
            open.pipe.end(status(open));
            Ok((true, true))
        }
        Step::Later => Ok((moved, false)),
        Step::Failed(fault) => Err(fault.text),
    }
}

fn write_some(line: &mut Line, open: &mut Open) -> Result<bool, String> {
    let mut moved = false;
    loop {
        let chunk: Vec<u8> = open.pipe.lock().outgoing.iter().take(CHUNK).copied().collect();
        if chunk.is_empty() {
            break;
        }
        let channel = &mut open.channel;
        match line.attempt(open.key | 1, |_| channel.write(&chunk)) {
            Step::Done(count) => {
                let mut state = open.pipe.lock();
                state.outgoing.drain(..count);
                open.pipe.tell(state);
                moved |= count > 0;
                if count == 0 {
                    break;
                }
            }
            Step::Later => return Ok(moved),
            // The far end takes no more: a command that does not read all its input is no failure.
            Step::Failed(fault) if fault.is_the_channels() => {
                let mut state = open.pipe.lock();
                state.outgoing.clear();
                state.outgoing_ended = true;
                open.eof_sent = true;
                open.pipe.tell(state);
                return Ok(true);
            }
            Step::Failed(fault) => return Err(fault.text),
        }
    }
    if !open.eof_sent && open.pipe.lock().outgoing_ended {
        let channel = &mut open.channel;
        match line.attempt(open.key | 2, |_| channel.send_eof()) {
            Step::Done(()) => {
                open.eof_sent = true;
                moved = true;
            }
            Step::Later => {}
            Step::Failed(fault) if fault.is_the_channels() => open.eof_sent = true,
            Step::Failed(fault) => return Err(fault.text),
        }
    }
    Ok(moved)
}

fn read_some(line: &mut Line, open: &mut Open) -> Result<bool, String> {
    let mut moved = false;
    let mut buffer = [0; CHUNK];
    // A channel that floods lets the others have their turn.
    for _ in 0..4 {
        // A read that left half a packet (of its window) is completed with or without room: everything waits for it.
        let is_owed = line.sticky == Some(open.key | 3);
        if !is_owed && !open.pipe.lock().has_room() {
            break;
        }
        let channel = &mut open.channel;
        match line.attempt(open.key | 3, |_| channel.read(&mut buffer)) {
            Step::Done(0) | Step::Later => break,
            Step::Done(count) => {
                let mut state = open.pipe.lock();
                state.incoming.extend(&buffer[..count]);
                open.pipe.tell(state);
                moved = true;
            }
            Step::Failed(fault) if fault.is_the_channels() => break,
            Step::Failed(fault) => return Err(fault.text),
        }
    }
    for _ in 0..4 {
        if !open.is_command {
            break;
        }
        let mut stderr = open.channel.stderr();
        match line.attempt(open.key | 4, |_| stderr.read(&mut buffer)) {
            Step::Done(0) | Step::Later => break,
            Step::Done(count) => {
                let mut state = open.pipe.lock();
                state.add_stderr(&buffer[..count]);
                open.pipe.tell(state);
                moved = true;
            }
            Step::Failed(fault) => return Err(fault.text),
        }
    }
    Ok(moved)
}

/// How a command ended. libssh2's status is 0 for one that a signal ended.
fn status(open: &Open) -> Result<Option<Status>, LinkError> {
    if !open.is_command {
        return Ok(None);
    }
    let failed = |error: ssh2::Error| LinkError::Lost(error.message().to_owned());
    if let Some(signal) = open.channel.exit_signal().map_err(failed)?.exit_signal {
        return Ok(Some(Status::Signalled(number(&signal))));
    }
    Ok(Some(Status::Exited(open.channel.exit_status().map_err(failed)?)))
}

/// The signals of RFC 4254 by their numbers on Linux; 0 for others, which only their own system knows.
fn number(signal: &str) -> i32 {
    let all = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("ABRT", 6),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
    ];
    all.into_iter()
        .find(|(name, _)| *name == signal)
        .map_or(0, |(_, number)| number)
}
