//! Ctrl-C while hosts are changed: the running step ends, nothing new starts.

use crate::model::Cancel;
use crate::runner::sys::StopSignals;
use std::io;
use std::time::Duration;

/// How long the running step may go on after Ctrl-C (`docs/dev/design.md`).
const GRACE: Duration = Duration::from_secs(10);

/// Two flags: the first is set by the first signal, the second by the next one or after [`GRACE`].
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Start nothing new; end waits that change nothing.
    pub soft: Cancel,
    /// End the running step.
    pub hard: Cancel,
}

impl Interrupt {
    /// Catches the stop signals from now on.
    ///
    /// # Errors
    ///
    /// The system's refusal to catch signals or to start a thread.
    pub fn catch() -> io::Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut signals = {
            let _guard = runtime.enter();
            StopSignals::catch()?
        };
        let flags = interrupt.clone();
        std::thread::Builder::new()
            .name("interrupt".into())
            .spawn(move || {
                runtime.block_on(async move {
                    signals.next().await;
                    flags.soft.cancel();
                    tokio::select! {
                        _ = signals.next() => {}
                        () = tokio::time::sleep(GRACE) => {}
                    }
                    flags.hard.cancel();
                    loop {
                        // Caught and ignored: the flags cannot be set again, and the journal must be written.
                        signals.next().await;
                    }
                });
            })?;
        Ok(interrupt)
    }
}
