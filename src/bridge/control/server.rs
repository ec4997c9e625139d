//! Answers the control socket of a running bridge. Runs on the bridge's own runtime, beside its engine.

use super::call::{BreakParameters, Call, Mode, Since};
use super::evidence::Watcher;
use super::message::{
    BadRequest, ControlError, Identity, LINE_BYTES, Request, hello_result, history_result, reply_line,
};
use crate::bridge::channel::{Channel, Facts};
use crate::bridge::event::{Event, KernelState, SharedEvent};
use crate::bridge::handle::{AttachRequest, BridgeHandle, ClientId, Gone, Preface};
use crate::bridge::sys::{LocalListener, NativeStream, listen_local};
use crate::model::{FailureKind, Problem};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Connections at a time. Consoles and scripts of one port are a handful; a loop that leaks them is stopped here.
const CONNECTIONS: usize = 64;

/// How long a sign of the stop is waited for after the `g`: as long as keys are held.
const OBSERVE: Duration = Duration::from_millis(1600);

/// How long connections may take to read the last events.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Pause after a failed accept (no descriptors left): without one it would be tried again at once, for ever.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The listening control socket of one bridge.
#[derive(Debug)]
pub struct ControlServer {
    listener: LocalListener,
    identity: Arc<Identity>,
}

impl ControlServer {
    /// Opens the socket, mode 0600. Needs a runtime.
    ///
    /// # Errors
    ///
    /// See [`listen_local`].
    pub fn bind(path: &Path, identity: Identity) -> Result<Self, Problem> {
        Ok(Self {
            listener: listen_local(path)?,
            identity: Arc::new(identity),
        })
    }

    /// Answers until the bridge has ended. Connections end with it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the socket and all connections that are not attached.
    pub async fn serve(self, bridge: BridgeHandle) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // The end comes first, or a busy socket could keep an ended bridge alive.
                biased;
                () = bridge.ended() => break,
                Some(_) = connections.join_next() => continue,
                accepted = poll_fn(|context| self.listener.poll_accept(context)), if connections.len() < CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, facts)) => {
                    let connection = Connection {
                        identity: Arc::clone(&self.identity),
                        bridge: bridge.clone(),
                        received: Vec::new(),
                        events: None,
                    };
                    connections.spawn(connection.run(stream, facts));
                }
                Err(error) => {
                    tracing::debug!(%error, "the control socket could not accept");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        // Nobody new; those who are there still hear the last events, `stopped` among them.
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        // A connection that does not read is closed without them.
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }
}

/// What comes of one request.
enum Answer {
    Line(Result<Value, ControlError>),
    Attach {
        mode: Mode,
        since: Since,
        take_over: bool,
    },
}

struct Connection {
    identity: Arc<Identity>,
    bridge: BridgeHandle,
    received: Vec<u8>,
    events: Option<broadcast::Receiver<SharedEvent>>,
}

/// What a connection is woken by.
enum Woken {
    Request(Vec<u8>),
    Event(Result<SharedEvent, broadcast::error::RecvError>),
    End,
}

impl Connection {
    async fn run(mut self, stream: NativeStream, facts: Facts) {
        let mut channel = Channel::native(stream, facts);
        loop {
            let (line, attach) = match self.next(&mut channel).await {
                Ok(Woken::Request(line)) => match Request::parse(&line) {
                    Ok(Request { id, call }) => match self.answer(call).await {
                        Ok(Answer::Line(result)) => (reply_line(id, result), None),
                        Ok(Answer::Attach {
                            mode,
                            since,
                            take_over,
                        }) => (Vec::new(), Some((id, mode, since, take_over))),
                        Err(Gone) => return,
                    },
                    Err(BadRequest { id, error }) => (reply_line(id, Err(error)), None),
                },
                Ok(Woken::Event(Ok(event))) => match serde_json::to_vec(&*event) {
                    Ok(mut line) => {
                        line.push(b'\n');
                        (line, None)
                    }
                    Err(_) => continue,
                },
                Ok(Woken::Event(Err(broadcast::error::RecvError::Lagged(missed)))) => {
                    let line = json!({ "v": 1, "event": "events_missed", "count": missed });
                    (format!("{line}\n").into_bytes(), None)
                }
                Ok(Woken::Event(Err(broadcast::error::RecvError::Closed)) | Woken::End) => return,
                Err(error) => {
                    // Whoever sent such a line may still read why it is closed.
                    let error = ControlError {
                        kind: FailureKind::Usage,
                        message: error.to_string(),
                        hints: Vec::new(),
                    };
                    let _ = channel.write_all(&reply_line(0, Err(error))).await;
                    return;
                }
            };
            let Some((id, mode, since, take_over)) = attach else {
                if channel.write_all(&line).await.is_err() {
                    return;
                }
                continue;
            };
            let request = AttachRequest {
                channel,
                mode: mode.into(),
                since: since.into(),
                preface: Preface::of(move |client, offset| {
                    let result =
                        json!({ "mode": mode, "since": since, "connection": client, "offset": offset });
                    reply_line(id, Ok(result))
                }),
                take_over,
                received: std::mem::take(&mut self.received),
            };
            let Ok(Err(refused)) = self.bridge.attach(request).await else {
                // Attached: the engine has the stream. Or the bridge ended, and the stream with it.
                return;
            };
            channel = *refused.channel;
            let hint = match self.bridge.status().await {
                Ok(status) if status.policy.is_debug() => {
                    "The VM's console is on another port: `vmserial console TARGET` finds it."
                }
                Ok(_) => "`take_over` (`vmserial console --take-over`) detaches whoever is attached.",
                Err(Gone) => return,
            };
            let error = ControlError {
                kind: FailureKind::Precondition,
                message: refused.reason,
                hints: vec![hint.into()],
            };
            if channel.write_all(&reply_line(id, Err(error))).await.is_err() {
                return;
            }
        }
    }

