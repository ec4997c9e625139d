//! Where the user's things are.

use std::io;
use windows_sys::Win32::Security::Cryptography::{BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom};

/// Returns the user's folder; empty if it is not known.
pub fn home() -> String {
    std::env::var("USERPROFILE").unwrap_or_default()
}

/// Returns the user's name, where it is known.
pub fn user() -> Option<String> {
    std::env::var("USERNAME").ok()
}

/// Returns the file with the hosts that all users know.
pub fn known_hosts_of_all() -> String {
    format!(r"{}\ssh\ssh_known_hosts", program_data())
}

fn program_data() -> String {
    std::env::var("ProgramData").unwrap_or_else(|_| r"C:\ProgramData".to_owned())
}

/// Returns what `ssh -G` printed, with the folders that it has a word of its own for (openssh-portable for Windows,
/// `pathnames.h`: `_PATH_SSH_SYSTEM_HOSTFILE`).
pub fn spelled_out(printed: &str) -> String {
    printed.replace("__PROGRAMDATA__", &program_data())
}

/// Whether there may be an agent that nothing names: Pageant, and the service `ssh-agent`, have one place for everybody.
pub const HAS_USUAL_AGENT: bool = true;

/// Returns bytes that nobody can guess.
///
/// # Errors
///
/// The system's refusal.
pub fn random() -> io::Result<[u8; 20]> {
    let mut bytes = [0; 20];
    // SAFETY: the buffer has the length that is told; the system's own generator needs no handle.
    let status = unsafe {
        BCryptGenRandom(
            std::ptr::null_mut(),
            bytes.as_mut_ptr(),
            20,
            BCRYPT_USE_SYSTEM_PREFERRED_RNG,
        )
    };
    if status != 0 {
        return Err(io::Error::other(format!("BCryptGenRandom says {status:#x}")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_folder_of_all_users_is_spelled_out() {
        let printed = spelled_out("globalknownhostsfile __PROGRAMDATA__\\ssh/ssh_known_hosts\n");
        let known = known_hosts_of_all().replace("ssh\\ssh_", "ssh/ssh_");
        assert_eq!(printed, format!("globalknownhostsfile {known}\n"));
    }

    #[test]
    fn chance_is_not_twice_the_same() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
