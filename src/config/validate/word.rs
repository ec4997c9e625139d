//! Small grammars of a profile's texts.

use std::net::IpAddr;

/// Checks `[user@]host[:port]`.
pub(super) fn ssh_destination(text: &str) -> Result<(), String> {
    let (user, rest) = text.rsplit_once('@').unwrap_or(("-", text));
    let bad_word =
        |word: &str| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control());
    // A word that begins with `-` would be taken for an option by an ssh program.
    let user_is_wrong = text.contains('@') && (bad_word(user) || user.starts_with('-'));
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (
            host,
            behind.strip_prefix(':').or((!behind.is_empty()).then_some("")),
        ),
        None => match rest.split_once(':') {
            // An IPv6 address without brackets has several colons and no port.
            Some((_, behind)) if behind.contains(':') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let host_is_wrong =
        bad_word(host) || host.starts_with('-') || (host.contains(':') && host.parse::<IpAddr>().is_err());
    let port_is_wrong = port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0));
    if user_is_wrong || host_is_wrong || port_is_wrong {
        return Err(format!(
            "`{text}` is no SSH destination, expected `[user@]host[:port]`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_destinations() {
        for right in [
            "h",
            "root@xcp1.lab",
            "me@h:22",
            "[::1]:22",
            "::1",
            "me@[fe80::1]",
            "a.b@c@h",
        ] {
            assert_eq!(ssh_destination(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "@h",
            "me@",
            "-oProxyCommand=x",
            "-l@h",
            "me@-h",
            "h:0",
            "h:x",
            "h:65536",
            "a b",
            "[::1]x",
            "h:",
            "[h:1]",
        ] {
            assert!(ssh_destination(wrong).is_err(), "{wrong}");
        }
    }
}
