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

/// Checks an address, a range of addresses (`10.0.0.0/24`), or `any`.
pub(super) fn address_range(text: &str) -> Result<(), String> {
    if text == "any" {
        return Ok(());
    }
    let wrong = || format!("`{text}` is no range of addresses, expected one as in `10.0.0.0/24`, or `any`");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let Some(bits) = bits else {
        return Ok(());
    };
    let bits: u32 = bits
        .parse()
        .ok()
        .filter(|bits| *bits <= width)
        .ok_or_else(wrong)?;
    if bits == 0 {
        return Err(format!("`{text}` is everybody: write `any` if that is meant"));
    }
    // Bits behind the prefix: a firewall would silently drop them, and the range be another than it looks.
    let behind = number & ((1_u128 << (width - bits)) - 1);
    if behind != 0 {
        return Err(format!(
            "`{text}` has bits behind its first {bits}: expected the range's first address"
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

    #[test]
    fn address_ranges() {
        for right in ["any", "10.0.0.0/24", "10.0.0.7", "10.0.0.7/32", "fd00::/8", "::1"] {
            assert_eq!(address_range(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "all",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.1/24",
            "0.0.0.0/0",
            "::/0",
            "10.0.0/24",
            "fd00::1/8",
            "10.0.0.0/-1",
        ] {
            assert!(address_range(wrong).is_err(), "{wrong}");
        }
    }
}
