//! The signals that stop a bridge.

use crate::bridge::StopSignal;
use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT, SIGTERM or SIGHUP.
///
/// # Cancel safety
///
/// Cancel safe: a signal that came is not lost to a later call only if this future was polled once before it came.
pub async fn stop_signal() -> io::Result<StopSignal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => StopSignal::Interrupt,
        _ = terminate.recv() => StopSignal::Terminate,
        _ = hang_up.recv() => StopSignal::Terminate,
    })
}
