//! Where the user's things are.

use std::io::{self, Read as _};

/// Returns the user's folder; empty if it is not known.
pub fn home() -> String {
    std::env::var("HOME").unwrap_or_default()
}

/// Returns the user's name, where it is known.
pub fn user() -> Option<String> {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()
}

/// Returns the file with the hosts that all users know.
pub fn known_hosts_of_all() -> String {
    "/etc/ssh/ssh_known_hosts".to_owned()
}

/// Returns what `ssh -G` printed, with the folders that it has a word of its own for.
pub fn spelled_out(printed: &str) -> String {
    printed.to_owned()
}

/// Whether there may be an agent that nothing names.
pub const HAS_USUAL_AGENT: bool = false;

/// Returns bytes that nobody can guess.
///
/// # Errors
///
/// The system's refusal.
pub fn random() -> io::Result<[u8; 20]> {
    let mut bytes = [0; 20];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
