//! What a handle asks.

use super::core::{Engine, Flow};
use super::outcome::Outcome;
use crate::bridge::capture::Mark;
use crate::bridge::handle::{Command, HistorySlice, Since, Status};
use crate::bridge::history::History;
use crate::bridge::mediator::Input;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Within this time of a reset firmware may reset its machine again.
const FIRMWARE: Duration = Duration::from_secs(10);

/// What a handle may type ahead of a target that reads nothing; clients are just not read meanwhile.
const TYPED_AHEAD: usize = 1 << 20;

impl Engine {
    /// Does what was asked since the last round. An answer that nobody waits for any more is dropped.
    pub(super) fn poll_commands(&mut self, context: &mut Context<'_>) -> bool {
        let mut progress = false;
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(context) {
            self.obey(command);
            progress = true;
        }
        progress
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach(request, answer) => drop(answer.send(self.attach_open(*request))),
            Command::Detach(id, reason, answer) => {
                let index = self.clients.iter().position(|client| client.id == id);
                if let Some(index) = index {
                    self.detach_at(index, reason);
                }
                let _ = answer.send(index.is_some());
            }
            Command::TakeOver(keep, answer) => {
                let _ = answer.send(self.take_over(keep));
            }
            Command::SendBreak(answer) if self.keys_are_held() => {
                // kgdb would read a byte in place of an acknowledgement.
                let _ = answer.send(Err("the kernel is stopped, or is being broken into".into()));
            }
            Command::SendBreak(answer) => self.ask_break(answer),
            Command::BreakIn(answer) => {
                if let Flow::Mediated(mediation) = &mut self.flow {
                    mediation.breaks.push(answer);
                    self.mediate(Input::BreakIn);
                } else {
                    self.ask_break_in(answer);
                }
            }
            Command::Type(bytes, answer) => {
                let result = if matches!(self.flow, Flow::Mediated(_)) && self.history().is_none() {
                    Err(format!(
                        "a port with the policy `{}` has no console",
                        self.options.policy
                    ))
                } else if self.to_target.len() + bytes.len() > TYPED_AHEAD {
                    Err("the target does not take what was typed before".into())
                } else if self.type_to_target(&bytes) {
                    Ok(())
                } else {
                    Err(format!("the target is away: {}", self.target.reason))
                };
                let _ = answer.send(result);
            }
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::History(since, limit, answer) => drop(answer.send(self.slice(since, limit))),
            Command::SetLog(path, answer) => drop(answer.send(self.set_log(path))),
            Command::Release(answer) => {
                if let Flow::Mediated(mediation) = &mut self.flow {
                    mediation.releases.push(answer);
                    self.mediate(Input::Release);
                } else {
                    let policy = self.options.policy;
                    let _ = answer.send(Err(format!("a port with the policy `{policy}` has no debugger")));
                }
            }
            Command::TargetReset(answer) => {
                self.target_was_reset();
                let _ = answer.send(());
            }
            Command::TargetPaused(paused, answer) => {
                self.mediate(Input::TargetPaused(paused));
                let _ = answer.send(());
            }
            Command::ConsoleText(text, answer) => {
                self.mediate(Input::ConsoleText(&text));
                let _ = answer.send(());
            }
            Command::Stop(reason, answer) => {
                tracing::debug!(reason, "stop asked for");
                self.begin_end(Outcome::Stopped);
                let _ = answer.send(());
            }
        }
    }

    /// The VM was reset. Firmware resets its machine again as it starts (seen: SeaBIOS, twice): without a byte between them
    /// they are one boot.
    fn target_was_reset(&mut self) {
        let offset = self.counters.from_target;
        let same = |(at, before): (Instant, u64)| before == offset && self.now < at + FIRMWARE;
        if !self.last_reset.is_some_and(same) {
            self.boot_begins();
            let told = self.log.mark(offset, Mark::Reset);
            self.emit_all(told);
        }
        self.last_reset = Some((self.now, offset));
        self.mediate(Input::TargetReset);
    }

    fn status(&self) -> Status {
        let counters = self.counters;
        Status {
            policy: self.options.policy,
            target: self.target.state(),
            target_reason: self.target.reason.clone(),
            target_endpoint: self.target.endpoint.clone(),
            listening: self.listening(),
            gdb: self.gdb_listening(),
            clients: self.clients.iter().map(|client| client.status()).collect(),
            kernel: match &self.flow {
                Flow::Mediated(mediation) => Some(mediation.mediator.kernel()),
                _ => None,
            },
            from_target: counters.from_target,
            to_target: counters.to_target,
            dropped_from_target: counters.dropped_from_target,
            dropped_to_target: counters.dropped_to_target,
            connections: self.target.connections,
            log: self.log.raw_path().map(Path::to_owned),
            log_json: self.log.json_path().map(Path::to_owned),
        }
    }

    fn slice(&self, since: Since, limit: usize) -> HistorySlice {
        let end = self.history().map_or(self.counters.from_target, History::end);
        let (Some(history), Some(from)) = (self.history(), self.cursor_at(since)) else {
            return HistorySlice {
                offset: end,
                skipped: 0,
                bytes: Vec::new(),
                end,
            };
        };
        let first = history.piece(from);
        let mut slice = HistorySlice {
            offset: first.offset,
            skipped: first.skipped,
            bytes: Vec::new(),
            end,
        };
        loop {
            let at = slice.offset + slice.bytes.len() as u64;
            let piece = history.piece(at);
            let room = limit - slice.bytes.len();
            if piece.skipped > 0 || piece.bytes.is_empty() || room == 0 {
                return slice;
            }
            slice
                .bytes
                .extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
        }
    }

    fn set_log(&mut self, path: Option<PathBuf>) -> Result<(), String> {
        if path.is_none() {
            let told = self.log.finish();
            self.emit_all(told);
            self.log.set_json(None).map_err(|problem| problem.message)?;
        }
        self.log
            .set_raw(path.as_deref())
            .map_err(|problem| problem.message)
    }
}
