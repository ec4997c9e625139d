//! The words of the system's `ssh`, for everything that is started through it.

use crate::model::SshHop;

/// Never asks, notices a link that is gone within half a minute, and takes nothing of an open connection of the user's.
const OPTIONS: [&str; 7] = [
    "BatchMode=yes",
    "ControlMaster=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
];

/// Returns what every `ssh` of ours is told.
pub(super) fn options() -> impl Iterator<Item = &'static str> {
    let accepts = super::ssh::accepts_new_host_keys();
    let accept = accepts.then_some("StrictHostKeyChecking=accept-new");
    OPTIONS.into_iter().chain(accept)
}

/// Returns the words that run a command on the last of the hosts. Its standard streams are those of `ssh`.
pub(super) fn exec(via: &[SshHop], command: &str) -> Vec<String> {
    let mut words: Vec<String> = ["ssh", "-T", "-a", "-x"].map(String::from).into();
    for option in options() {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some((SshHop(destination), jumps)) = via.split_last() {
        if !jumps.is_empty() {
            let jumps: Vec<&str> = jumps.iter().map(|hop| hop.0.as_str()).collect();
            words.extend(["-J".to_owned(), jumps.join(",")]);
        }
        words.extend(["--".to_owned(), destination_word(destination), command.to_owned()]);
    }
    words
}

/// Returns the hosts as people read them.
pub(super) fn shown(via: &[SshHop]) -> String {
    let hops: Vec<&str> = via.iter().map(|hop| hop.0.as_str()).collect();
    hops.join(" via ")
}

/// A destination with a port is written as a URI, the only form that `ssh` takes as one word.
pub(super) fn destination_word(destination: &str) -> String {
    let host = destination.rsplit_once('@').map_or(destination, |(_, host)| host);
    let has_port = match host.rsplit_once(']') {
        Some((_, rest)) => rest.starts_with(':'),
        None => host.matches(':').count() == 1,
    };
    if has_port {
        format!("ssh://{destination}")
    } else {
        destination.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_word_behind_the_host() {
        let via = [SshHop("jump".into()), SshHop("me@win:2222".into())];
        let words = exec(&via, "vmserial.exe helper");
        let tail: Vec<&str> = words.iter().rev().take(5).rev().map(String::as_str).collect();
        assert_eq!(
            tail,
            ["-J", "jump", "--", "ssh://me@win:2222", "vmserial.exe helper"]
        );
    }
}
