//! Whether a host's key is the one that is known: OpenSSH's rules for `known_hosts`, on `ssh-key`'s parser.
//!
//! libssh2's own check takes a key marked `@revoked` for a good one, knows no patterns, and refuses a whole file for one
//! broken line.

use sha1::{Digest as _, Sha1};
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use ssh_key::{HashAlg, PublicKey};

/// A file with known hosts.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Path, for messages.
    pub path: &'a str,
    /// Content.
    pub text: &'a str,
}

/// A line of such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Path.
    pub path: String,
    /// From 1.
    pub number: usize,
}

impl std::fmt::Display for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.path, self.number)
    }
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the host's.
    Known,
    /// Nothing is known of the host; or of its key of this type, but others are.
    Unknown {
        /// A line with a key of another type.
        other: Option<Line>,
    },
    /// The host has another key of this type.
    Changed(Line),
    /// The key is marked as stolen or given up.
    Revoked(Line),
}

/// What the files say of a host.
#[derive(Debug, Default)]
pub struct Known {
    entries: Vec<(Line, Entry)>,
    /// Lines that nobody can read, which count as absent.
    pub broken: Vec<Line>,
}

/// The types that libssh2 can check, by the names of keys, with the names of their signatures, the best first.
const TYPES: [(&str, &[&str]); 5] = [
    ("ssh-ed25519", &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
    ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
];

impl Known {
    /// Collects the lines about a host. `name` is `host`, `[host]:port` or an alias, in lower case.
    pub fn read(files: &[File<'_>], name: &str) -> Self {
        let mut known = Self::default();
        for file in files {
            for (index, text) in file.text.lines().enumerate() {
                // Blanks may stand before and between the words; the parser wants one space.
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                let line = Line {
                    path: file.path.to_owned(),
                    number: index + 1,
                };
                match text.parse::<Entry>() {
                    Ok(entry) if matches(entry.host_patterns(), name) => known.entries.push((line, entry)),
                    Ok(_) => {}
                    Err(_) => known.broken.push(line),
                }
            }
        }
        known
    }

    /// Returns the algorithms to ask the host for, as libssh2 wants them: those of which a key is known first. A host that
    /// showed a key of another type would be unknown.
    pub fn preference(&self) -> String {
        let is_known = |name: &str| {
            self.entries
                .iter()
                .any(|(_, entry)| entry.marker().is_none() && entry.public_key().algorithm().as_str() == name)
        };
        let (first, then): (Vec<_>, Vec<_>) = TYPES.into_iter().partition(|(name, _)| is_known(name));
        let names = first
            .into_iter()
            .chain(then)
            .flat_map(|(_, signatures)| signatures);
        names.copied().collect::<Vec<_>>().join(",")
    }

    /// Judges the key that the host showed, in its wire form.
    pub fn judge(&self, key: &[u8]) -> Verdict {
        let Ok(key) = PublicKey::from_bytes(key) else {
            return Verdict::Unknown { other: None };
        };
        let same = |entry: &Entry| entry.public_key().key_data() == key.key_data();
        let marked = |entry: &Entry, marker: Option<&Marker>| entry.marker() == marker;
        if let Some((line, _)) = self
            .entries
            .iter()
            .find(|(_, entry)| marked(entry, Some(&Marker::Revoked)) && same(entry))
        {
            return Verdict::Revoked(line.clone());
        }
        let plain = || self.entries.iter().filter(|(_, entry)| marked(entry, None));
        if plain().any(|(_, entry)| same(entry)) {
            return Verdict::Known;
        }
        match plain().find(|(_, entry)| entry.public_key().algorithm() == key.algorithm()) {
            Some((line, _)) => Verdict::Changed(line.clone()),
            None => Verdict::Unknown {
                other: plain().next().map(|(line, _)| line.clone()),
            },
        }
    }
}

/// Returns a key's fingerprint as OpenSSH prints it, with the name of its type: `ssh-ed25519 SHA256:…`.
pub fn fingerprint(key: &[u8]) -> String {
    match PublicKey::from_bytes(key) {
        Ok(key) => format!(
            "{} {}",
            key.algorithm().as_str(),
            key.fingerprint(HashAlg::Sha256)
        ),
        Err(_) => "a key of an unknown type".to_owned(),
    }
}

/// Returns the line to be added for a new host, its name hashed with this salt if there is one.
pub fn new_line(name: &str, key: &[u8], salt: Option<[u8; 20]>) -> Option<String> {
    let key = PublicKey::from_bytes(key).ok()?.to_openssh().ok()?;
    let name = match salt {
        None => HostPatterns::Patterns(vec![name.to_owned()]),
        Some(salt) => HostPatterns::HashedName {
            salt: salt.into(),
            hash: hmac(&salt, name.as_bytes()),
        },
    };
    Some(format!("{} {}\n", name.to_string(), key.trim_end()))
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => hmac(salt, name.as_bytes()) == *hash,
        HostPatterns::Patterns(patterns) => {
            let (mut found, mut refused) = (false, false);
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) => refused |= wildcard(pattern.to_lowercase().as_bytes(), name.as_bytes()),
                    None => found |= wildcard(pattern.to_lowercase().as_bytes(), name.as_bytes()),
                }
            }
            found && !refused
        }
    }
}

