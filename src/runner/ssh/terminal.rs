//! A pseudo terminal of another host as a stream, by nothing but what every POSIX system has: `sh`, `stty` and `cat`.
//!
//! The shell opens the device once, for both directions, in a process that leads no session: else it would become that
//! one's controlling terminal, and its end a hang-up. Whichever direction ends takes the other along, so that no reader is
//! left behind that would take the next one's bytes.

use super::command::word;
use super::options;
use crate::model::{Address, EndpointSpec};

const OPEN: &str = include_str!("../../../templates/sh/open_pty.sh");

/// Where Linux has its pseudo terminals: a name here is one of no other kind.
const PSEUDO_TERMINALS: &str = "/dev/pts/";

/// Returns the line that makes an endpoint's device a stream on its host; `None` if it is no pseudo terminal there.
pub fn line(endpoint: &EndpointSpec) -> Option<String> {
    let Address::Tty { device, .. } = &endpoint.address else {
        return None;
    };
    let number = device.strip_prefix(PSEUDO_TERMINALS)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sudo = options::login(&endpoint.via.last()?.0).sudo;
    let front: &[&str] = if sudo {
        &["exec", "sudo", "-n", "--", "sh", "-c"]
    } else {
        &["exec", "sh", "-c"]
    };
    let words = front.iter().copied().chain([OPEN, "sh", device]);
    let words: Option<Vec<String>> = words.map(word).collect();
    words.map(|words| words.join(" "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_pseudo_terminals_of_other_hosts_are_opened_so() {
        let of = |text: &str| line(&text.parse().unwrap());
        let line = of("tty:/dev/pts/7,via=root@xcp1").unwrap();
        assert!(
            line.starts_with("exec sh -c '") && line.ends_with("' sh /dev/pts/7"),
            "{line}"
        );
        for other in [
            "tty:/dev/pts/7",
            "tty:/dev/pts/,via=h",
            "tty:/dev/pts/7/../1,via=h",
            "tty:/dev/ttyS0,via=h",
            "tty:COM3,via=h",
            "connect:unix:/dev/pts/7,via=h",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