    /// Waits for a whole line or an event. Bytes behind the line stay in `received`.
    async fn next(&mut self, channel: &mut Channel) -> io::Result<Woken> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.received.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Ok(Woken::Request(line));
            }
            searched = self.received.len();
            if searched > LINE_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a request has at most {LINE_BYTES} bytes"),
                ));
            }
            let event = async {
                match &mut self.events {
                    Some(events) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Events that came before the end are told before it.
                biased;
                event = event => return Ok(Woken::Event(event)),
                () = self.bridge.ended() => return Ok(Woken::End),
                count = channel.read_buf(&mut self.received) => {
                    if !matches!(count, Ok(1..)) {
                        return Ok(Woken::End);
                    }
                }
            }
        }
    }

    async fn answer(&mut self, call: Call) -> Result<Answer, Gone> {
        let bridge = &self.bridge;
        Ok(Answer::Line(match call {
            Call::Hello { events } => {
                self.events = events.then(|| bridge.events());
                Ok(hello_result(&self.identity, bridge.status().await?.policy))
            }
            Call::Status => {
                let mut value = json!(bridge.status().await?);
                value["pid"] = json!(self.identity.pid);
                value["command"] = json!(self.identity.command);
                // What a leak would show in: an idle bridge has a handful, and one more for each connection here.
                value["tasks"] = json!(Handle::current().metrics().num_alive_tasks());
                Ok(value)
            }
            Call::Attach {
                mode,
                since,
                take_over,
            } => {
                return Ok(Answer::Attach {
                    mode,
                    since,
                    take_over,
                });
            }
            Call::Detach { connection } => {
                let was_there = bridge
                    .detach(ClientId(connection), "detached through the control socket")
                    .await?;
                if was_there {
                    Ok(json!({}))
                } else {
                    Err(failed(
                        FailureKind::NotFound,
                        format!("no client has the number {connection}"),
                    ))
                }
            }
            Call::Break(parameters) => send_break(bridge, parameters).await?,
            Call::TakeOver { keep } => Ok(json!({ "detached": bridge.take_over(keep.map(ClientId)).await? })),
            Call::Log { path } => match path {
                Some(path) if !path.is_absolute() => Err(failed(
                    FailureKind::Usage,
                    format!("`{}` is no absolute path", path.display()),
                )),
                path => match bridge.set_log(path).await? {
                    Ok(()) => Ok(json!({})),
                    Err(reason) => Err(failed(FailureKind::Host, reason)),
                },
            },
            Call::History { since, limit } => Ok(history_result(&bridge.history(since.into(), limit).await?)),
            Call::Stop { reason } => {
                bridge.stop(reason).await?;
                Ok(json!({}))
            }
        }))
    }
}

fn failed(kind: FailureKind, message: String) -> ControlError {
    ControlError {
        kind,
        message,
        hints: Vec::new(),
    }
}

/// Sends BREAK or breaks in, and tells what the kernel said to it.
async fn send_break(
    bridge: &BridgeHandle,
    parameters: BreakParameters,
) -> Result<Result<Value, ControlError>, Gone> {
    // Subscribed before the break: its answer may come faster than the reply.
    let mut output = bridge.output();
    let mut events = bridge.events();
    let sent = if parameters.break_in {
        bridge.break_in().await?
    } else {
        bridge.send_break().await?
    };
    let way = match sent {
        Ok(way) => way,
        Err(reason) => {
            // `none:` is the way that there is not: something for the user to mend, not a host's failure.
            let kind = if reason.starts_with("none:") {
                FailureKind::Precondition
            } else {
                FailureKind::Host
            };
            return Ok(Err(failed(kind, reason)));
        }
    };
    if !parameters.observe {
        return Ok(Ok(json!({ "way": way })));
    }
    let deadline = Instant::now() + OBSERVE;
    let mut watcher = Watcher::default();
    let seen = async {
        loop {
            tokio::select! {
                chunk = output.recv() => match chunk {
                    Ok(chunk) => if let Some((sign, kind)) = watcher.input(&chunk.bytes) {
                        return Some((json!(kind), format!("the kernel said `{sign}`")));
                    },
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                event = events.recv() => match event.map(|event| event.event.clone()) {
                    Ok(Event::Kernel { state: KernelState::Stopped }) => {
                        return Some((json!("kgdb"), "a stop packet came".to_owned()));
                    }
                    Ok(Event::Kernel { state: KernelState::Kdb }) => {
                        return Some((json!("kdb"), "kdb's prompt came".to_owned()));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            }
        }
    };
    let (stopped_in, evidence) = match timeout_at(deadline, seen).await {
        Ok(Some((kind, evidence))) => (kind, Some(evidence)),
        Ok(None) | Err(_) => (Value::Null, None),
    };
    Ok(Ok(
        json!({ "way": way, "stopped_in": stopped_in, "evidence": evidence }),
    ))
}

#[cfg(test)]
mod tests;
