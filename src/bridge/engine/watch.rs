//! What the hypervisor tells of the VM while the bridge runs: resets and pauses, beside the port's own stream.

use crate::bridge::channel::Channel;
use crate::bridge::dial::{Dialer, VmEvent, VmEventReader};
use crate::bridge::handle::{BridgeHandle, Gone};
use crate::bridge::openings::Openings;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Pause between two tries. A VM that starts says nothing of interest before its first second is over.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows a VM through all its starts, until the bridge has ended. A hypervisor that tells nothing ends it at once.
///
/// # Cancel safety
///
/// Dropping it closes the stream.
pub(super) async fn watch(dialer: Arc<dyn Dialer>, openings: Openings, handle: BridgeHandle) {
    let following = async {
        while let Some(source) = dialer.events() {
            if let Ok(channel) = openings.dial(&source.endpoint).await
                && follow(channel, source.reader, &handle).await.is_err()
            {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = handle.ended() => {}
        () = following => {}
    }
}

/// Passes on what happens until the stream ends.
async fn follow(
    mut channel: Channel,
    mut reader: Box<dyn VmEventReader>,
    handle: &BridgeHandle,
) -> Result<(), Gone> {
    let mut buffer = [0; 4096];
    let mut happened = Vec::new();
    while let Ok(count @ 1..) = poll_fn(|context| channel.poll_read_some(context, &mut buffer)).await {
        let answer = match reader.input(&buffer[..count], &mut happened) {
            Ok(answer) => answer,
            Err(reason) => {
                tracing::warn!(reason, "the hypervisor's events cannot be understood");
                return Ok(());
            }
        };
        for event in happened.drain(..) {
            match event {
                VmEvent::Reset => handle.target_reset().await?,
                VmEvent::Paused(paused) => handle.target_paused(paused).await?,
            }
        }
        if !answer.is_empty() && channel.write_all(&answer).await.is_err() {
            break;
        }
    }
    // A VM whose hypervisor is gone is not paused by it.
    handle.target_paused(false).await
}
