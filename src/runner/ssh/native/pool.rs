//! The connections of this process: one for each host, made when it is first needed and made again when it was lost.

use super::connect::{Attempt, connect};
use super::pipe::{Counted, LinkError, Pipe, SshStream, Wake};
use super::prompt::wait_for_echo;
use super::worker::{Health, Parts, Request, Wanted, Worker};
use crate::model::{FailureKind, Problem, Wait};
use crate::runner::ssh::link::ExecFailure;
use crate::runner::{Output, RunError};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// So many streams share a connection.
const MOST_STREAMS: usize = 32;

/// Of the commands at a time on a connection so many may be streams, which last.
const MOST_COMMAND_STREAMS: usize = 4;

/// A request that never began is tried again on a new connection so often.
const TRIES: usize = 3;

/// How often a wait without a deadline looks whether it is given up.
const LOOK: Duration = Duration::from_millis(100);

/// A connection as its users have it.
#[derive(Debug)]
struct Connection {
    requests: Mutex<Sender<Request>>,
    wake: Arc<Wake>,
    health: Arc<Health>,
    epoch: Instant,
    users: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    command_streams: Arc<AtomicUsize>,
}

/// What a channel is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A command that is run to its end; all that it says is kept.
    Command,
    /// A stream, read in windows.
    Stream,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Pool {
    connections: Mutex<HashMap<Vec<String>, Vec<Arc<Connection>>>>,
}

