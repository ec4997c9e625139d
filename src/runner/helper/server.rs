//! The helper's end: opens what it is asked for, until its standard input ends.

use super::greeting::{End, Listening, Peer, greeting, mismatch, ourselves};
use super::pump::Pump;
use super::shared::{self, Shared};
use super::stream::Stream;
use super::wire::{Abilities, Decoder};
use crate::bridge::Opening;
use crate::model::{EndpointSpec, FailureKind, Problem};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The client says something every ten seconds. Without a word for so long its link is lost, and the VM's slot is free.
const SILENCE: Duration = Duration::from_secs(60);

/// After the end of standard input what was written still goes out for so long: we are to be gone within a second.
const LAST_BYTES: Duration = Duration::from_millis(600);

/// How long a client may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(30);

/// What a helper needs of the machine that it runs on.
#[derive(Clone, Copy)]
pub struct Means {
    /// Refuses an endpoint that is not served on this machine.
    pub check: fn(&EndpointSpec) -> Result<(), Problem>,
    /// Opens an endpoint once.
    pub open: fn(EndpointSpec) -> Opening,
    /// Puts an error into the words of the `target` event.
    pub reason: fn(&io::Error) -> String,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Means(..)")
    }
}

/// Serves one client, on standard input and output, until its standard input ends.
///
/// # Errors
///
/// Precondition: the client speaks another protocol, or is no client; connection lost: what came was no protocol, or
/// nothing came for a minute.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    means: Means,
) -> Result<(), Problem> {
    let ours = ourselves();
    let hello = greeting(End::Helper, ours.protocol, &ours.version);
    if output.write_all(&hello).await.is_err() || output.flush().await.is_err() {
        return Ok(());
    }
    let Some(first) = introduced(&mut input, &ours).await? else {
        return Ok(());
    };
    let end = shared::end();
    let mut pumps = JoinSet::new();
    let said = {
        let written = write(&mut output, &end);
        let read = read(&mut input, &end, &first, means, &mut pumps);
        tokio::pin!(written, read);
        tokio::select! {
            said = &mut read => said,
            // Nobody reads us any more: the same end.
            () = &mut written => Ok(()),
        }
    };
    end.fail("the helper's input ended");
    // What does not go out by then is lost: the VM's slot matters more.
    let _ = timeout(LAST_BYTES, async { while pumps.join_next().await.is_some() {} }).await;
    said.map_err(|reason| Problem::new(FailureKind::ConnectionLost, reason))
}

/// Waits for the client's greeting; returns the bytes behind it, or `None` if its end came first.
async fn introduced(input: &mut (impl AsyncRead + Unpin), ours: &Peer) -> Result<Option<Vec<u8>>, Problem> {
    let refuse = |text: String| Problem::new(FailureKind::Precondition, text);
    let mut listening = Listening::for_the(End::Client);
    let mut buffer = vec![0; 4096];
    let mut heard = false;
    loop {
        let count = match timeout(INTRODUCTION, input.read(&mut buffer)).await {
            Err(_) => {
                let problem = refuse("no vmserial said who it is".into());
                return Err(problem.hint("`vmserial helper` is started by another vmserial, not by hand."));
            }
            Ok(Ok(0)) if heard => return Err(refuse(listening.nobody().to_string())),
            Ok(Ok(0) | Err(_)) => return Ok(None),
            Ok(Ok(count)) => count,
        };
        heard = true;
        let result = listening.input(&buffer[..count]);
        let Some((peer, behind)) = result.map_err(|error| refuse(error.to_string()))? else {
            continue;
        };
        // Both ends see it; the client tells its user.
        let replace = format!(
            "put vmserial {} in its place with `vmserial setup helper`",
            peer.version
        );
        return match mismatch(&peer, ours, &replace) {
            Some(text) => Err(refuse(text)),
            None => Ok(Some(behind)),
        };
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), end: &Shared) {
    let mut buffer = Vec::new();
    loop {
        buffer = end.output(buffer).await;
        if buffer.is_empty() || output.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

async fn read(
    input: &mut (impl AsyncRead + Unpin),
    end: &Arc<Shared>,
    first: &[u8],
    means: Means,
    pumps: &mut JoinSet<()>,
) -> Result<(), String> {
    let mut decoder = Decoder::default();
    let mut open = |stream, endpoint| {
        while pumps.try_join_next().is_some() {}
        let stream = Stream::new(Arc::clone(end), stream);
        pumps.spawn(join(stream, endpoint, means));
    };
    end.take(&mut decoder, first, true, &mut open)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(SILENCE, input.read(&mut buffer)).await {
            Err(_) => return Err("nothing was heard of the client for a minute".into()),
            Ok(Ok(0) | Err(_)) => return Ok(()),
            Ok(Ok(count)) => end.take(&mut decoder, &buffer[..count], true, &mut open)?,
        }
    }
}

/// Opens an endpoint and moves its bytes.
async fn join(stream: Stream, endpoint: String, means: Means) {
    let closed = std::future::poll_fn(|context| stream.poll_closed(context));
    let opened = tokio::select! {
        opened = open(&endpoint, means) => opened,
        () = closed => return,
    };
    match opened {
        Ok(channel) => {
            let facts = channel.facts();
            let abilities = Abilities {
                half_close: facts.half_close,
                sends_break: !channel.native_breaks().is_empty(),
            };
            stream.answer(Ok((abilities, facts.peer.clone())), means.reason);
            Pump::new(channel, stream, means.reason).run().await;
        }
        Err(error) => stream.answer(Err(error), means.reason),
    }
}

async fn open(endpoint: &str, means: Means) -> io::Result<crate::bridge::Channel> {
    let endpoint: EndpointSpec = endpoint.parse().map_err(io::Error::other)?;
    (means.check)(&endpoint).map_err(io::Error::other)?;
    (means.open)(endpoint).await
}
