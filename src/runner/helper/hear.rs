//! Who the helper of a place is: started, heard, and ended again.

use super::link::{ENDING, rest};
use super::start::{Place, Started, program_of_ours, start, start_one_of};
use crate::model::SshHop;
use crate::runner::attended::Children;
use std::io;
use std::path::Path;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// A helper that answered. It speaks our protocol: one that does not is an error that names both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// By which command it was started.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Hears who the helper of a Windows is: that of the last of these hosts, or without hosts the one around this machine (WSL).
///
/// # Errors
///
/// What was tried, and what was said to it.
pub fn hear(via: &[SshHop]) -> io::Result<Heard> {
    let place = Place {
        via: via.to_vec(),
        windows: true,
    };
    run(async |children| start(&place, children).await)
}

/// Hears who a program of this machine is.
///
/// # Errors
///
/// What was said to it.
pub fn hear_program(program: &Path) -> io::Result<Heard> {
    run(async |children| start_one_of(vec![program_of_ours(program)], children).await)
}

fn run(starting: impl AsyncFnOnce(&Children) -> io::Result<Started>) -> io::Result<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let heard = runtime.block_on(async {
        let children = Children::default();
        let heard = match starting(&children).await {
            Err(error) => Err(error),
            Ok(mut started) => {
                // Its own end follows; one that stays is ended with the channel.
                let _ = started.input.shutdown().await;
                drop(started.input);
                let _ = timeout(ENDING, rest(&mut started.output)).await;
                Ok(Heard {
                    name: started.name,
                    version: started.version,
                })
            }
        };
        children.wait().await;
        heard
    });
    // A look-up that hangs must not keep us.
    runtime.shutdown_background();
    heard
}
