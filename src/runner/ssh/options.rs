//! What the command line and the profile say about SSH, for the whole program: a connection is shared by all that use it.

use crate::model::HostLogin;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Who speaks SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SshEngine {
    /// vmserial itself, where it was built in.
    #[default]
    Builtin,
    /// The system's `ssh` program: FIDO keys, certificates, ProxyCommand.
    System,
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct SshOptions {
    /// Who speaks SSH.
    pub engine: SshEngine,
    /// Take and write down the key of a host that is not known yet, without asking.
    pub accept_new_host_key: bool,
    /// Takes a line about what is wrong beside: a broken line of `known_hosts`.
    pub warn: fn(&str),
}

static OPTIONS: OnceLock<SshOptions> = OnceLock::new();
static OWN_CONNECTIONS: AtomicBool = AtomicBool::new(false);
static LOGINS: Mutex<BTreeMap<String, HostLogin>> = Mutex::new(BTreeMap::new());

/// Sets the options, once, before anything goes through SSH. Later calls change nothing.
pub fn configure(options: SshOptions) {
    let _ = OPTIONS.set(options);
}

/// Returns the options: those that were set, or none in particular.
pub(super) fn options() -> SshOptions {
    OPTIONS.get().copied().unwrap_or(SshOptions {
        engine: SshEngine::default(),
        accept_new_host_key: false,
        warn: |line| tracing::warn!("{line}"),
    })
}

/// Lets every command of the system's `ssh` open a connection of its own, also where the user has it share one.
pub(super) fn set_own_connections() {
    OWN_CONNECTIONS.store(true, Ordering::SeqCst);
}

/// Tells whether every command opens a connection of its own.
pub(super) fn has_own_connections() -> bool {
    OWN_CONNECTIONS.load(Ordering::SeqCst)
}

/// Notes how one logs in to a host and acts there, as its entry in the profile says.
pub fn set_login(destination: &str, login: HostLogin) {
    let mut logins = LOGINS.lock().unwrap_or_else(PoisonError::into_inner);
    logins.insert(destination.to_owned(), login);
}

/// Returns what was noted for a destination.
pub fn login(destination: &str) -> HostLogin {
    let logins = LOGINS.lock().unwrap_or_else(PoisonError::into_inner);
    logins.get(destination).cloned().unwrap_or_default()
}
