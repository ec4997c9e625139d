//! What the rest of the program uses of the engine that is built in.

use super::pool::Pool;
use super::worker::Wanted;
use crate::model::Wait;
use crate::runner::ssh::link::{ExecFailure, Far};
use crate::runner::{Output, ReadWrite, RunError};
use std::io;

/// This engine is there.
pub const BUILT_IN: bool = true;

fn wanted(far: &Far) -> Wanted {
    match far {
        Far::Command(line) => Wanted::Exec(line.clone()),
        Far::Tcp(host, port) => Wanted::Tcp(host.clone(), *port),
        Far::Unix(path) => Wanted::Unix(path.clone()),
    }
}

/// Runs a line on the last host of the chain.
///
/// # Errors
///
/// Why not, with what it had said on standard error by then.
pub fn exec(chain: &[String], line: &str, stdin: &[u8], wait: &Wait) -> Result<Output, ExecFailure> {
    Pool::shared().exec(chain, line, stdin, wait)
}

/// Lets go of the chain's connections: whoever uses one keeps it, what comes next opens another.
pub fn renew(chain: &[String]) {
    Pool::shared().renew(chain);
}

/// Opens a stream through the last host of the chain.
///
/// # Errors
///
/// Why not, as the reason of a target's state.
pub async fn open(
    chain: &[String],
    far: &Far,
) -> io::Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + use<>> {
    Pool::shared().open(chain, &wanted(far)).await
}

/// The same for a thread.
///
/// # Errors
///
/// The wait's, or why not.
pub fn open_within(chain: &[String], far: &Far, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
    Ok(Box::new(Pool::shared().open_within(chain, &wanted(far), wait)?))
}
