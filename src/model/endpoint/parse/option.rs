//! The options behind an endpoint's address.

use super::{Parser, Piece, Wrong, example};
use crate::model::endpoint::{Address, EndpointError, EndpointSpec, Role, SshHop, TtySettings};
use crate::model::near::nearest;

/// Applies one option. `seen` has the names of those before it.
pub(super) fn apply(
    parser: &Parser<'_>,
    spec: &mut EndpointSpec,
    option: &Piece,
    seen: &mut Vec<String>,
) -> Result<(), EndpointError> {
    let sample = example(spec.address.kind(), spec.role);
    let Some((name, value)) = option.text.split_once('=') else {
        let wrong = Wrong::new(
            "option",
            option.text.as_str(),
            "`name=value` (a literal comma is `,,`)",
        );
        return Err(parser.error(option.offset, &wrong, sample));
    };
    let part = format!("option `{name}`");
    if name != "via" {
        if seen.iter().any(|before| before == name) {
            let wrong = Wrong::new(part, option.text.as_str(), "it once");
            return Err(parser.error(option.offset, &wrong, sample));
        }
        seen.push(name.to_owned());
    }
    let value_offset = option.offset + name.len() + 1;
    if let Address::Tty { settings, .. } | Address::Rfc2217 { settings, .. } = &mut spec.address
        && spec.role != Some(Role::Listen)
        && let Some(result) = settings.apply(name, value)
    {
        return result
            .map_err(|expected| parser.error(value_offset, &Wrong::new(part, value, expected), sample));
    }
    if name == "via" && spec.address.takes_via() {
        return match check_hop(value) {
            Ok(()) => {
                spec.via.push(SshHop(value.to_owned()));
                Ok(())
            }
            Err((at, wrong)) => {
                Err(parser.error(value_offset + at, &wrong, format!("{sample},via=root@xcp1.lab")))
            }
        };
    }
    Err(parser.error(option.offset, &unknown(spec, name), sample))
}

fn unknown(spec: &EndpointSpec, name: &str) -> Wrong {
    let kind = spec.address.kind();
    let mut known: Vec<&str> = Vec::new();
    if matches!(spec.address, Address::Tty { .. })
        || matches!(spec.address, Address::Rfc2217 { .. }) && spec.role != Some(Role::Listen)
    {
        known.extend(TtySettings::OPTIONS);
    }
    if spec.address.takes_via() {
        known.push("via");
    }
    let listed = known
        .iter()
        .map(|name| format!("`{name}=`"))
        .collect::<Vec<_>>()
        .join(", ");
    let mut expected = match (&spec.address, spec.role) {
        (Address::Rfc2217 { .. }, Some(Role::Listen)) => {
            "none: a client that comes to us sets what it likes".to_owned()
        }
        _ if known.is_empty() => format!("none: `{kind}` has no options"),
        _ => format!("for {kind}: {listed}"),
    };
    expected.push_str(" (a literal comma is `,,`)");
    if let Some(near) = nearest(&name.to_lowercase(), known.into_iter()) {
        expected.push_str(&format!("; did you mean `{near}=`?"));
    }
    Wrong::new("option", name, expected)
}

/// Checks `[user@]host[:port]`. It becomes a word of `ssh`'s command line, so it must not look like an option.
fn check_hop(text: &str) -> Result<(), (usize, Wrong)> {
    let part = "option `via`";
    let wrong = |at, expected: &str| Err((at, Wrong::new(part, text, expected)));
    if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) || text.contains('/') {
        return wrong(0, "`[user@]host[:port]`");
    }
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, text),
    };
    if user == Some("") {
        return wrong(0, "a user before the `@`, or no `@`");
    }
    let at = text.len() - place.len();
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, after)) if after.starts_with(':') => (host, after.strip_prefix(':')),
            _ => return wrong(at, "`[IPv6]` or `[IPv6]:port`"),
        },
        None if place.matches(':').count() > 1 => {
            return wrong(at, "brackets around an IPv6 address, `[fe80::1]:22`");
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() || host.starts_with('-') {
        return wrong(at, "a host, `[user@]host[:port]`");
    }
    if let Some(port) = port {
        let good = port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|number| number > 0);
        if !good {
            let at = text.len() - port.len();
            return Err((at, Wrong::new("port of `via`", port, "a number from 1 to 65535")));
        }
    }
    Ok(())
}