impl Pool {
    /// Returns the pool of this process.
    pub fn shared() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(Self::default)
    }

    /// Asks a connection to the last host of the chain for a channel. Returns at once.
    fn request(
        &'static self,
        chain: &[String],
        wanted: &Wanted,
        used_as: Use,
        interactive: bool,
    ) -> Result<SshStream, LinkError> {
        let connection = self
            .connection(chain, wanted, used_as, interactive)
            .map_err(|error| {
                LinkError::NotConnected(Problem::new(
                    FailureKind::Host,
                    format!("an SSH connection cannot be made: {error}"),
                ))
            })?;
        Ok(connection.request(wanted.clone(), used_as))
    }

    fn connection(
        &'static self,
        chain: &[String],
        wanted: &Wanted,
        used_as: Use,
        interactive: bool,
    ) -> io::Result<Arc<Connection>> {
        let is_command = matches!(wanted, Wanted::Exec(_));
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let here = all.entry(chain.to_vec()).or_default();
        here.retain(|connection| !connection.health.dead.load(Ordering::SeqCst));
        let found = here
            .iter()
            .find(|connection| connection.has_room(used_as, is_command));
        if let Some(found) = found {
            return Ok(Arc::clone(found));
        }
        let new = Arc::new(self.start(chain, interactive)?);
        here.push(Arc::clone(&new));
        Ok(new)
    }

    /// Lets go of the chain's connections: whoever uses one keeps it, what comes next opens another.
    pub fn renew(&self, chain: &[String]) {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(chain);
    }

    fn start(&'static self, chain: &[String], interactive: bool) -> io::Result<Connection> {
        let (sender, requests) = channel();
        let (wake, wake_receiver) = Wake::new()?;
        let connection = Connection {
            requests: Mutex::new(sender),
            wake: Arc::clone(&wake),
            health: Arc::new(Health::default()),
            epoch: Instant::now(),
            users: Arc::default(),
            streams: Arc::default(),
            command_streams: Arc::default(),
        };
        let (health, epoch, users) = (
            Arc::clone(&connection.health),
            connection.epoch,
            Arc::clone(&connection.users),
        );
        // The first user is on its way: the login must not be given up before it is here.
        let first = Counted::new(&users);
        let chain = chain.to_vec();
        std::thread::Builder::new()
            .name("ssh".to_owned())
            .spawn(move || {
                let until = Instant::now() + LOOK;
                let given_up = || Instant::now() > until && users.load(Ordering::SeqCst) <= 1;
                let attempt = Attempt {
                    chain: &chain,
                    interactive,
                    given_up: &given_up,
                    pool: self,
                };
                match connect(&attempt) {
                    Ok((session, socket)) => {
                        drop(first);
                        let name = chain.last().cloned().unwrap_or_default();
                        Worker::new(Parts {
                            session,
                            socket,
                            wake,
                            wake_receiver,
                            requests,
                            health,
                            epoch,
                            name,
                        })
                        .run();
                    }
                    Err(problem) => {
                        health.dead.store(true, Ordering::SeqCst);
                        for request in requests.try_iter() {
                            request.pipe.end(Err(LinkError::NotConnected(problem.clone())));
                        }
                    }
                }
            })?;
        Ok(connection)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// Why not, with what it had said on standard error by then.
    pub fn exec(
        &'static self,
        chain: &[String],
        line: &str,
        stdin: &[u8],
        wait: &Wait,
    ) -> Result<Output, ExecFailure> {
        let started = Instant::now();
        let wanted = Wanted::Exec(line.to_owned());
        let mut tries = 0..TRIES;
        let mut last = LinkError::Busy;
        while tries.next().is_some() {
            let stream = match self.request(chain, &wanted, Use::Command, true) {
                Ok(stream) => stream,
                Err(error) => return Err(failure(error, wait)),
            };
            {
                let mut state = stream.pipe().lock();
                state.outgoing.extend(stdin);
                state.outgoing_ended = true;
            }
            let ended = stream.pipe().wait(wait, |state| state.end.take());
            let mut state = stream.pipe().lock();
            let stderr = std::mem::take(&mut state.stderr);
            match ended {
                Ok(Ok(Some(status))) => {
                    let stdout = std::mem::take(&mut state.incoming).into();
                    return Ok(Output {
                        status,
                        stdout,
                        stderr,
                        elapsed: started.elapsed(),
                    });
                }
                Ok(Ok(None)) => {
                    last = LinkError::Lost("the command ended without a status".to_owned());
                    break;
                }
                Ok(Err(error @ LinkError::LostBefore(_))) => last = error,
                // Somebody else's request is what takes long: another connection, as long as the wait lasts.
                Ok(Err(LinkError::Busy)) => tries = 0..TRIES,
                Ok(Err(error)) => {
                    return Err(ExecFailure {
                        stderr,
                        ..failure(error, wait)
                    });
                }
                Err(error) => {
                    drop(state);
                    drop(stream);
                    wait_for_echo();
                    return Err(ExecFailure { error, stderr });
                }
            }
        }
        Err(failure(last, wait))
    }

    /// Opens a stream: an address that the host can reach, or a command's standard input and output.
    ///
    /// # Errors
    ///
    /// Why not, as the reason of a target's state.
    pub async fn open(&'static self, chain: &[String], wanted: &Wanted) -> io::Result<SshStream> {
        let mut last = LinkError::Busy;
        for _ in 0..TRIES {
            let stream = self
                .request(chain, wanted, Use::Stream, false)
                .map_err(LinkError::into_io)?;
            match stream.opened().await {
                Ok(()) => return Ok(stream),
                Err(error @ (LinkError::LostBefore(_) | LinkError::Busy)) => last = error,
                Err(error) => return Err(error.into_io()),
            }
        }
        Err(last.into_io())
    }

    /// The same for a thread, with the wait's deadline.
    ///
    /// # Errors
    ///
    /// The wait's, or why not.
    pub fn open_within(
        &'static self,
        chain: &[String],
        wanted: &Wanted,
        wait: &Wait,
    ) -> Result<SshStream, RunError> {
        let mut tries = 0..TRIES;
        let mut last = LinkError::Busy;
        while tries.next().is_some() {
            let mut stream = self
                .request(chain, wanted, Use::Stream, true)
                .map_err(|error| failure(error, wait).error)?;
            let waited = stream.pipe().wait(wait, opened).inspect_err(|_| {
                stream.give_up();
                wait_for_echo();
            });
            match waited? {
                Ok(()) => {
                    stream.set_deadline(wait.deadline.instant());
                    return Ok(stream);
                }
                Err(error @ LinkError::LostBefore(_)) => last = error,
                Err(LinkError::Busy) => tries = 0..TRIES,
                Err(error) => return Err(failure(error, wait).error),
            }
        }
        Err(failure(last, wait).error)
    }

    /// The same without a deadline of its own, for a jump: the connection that needs it gives up by itself.
    pub fn open_blocking(
        &'static self,
        chain: &[String],
        wanted: &Wanted,
        interactive: bool,
        given_up: &dyn Fn() -> bool,
    ) -> Result<SshStream, Problem> {
        let host = chain.last().cloned().unwrap_or_default();
        let gone = |text: String| Problem::new(FailureKind::Host, text);
        let stream = self
            .request(chain, wanted, Use::Stream, interactive)
            .map_err(|error| gone(error.into_io().to_string()))?;
        loop {
            let look = Wait::new(
                crate::model::Deadline::after(Instant::now(), LOOK),
                crate::model::Cancel::new(),
                "a jump",
            );
            match stream.pipe().wait(&look, opened) {
                Ok(Ok(())) => return Ok(stream),
                Ok(Err(LinkError::NotConnected(problem))) => return Err(problem),
                Ok(Err(error)) => {
                    return Err(gone(format!("`{host}` does not go further: {}", error.into_io())));
                }
                Err(_) if given_up() => return Err(gone(format!("nobody waits for `{host}` any more"))),
                Err(_) => {}
            }
        }
    }
}

