//! Chooses the engine: the built-in one, or the system's `ssh` where that is wanted or is all there is.

use super::link::{ExecFailure, Far};
use super::options::{self, SshEngine, options};
use super::{sys, system};
use crate::model::Wait;
use crate::runner::{Output, ReadWrite, RunError};

/// Tells whether streams and commands go through the built-in engine.
pub fn is_builtin() -> bool {
    sys::BUILT_IN && options().engine == SshEngine::Builtin
}

/// Tells whether the key of a host that is not known yet is taken and written down.
pub fn accepts_new_host_keys() -> bool {
    options().accept_new_host_key
}

/// Runs a line on the last host of the chain.
pub(super) fn exec(chain: &[String], line: &str, stdin: &[u8], wait: &Wait) -> Result<Output, ExecFailure> {
    if is_builtin() {
        sys::exec(chain, line, stdin, wait)
    } else {
        system::exec(chain, line, stdin, wait)
    }
}

/// Lets go of the chain's connections: whoever uses one keeps it, what comes next opens another. The system's `ssh` opens one for
/// each command; from now on also where the user lets it share them.
pub(super) fn renew(chain: &[String]) {
    sys::renew(chain);
    options::set_own_connections();
}

/// Opens a stream through the last host of the chain, for a thread.
pub(super) fn open_within(chain: &[String], far: &Far, wait: &Wait) -> Result<Box<dyn ReadWrite>, RunError> {
    if is_builtin() {
        sys::open_within(chain, far, wait)
    } else {
        system::open_within(chain, far, wait)
    }
}
