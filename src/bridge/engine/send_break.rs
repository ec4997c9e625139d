//! The ways that a BREAK goes, until it is out or the target's own stream is to send it.

use crate::bridge::channel::Channel;
use crate::bridge::dial::{BreakMeans, BreakPort};
use crate::bridge::open;
use crate::bridge::openings::Openings;
use crate::model::{Deadline, NativeBreak};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Each way of sending BREAK has this long; a QMP socket that another client holds accepts and never greets.
pub(super) const WAY_DEADLINE: Duration = Duration::from_millis(500);

/// How long a way may be beyond its deadline before it is given up without its reason.
const GRACE: Duration = Duration::from_millis(100);

/// Somebody else does the whole break-in: BREAK (500 ms at most), the pause, the `g`, and the way there and back.
const OWNER_DEADLINE: Duration = Duration::from_secs(2);

/// `IAC BRK` (RFC 854), as it is.
pub(super) const TELNET_BREAK: [u8; 2] = [0xff, 0xf3];

/// A stream did not take its own BREAK.
pub(super) const NOT_TAKEN: &str = "the stream did not take it within 500 ms";

const NO_WAY: &str = "there is no way to send BREAK: name one with `--break-with`";

/// What is left to do once the way has been gone.
pub(super) enum Left {
    /// The BREAK went out; the break port, if it was opened.
    Nothing(Option<Channel>),
    /// The target's stream is to send it.
    OnTarget,
}

/// What came of a BREAK, and the way.
pub(super) struct Sent {
    pub way: String,
    pub result: Result<Left, String>,
    /// An owner did the whole break-in: no `g` of ours.
    pub whole: bool,
}

/// Returns the kind of BREAK that the means say for a stream.
pub(super) fn kind_for(means: &BreakMeans, channel: &Channel) -> Result<NativeBreak, String> {
    match means {
        BreakMeans::By(kind) if *kind == NativeBreak::Telnet || has_own(channel, *kind) => Ok(*kind),
        BreakMeans::By(kind) => Err(format!("the stream has no BREAK by `{}`", kind.name())),
        _ => channel
            .native_breaks()
            .first()
            .copied()
            .ok_or_else(|| NO_WAY.into()),
    }
}

/// Tells whether the stream sends this BREAK by itself; telnet's bytes are written raw where it does not.
pub(super) fn has_own(channel: &Channel, kind: NativeBreak) -> bool {
    channel.native_breaks().contains(&kind)
}

/// Opens the break port, then sends the BREAK; an owner does everything.
pub(super) async fn send_break(means: BreakMeans, port: BreakPort, openings: Openings) -> Sent {
    let failed = |way: String, reason: String| Sent {
        way,
        result: Err(reason),
        whole: false,
    };
    let port = match port {
        BreakPort::Asked(source) => match tokio::task::spawn_blocking(move || source.now()).await {
            Ok(Ok(port)) => port,
            Ok(Err(reason)) => return failed(means.way(), reason),
            Err(error) => return failed(means.way(), error.to_string()),
        },
        port => port,
    };
    let whole = matches!(port, BreakPort::Owner(_));
    let mut way = match &port {
        BreakPort::Owner(owner) => owner.way(),
        _ => means.way(),
    };
    let result = send(means, port, &openings, &mut way).await;
    Sent { way, result, whole }
}

async fn send(
    means: BreakMeans,
    port: BreakPort,
    openings: &Openings,
    way: &mut String,
) -> Result<Left, String> {
    let channel = match port {
        BreakPort::Target => None,
        BreakPort::Asked(_) => return Err("whoever knows the break port does not know it".into()),
        BreakPort::Endpoint(endpoint) => Some(
            timeout(WAY_DEADLINE, openings.dial(&endpoint))
                .await
                .map_err(|_| format!("`{endpoint}` did not answer within 500 ms"))?
                .map_err(|error| format!("`{endpoint}`: {}", open::away_reason(&error)))?,
        ),
        BreakPort::Owner(owner) => {
            let deadline = Deadline::after(Instant::now().into_std(), OWNER_DEADLINE);
            let asked = tokio::task::spawn_blocking(move || owner.break_in(deadline));
            return match timeout(OWNER_DEADLINE + GRACE, asked).await {
                Ok(Ok(Ok(()))) => Ok(Left::Nothing(None)),
                Ok(Ok(Err(reason))) => Err(reason),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer within 2 s".into()),
            };
        }
    };
    match means {
        BreakMeans::None => Err(NO_WAY.into()),
        BreakMeans::Own | BreakMeans::By(_) => {
            let Some(mut channel) = channel else {
                return Ok(Left::OnTarget);
            };
            let kind = kind_for(&means, &channel)?;
            *way = kind.name().into();
            let sent = poll_fn(|context| poll_on(&mut channel, kind, context));
            timeout(WAY_DEADLINE, sent)
                .await
                .map_err(|_| NOT_TAKEN.to_owned())?
                .map_err(|error| open::away_reason(&error))?;
            Ok(Left::Nothing(Some(channel)))
        }
        BreakMeans::Beside(breaker) => {
            let deadline = Deadline::after(Instant::now().into_std(), WAY_DEADLINE);
            let sent = tokio::task::spawn_blocking(move || breaker.send_break(deadline));
            // The way knows the reason at its deadline; this is for one that hangs beyond it.
            match timeout(WAY_DEADLINE + GRACE, sent).await {
                Ok(Ok(Ok(()))) => Ok(Left::Nothing(channel)),
                Ok(Ok(Err(reason))) => Err(reason),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer within 500 ms".into()),
            }
        }
    }
}

/// Sends a BREAK on a stream that was opened for it.
fn poll_on(channel: &mut Channel, kind: NativeBreak, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    if has_own(channel, kind) {
        return channel.poll_break(kind, context);
    }
    // It was just opened, and takes two bytes in one go.
    channel.poll_write_some(context, &TELNET_BREAK).map_ok(drop)
}
