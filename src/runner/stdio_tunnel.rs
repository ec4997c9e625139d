//! A TCP stream through SSH on the standard input and output of the system's `ssh` (`-W`), for systems where it cannot
//! forward a socket that only we can open. A login for each dial.

use super::attended::Children;
use super::tunnel::{DIAL_TIMEOUT, answer, is_for_people, lost};
use super::{child_stream, ssh_words, sys};
use crate::bridge::{Channel, Facts};
use crate::model::{Address, EndpointSpec, SshHop};
use std::io;
use tokio::sync::oneshot;

/// Goes to the endpoint once. It is open when `ssh` says that the far end took the connection.
///
/// # Errors
///
/// What `ssh` said, or the far end's refusal.
pub(super) async fn open(endpoint: &EndpointSpec, children: &Children) -> io::Result<Channel> {
    which::which("ssh").map_err(|_| io::Error::other("`ssh` was not found"))?;
    let mut command = sys::command(&arguments(endpoint), None);
    // No window asks either: what cannot log in says so.
    command.env("SSH_ASKPASS_REQUIRE", "never");
    let (sender, answered) = oneshot::channel();
    let mut sender = Some(sender);
    let take_line = Box::new(move |line: &str| match answer(line) {
        Some(refused) => {
            if let Some(sender) = sender.take() {
                // Whoever waited has given the dial up.
                let _ = sender.send(refused);
            }
            false
        }
        None => is_for_people(line),
    });
    let stream = child_stream::over(command, "ssh", take_line, children)?;
    let mut end = stream.ended();
    match tokio::time::timeout(DIAL_TIMEOUT, answered).await {
        Ok(Ok(None)) => {
            let hops: Vec<&str> = endpoint.via.iter().map(|hop| hop.0.as_str()).collect();
            Ok(Channel::new(
                stream,
                Facts::half_closing(format!("ssh {}", hops.join(" "))),
            ))
        }
        Ok(Ok(Some(reason))) if reason.contains("Connection refused") => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(Ok(Some(reason))) => Err(io::Error::other(reason)),
        // It ended without a word about the connection.
        Ok(Err(_)) => Err(lost(end.wait().await.as_ref())),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn arguments(endpoint: &EndpointSpec) -> Vec<String> {
    let far = match &endpoint.address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        _ => String::new(),
    };
    let mut words: Vec<String> = ["ssh", "-T", "-a", "-x", "-vv"].map(String::from).into();
    for option in ssh_words::options() {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some((SshHop(destination), jumps)) = endpoint.via.split_last() {
        if !jumps.is_empty() {
            let jumps: Vec<&str> = jumps.iter().map(|hop| hop.0.as_str()).collect();
            words.extend(["-J".to_owned(), jumps.join(",")]);
        }
        words.extend(["-W".to_owned(), far, "--".to_owned()]);
        words.push(ssh_words::destination_word(destination));
    }
    words
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_far_end_is_one_word() {
        for (endpoint, tail) in [
            (
                "connect:tcp:127.0.0.1:7001,via=root@xcp1",
                "-W 127.0.0.1:7001 -- root@xcp1",
            ),
            (
                "connect:tcp:[::1]:7001,via=gate,via=lab:2222",
                "-J gate -W [::1]:7001 -- ssh://lab:2222",
            ),
        ] {
            let words = arguments(&endpoint.parse().unwrap()).join(" ");
            assert!(words.ends_with(tail), "{words}");
        }
    }
}