fn opened(state: &mut super::pipe::State) -> Option<Result<(), LinkError>> {
    match &state.end {
        _ if state.opened => Some(Ok(())),
        Some(Err(error)) => Some(Err(error.clone())),
        Some(Ok(_)) => Some(Ok(())),
        None => None,
    }
}

impl Connection {
    fn has_room(&self, used_as: Use, is_command: bool) -> bool {
        let below = |count: &AtomicUsize, most| count.load(Ordering::SeqCst) < most;
        !self.health.is_slow(self.epoch)
            && (used_as == Use::Command
                || below(&self.streams, MOST_STREAMS)
                    && (!is_command || below(&self.command_streams, MOST_COMMAND_STREAMS)))
    }

    fn request(&self, wanted: Wanted, used_as: Use) -> SshStream {
        let mut counted = vec![Counted::new(&self.users)];
        if used_as == Use::Stream {
            counted.push(Counted::new(&self.streams));
            if matches!(wanted, Wanted::Exec(_)) {
                counted.push(Counted::new(&self.command_streams));
            }
        }
        let pipe = Pipe::new(Arc::clone(&self.wake), used_as == Use::Command);
        let request = Request {
            wanted,
            pipe: Arc::clone(&pipe),
        };
        let sent = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(request);
        // The thread marks itself dead before it answers what is left: one of the two sees the request.
        if sent.is_err() || self.health.dead.load(Ordering::SeqCst) {
            pipe.end(Err(LinkError::LostBefore("the connection was closed".to_owned())));
        }
        self.wake.wake();
        SshStream::new(pipe, counted)
    }
}

fn failure(error: LinkError, wait: &Wait) -> ExecFailure {
    let host = |text: String, kind| RunError::Connection(Box::new(Problem::new(kind, text)));
    let error = match error {
        LinkError::NotConnected(problem) => RunError::Connection(Box::new(problem)),
        LinkError::ConnectFailed => RunError::Io {
            what: format!("connect while waiting for {}", wait.what),
            source: io::ErrorKind::ConnectionRefused.into(),
        },
        LinkError::Refused(text) => host(text, FailureKind::Host),
        LinkError::Lost(text) | LinkError::LostBefore(text) => host(text, FailureKind::ConnectionLost),
        LinkError::Busy => host(
            "the host does not answer an earlier request".to_owned(),
            FailureKind::Host,
        ),
    };
    ExecFailure {
        error,
        stderr: Vec::new(),
    }
}
