//! The endpoint that a text was probably meant to be: a path, a device, a URL, another program's spelling, a slip.

use super::{EndpointSpec, KINDS};
use crate::model::near::nearest;

/// What other programs (socat, QEMU, libvirt, VMware) call our kinds.
const OTHER_NAMES: [(&str, &str); 20] = [
    ("unix-connect", "connect:unix"),
    ("unix-client", "connect:unix"),
    ("unix-listen", "listen:unix"),
    ("socket", "connect:unix"),
    ("tcp4", "connect:tcp"),
    ("tcp6", "connect:tcp"),
    ("tcp-connect", "connect:tcp"),
    ("tcp-listen", "listen:tcp"),
    ("tcp4-listen", "listen:tcp"),
    ("rfc-2217", "connect:rfc2217"),
    ("namedpipe", "connect:pipe"),
    ("npipe", "connect:pipe"),
    ("serial", "tty"),
    ("device", "tty"),
    ("dev", "tty"),
    ("com", "tty"),
    ("stdin", "stdio"),
    ("stdout", "stdio"),
    ("system", "exec"),
    ("log", "file"),
];

/// Returns an endpoint that parses, if the text looks like one that was spelled in another way.
pub(in crate::model::endpoint) fn meant(text: &str) -> Option<String> {
    candidates(text)
        .into_iter()
        .find(|candidate| candidate != text && candidate.parse::<EndpointSpec>().is_ok())
}

fn candidates(text: &str) -> Vec<String> {
    let commas = text.replace(',', ",,");
    if text.starts_with(r"\\") {
        return vec![format!("connect:pipe:{commas}")];
    }
    if text.starts_with("/dev/tty") || text.starts_with("/dev/pts/") || text.starts_with("/dev/cu") {
        return vec![format!("tty:{text}"), format!("tty:{commas}")];
    }
    if text.starts_with(['/', '~']) || text.starts_with("./") || text.starts_with("../") {
        return vec![format!("connect:unix:{commas}")];
    }
    let lower = text.to_lowercase();
    let number = lower.strip_prefix("com").unwrap_or_default();
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return vec![format!("tty:{}", text.to_uppercase())];
    }
    if text == "-" {
        return vec!["stdio".to_owned()];
    }
    let Some((first, rest)) = text.split_once(':') else {
        let near = nearest(&lower, ["stdio", "pty"].into_iter());
        return near.map(str::to_owned).into_iter().collect();
    };
    let first = first.to_lowercase();
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if matches!(first.as_str(), "listen" | "connect") {
        return candidates(rest)
            .into_iter()
            .flat_map(|candidate| {
                let bare = candidate
                    .trim_start_matches("connect:")
                    .trim_start_matches("listen:")
                    .to_owned();
                [format!("{first}:{bare}"), candidate]
            })
            .collect();
    }
    let mut found = Vec::new();
    let other = OTHER_NAMES.into_iter().find(|(name, _)| *name == first);
    if let Some((_, kind)) = other {
        found.push(kind.to_owned() + ":" + rest);
        found.push(kind.to_owned());
    } else if let Some(kind) = nearest(&first, KINDS.into_iter()) {
        for role in ["connect:", "listen:", ""] {
            found.push(format!("{role}{kind}:{rest}"));
        }
        found.push(kind.to_owned());
    } else if let Some(role) = nearest(&first, ["listen", "connect"].into_iter()) {
        found.push(format!("{role}:{rest}"));
    }
    found.push(format!("connect:tcp:{text}"));
    found
}
