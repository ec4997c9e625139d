//! The helper of one place, on a thread of its own: started when a stream is wanted, again when it died.
//!
//! A thread of its own, because the ports that share it are bridges on threads of their own, and each may end first.

use super::life::{Input, Life, Output};
use super::shared::{self, Shared};
use super::start::{Place, Started, start};
use super::stream::{HelperStream, Stream};
use super::wire::Decoder;
use crate::bridge::{Channel, Facts};
use crate::model::EndpointSpec;
use crate::runner::attended::Children;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// Both ends say something this often.
const PING: Duration = Duration::from_secs(10);

/// Without a word for so long the helper is taken for lost.
const SILENCE: Duration = Duration::from_secs(30);

/// One that cannot be started is tried again after this time; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A helper whose standard input ended has this long to end; it needs one second.
pub(super) const ENDING: Duration = Duration::from_millis(1500);

/// What is still to be written at the end has 2 s, then the helper ends.
const LAST_BYTES: Duration = Duration::from_millis(3500);

/// Somebody wants a stream.
pub(super) struct Request {
    pub endpoint: EndpointSpec,
    pub answer: oneshot::Sender<io::Result<Channel>>,
}

/// A helper that runs.
struct Running {
    name: String,
    shared: Arc<Shared>,
    carrying: JoinHandle<()>,
}

/// Serves requests until nobody can make any, then ends the helper.
pub(super) async fn run(
    place: Place,
    mut requests: mpsc::UnboundedReceiver<Request>,
    mut wanted: watch::Receiver<bool>,
) {
    let children = Children::default();
    let mut running: Option<Running> = None;
    let mut refusal: Option<(Instant, Duration, String)> = None;
    while let Some(Request { endpoint, answer }) = requests.recv().await {
        if running
            .as_ref()
            .is_some_and(|running| running.carrying.is_finished())
        {
            running = None;
        }
        if running.is_none() {
            if let Some((until, _, reason)) = &refusal
                && Instant::now() < *until
            {
                // Whoever asked may be gone.
                let _ = answer.send(Err(io::Error::other(reason.clone())));
                continue;
            }
            let started = tokio::select! {
                started = start(&place, &children) => started,
                // Nobody is left who wants it.
                _ = wanted.wait_for(|wanted| !wanted) => break,
            };
            match started {
                Ok(started) => {
                    refusal = None;
                    running = Some(carry(started));
                }
                Err(error) => {
                    let pause = refusal.map_or(FIRST_PAUSE, |(_, pause, _)| (pause * 2).min(LONGEST_PAUSE));
                    refusal = Some((Instant::now() + pause, pause, error.to_string()));
                    let _ = answer.send(Err(error));
                    continue;
                }
            }
        }
        if let Some(running) = &running {
            tokio::spawn(open(
                running.name.clone(),
                Arc::clone(&running.shared),
                endpoint,
                answer,
            ));
        }
    }
    if let Some(running) = running {
        running.shared.finish();
        // Dropping the task closes the helper's input, which ends it.
        let _ = timeout(LAST_BYTES, running.carrying).await;
        running.shared.fail("the helper was ended");
    }
    children.wait().await;
}

async fn open(
    name: String,
    shared: Arc<Shared>,
    endpoint: EndpointSpec,
    mut answer: oneshot::Sender<io::Result<Channel>>,
) {
    let there = EndpointSpec {
        via: Vec::new(),
        ..endpoint.clone()
    };
    let Some(number) = shared.open(&there.to_string()) else {
        let _ = answer.send(Err(io::Error::other("the helper ended")));
        return;
    };
    let stream = Stream::new(Arc::clone(&shared), number);
    let opened = tokio::select! {
        opened = std::future::poll_fn(|context| stream.poll_answer(context)) => opened,
        // The dial was given up; dropping the stream tells the helper.
        () = answer.closed() => return,
    };
    let channel = opened.map(|(abilities, peer)| {
        let peer = if peer.is_empty() {
            name
        } else {
            format!("{peer} through {name}")
        };
        let facts = Facts {
            peer,
            half_close: abilities.half_close,
            ends_bridge: false,
        };
        let breaks = if abilities.sends_break {
            endpoint.address.native_breaks()
        } else {
            &[]
        };
        Channel::controlled(HelperStream::new(stream, breaks), facts)
    });
    // Whoever asked may be gone; then the stream is closed by its drop.
    let _ = answer.send(channel);
}

/// Moves the frames of a helper, until it ends or everything is written and [`Shared::finish`] was called.
fn carry(started: Started) -> Running {
    let shared = shared::end();
    let Started {
        life,
        input,
        mut output,
        behind,
        name,
        version: _,
    } = started;
    let end = Arc::clone(&shared);
    let called = name.clone();
    let carrying = tokio::spawn(async move {
        let reason = tokio::select! {
            reason = read(&mut output, &end, behind, &life) => reason,
            written = write(input, &end) => match written {
                // Its input has ended; so does it, and with it the streams that it has open.
                Ok(()) => {
                    let _ = timeout(ENDING, rest(&mut output)).await;
                    "it was ended".to_owned()
                }
                Err(error) => said(&life, Err(error)).await,
            },
            () = ping(&end) => String::new(),
        };
        end.fail(&format!("helper `{called}`: {reason}"));
    });
    Running {
        name,
        shared,
        carrying,
    }
}

async fn ping(shared: &Shared) {
    let mut beat = interval(PING);
    loop {
        beat.tick().await;
        shared.ping();
    }
}

async fn read(output: &mut Output, shared: &Shared, behind: Vec<u8>, life: &Life) -> String {
    let mut decoder = Decoder::default();
    let mut nothing = |_, _| {};
    if let Err(reason) = shared.take(&mut decoder, &behind, false, &mut nothing) {
        return reason;
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(SILENCE, output.read(&mut buffer)).await {
            Err(_) => return "it does not answer any more".to_owned(),
            Ok(Ok(count @ 1..)) => {
                if let Err(reason) = shared.take(&mut decoder, &buffer[..count], false, &mut nothing) {
                    return reason;
                }
            }
            Ok(end) => return said(life, end).await,
        }
    }
}

async fn said(life: &Life, end: io::Result<usize>) -> String {
    let words = life.last_words(end).await;
    words.unwrap_or_else(|| "it ended".to_owned())
}

/// Reads what nobody waits for any more, to the end.
pub(super) async fn rest(output: &mut Output) {
    let mut buffer = vec![0; 64 * 1024];
    while matches!(output.read(&mut buffer).await, Ok(1..)) {}
}

/// Writes until all is written and [`Shared::finish`] was called, then ends the helper's standard input.
async fn write(mut input: Input, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        buffer = shared.output(buffer).await;
        if buffer.is_empty() {
            return input.shutdown().await;
        }
        input.write_all(&buffer).await?;
    }
}