/// `*` and `?`, as `match_pattern` of OpenSSH has them. Walks back to the last `*` only, so no pattern takes long.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen, mut back) = (0, 0, None);
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    at = star;
                    seen = from + 1;
                    back = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// HMAC-SHA1 (RFC 2104), which names are hashed with.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..20].copy_from_slice(&Sha1::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha1::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(text)
        .finalize();
    Sha1::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIQ/TzkLgEkGCrlbpFrixQQ8sKH+oWefI0YRiJaDpLAO";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG+ICDtfvPTjY4D8V5tXD5jDgMTgXBocjsEZhIEt8bNX";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBK62Msh5qA4MUfa7lGm5A8jKWkzltuzlGjM0D4UCNyVuxaQ9nH70FKxBJLFAmLq2vy4Bmg927nDJsE/A48PLruw=";

    fn key(text: &str) -> Vec<u8> {
        PublicKey::from_openssh(text).unwrap().to_bytes().unwrap()
    }

    fn verdict(text: &str, name: &str) -> Verdict {
        Known::read(&[File { path: "k", text }], name).judge(&key(ED))
    }

    fn line(number: usize) -> Line {
        Line {
            path: "k".into(),
            number,
        }
    }

    #[test]
    fn a_key_is_judged_as_openssh_does() {
        let unknown = Verdict::Unknown { other: None };
        for (text, name, expected) in [
            (format!("h {ED}"), "h", Verdict::Known),
            (format!("  H\t{ED} a comment # more"), "h", Verdict::Known),
            (format!("a,h,b {ED}"), "h", Verdict::Known),
            (format!("[h]:2222 {ED}"), "[h]:2222", Verdict::Known),
            (format!("h {ED}"), "[h]:2222", unknown.clone()),
            (format!("*.lab,!x.lab {ED}"), "a.lab", Verdict::Known),
            (format!("*.lab,!x.lab {ED}"), "x.lab", unknown.clone()),
            (format!("!x.lab {ED}"), "a.lab", unknown.clone()),
            (format!("h? {ED}"), "h1", Verdict::Known),
            (format!("# h {ED}\n\n"), "h", unknown.clone()),
            (format!("h {OTHER}"), "h", Verdict::Changed(line(1))),
            (format!("h {OTHER}\nh {ED}"), "h", Verdict::Known),
            (
                format!("h {ECDSA}"),
                "h",
                Verdict::Unknown { other: Some(line(1)) },
            ),
            (format!("h {ED}\n@revoked * {ED}"), "h", Verdict::Revoked(line(2))),
            (format!("h {ED}\n@revoked * {OTHER}"), "h", Verdict::Known),
            (format!("@cert-authority * {ED}"), "h", unknown.clone()),
            (format!("broken\nh x y\nh {ED}"), "h", Verdict::Known),
        ] {
            assert_eq!(verdict(&text, name), expected, "{text} for {name}");
        }
    }

    #[test]
    fn hashed_names_are_known() {
        // `ssh-keygen -H` wrote it for `lab.example`.
        let text = format!("|1|I1Y5zYi8sMUSAvFPhKFMZkZls8o=|QA2h9eXeB2NCC8QBOKhDYnU+KTw= {ED}");
        assert_eq!(verdict(&text, "lab.example"), Verdict::Known);
        assert_eq!(verdict(&text, "other"), Verdict::Unknown { other: None });
        let line = new_line("lab", &key(ED), Some([7; 20])).unwrap();
        assert!(line.starts_with("|1|") && !line.contains("lab"), "{line}");
        assert_eq!(verdict(&line, "lab"), Verdict::Known);
        let line = new_line("[lab]:22", &key(ED), None).unwrap();
        assert_eq!(line, format!("[lab]:22 {ED}\n"));
    }

    #[test]
    fn broken_lines_are_told_and_files_are_read_on() {
        let files = [
            File {
                path: "a",
                text: "h AAAA\n@what h ssh-rsa x\n",
            },
            File {
                path: "b",
                text: &format!("h {ED}"),
            },
        ];
        let known = Known::read(&files, "h");
        let broken: Vec<String> = known.broken.iter().map(Line::to_string).collect();
        assert_eq!(broken, ["a:1", "a:2"]);
        assert_eq!(known.judge(&key(ED)), Verdict::Known);
    }

    #[test]
    fn a_host_is_asked_for_the_keys_that_are_known() {
        let preference = |text: &str| Known::read(&[File { path: "k", text }], "h").preference();
        assert_eq!(
            preference(""),
            "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
        );
        assert!(preference(&format!("h {ECDSA}")).starts_with("ecdsa-sha2-nistp256,ssh-ed25519,"));
        assert!(preference(&format!("@revoked h {ECDSA}")).starts_with("ssh-ed25519,"));
    }

    #[test]
    fn fingerprints_are_openssh_s() {
        assert_eq!(
            fingerprint(&key(ED)),
            "ssh-ed25519 SHA256:6Xl30Nfwme1I6eRa7GCIyt/y7YSNXB7yprhmU0Y+Mi0"
        );
        assert_eq!(fingerprint(b"x"), "a key of an unknown type");
    }

    proptest::proptest! {
        #[test]
        fn patterns_match_as_the_plain_recursion_does(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| plain(rest, &text[skip..])),
                    Some((byte, rest)) => text.split_first().is_some_and(|(first, others)| {
                        (*byte == b'?' || byte == first) && plain(rest, others)
                    }),
                }
            }
            proptest::prop_assert_eq!(
                wildcard(pattern.as_bytes(), text.as_bytes()),
                plain(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
