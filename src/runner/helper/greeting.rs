//! What both ends say first: who they are, and that the way between them leaves bytes as they are. Pure.
//!
//! A line, `vmserial-helper PROTOCOL VERSION` (the other end: `vmserial-client …`), and all 256 bytes behind it. This much
//! never changes, so that ends of different versions can tell each other. Before the line there may be words of somebody
//! else's (a shell's profile); they are kept for the case that nothing else comes.

/// The version of the protocol. Ends with different ones do not work together.
pub const PROTOCOL: u32 = 1;

/// So many bytes of other words are looked through for the line.
const OTHER_WORDS: usize = 16 * 1024;

/// The longest line that is a greeting.
const LONGEST_LINE: usize = 200;

/// Which end says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that opens streams.
    Helper,
    /// The one that asks for them.
    Client,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::Helper => "vmserial-helper",
            Self::Client => "vmserial-client",
        }
    }
}

/// What an end says.
pub fn greeting(end: End, protocol: u32, version: &str) -> Vec<u8> {
    let mut bytes = format!("{} {protocol} {version}\n", end.word()).into_bytes();
    bytes.extend(0..=255_u8);
    bytes
}

/// An end as it presented itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its protocol.
    pub protocol: u32,
    /// The version of its program.
    pub version: String,
}

/// Why there is no understanding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// Something else talks there.
    #[error("{}", no_greeting(.0))]
    SomebodyElse(String),
    /// Bytes come changed.
    #[error(
        "the way to the helper changes bytes (byte {at:#04x} did not come as itself): a shell between is at work, as PowerShell is when it is sshd's DefaultShell"
    )]
    Changed {
        /// The first byte that did not come as itself.
        at: u8,
    },
}

fn no_greeting(words: &str) -> String {
    match words.trim().lines().next_back() {
        None => "it said nothing".to_owned(),
        Some(line) => format!("it is no helper of vmserial's; it said `{}`", line.trim()),
    }
}

/// Takes bytes until the other end has presented itself.
#[derive(Debug)]
pub struct Listening {
    from: End,
    bytes: Vec<u8>,
}

impl Listening {
    /// Listens for that end.
    pub fn for_the(from: End) -> Self {
        Self {
            from,
            bytes: Vec::new(),
        }
    }

    /// Takes bytes in. Returns who it is with the bytes behind the greeting, or `None` until more came.
    ///
    /// # Errors
    ///
    /// It is somebody else, or bytes come changed.
    pub fn input(&mut self, bytes: &[u8]) -> Result<Option<(Peer, Vec<u8>)>, GreetingError> {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.bytes[at..].iter().position(|&byte| byte == b'\n') {
            let end = at + length;
            if let Some(peer) = parse(self.from, &self.bytes[at..end]) {
                return self.check(end + 1, peer);
            }
            at = end + 1;
        }
        if self.bytes.len() > OTHER_WORDS {
            return Err(self.nobody());
        }
        Ok(None)
    }

    /// The stream ended before anybody presented themselves.
    pub fn nobody(&self) -> GreetingError {
        GreetingError::SomebodyElse(String::from_utf8_lossy(&self.bytes).into_owned())
    }

    fn check(&self, from: usize, peer: Peer) -> Result<Option<(Peer, Vec<u8>)>, GreetingError> {
        let rest = &self.bytes[from..];
        for (expected, got) in (0..=255_u8).zip(rest) {
            if *got != expected {
                return Err(GreetingError::Changed { at: expected });
            }
        }
        Ok(rest.get(256..).map(|behind| (peer, behind.to_vec())))
    }
}

fn parse(from: End, line: &[u8]) -> Option<Peer> {
    let line = line.get(..line.len().min(LONGEST_LINE))?;
    let line = std::str::from_utf8(line).ok()?;
    // Words without a line end may stand before it.
    let at = line.rfind(from.word())?;
    let mut words = line[at + from.word().len()..].split_whitespace();
    Some(Peer {
        protocol: words.next()?.parse().ok()?,
        version: words.next()?.to_owned(),
    })
}

/// Says of two ends what keeps them apart, and what mends it; `None` if nothing does. `replace` is how the helper is
/// replaced by one of ours: "put vmserial.exe there with …".
pub fn mismatch(ours: &Peer, theirs: &Peer, replace: &str) -> Option<String> {
    let which = if theirs.protocol == ours.protocol {
        return None;
    } else if theirs.protocol < ours.protocol {
        format!("the helper is the older one: {replace}")
    } else {
        format!(
            "this vmserial is the older one: install vmserial {} here",
            theirs.version
        )
    };
    Some(format!(
        "the helper is vmserial {} and speaks protocol {}, this is vmserial {} and speaks {}; {which}",
        theirs.version, theirs.protocol, ours.version, ours.protocol
    ))
}

/// Returns how this program presents itself.
pub fn ourselves() -> Peer {
    Peer {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn heard(pieces: &[&[u8]]) -> Result<Option<(Peer, Vec<u8>)>, GreetingError> {
        let mut listening = Listening::for_the(End::Helper);
        let mut result = None;
        for piece in pieces {
            match result {
                None => result = listening.input(piece)?,
                Some((_, ref mut behind)) => behind.extend_from_slice(piece),
            }
        }
        Ok(result)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            words in "[a-z \r\n]{0,60}",
            behind in prop::collection::vec(any::<u8>(), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = [words.as_bytes(), &greeting(End::Helper, 3, "1.2.3"), &behind].concat();
            let (one, other) = all.split_at(cut.index(all.len() + 1));
            let (peer, rest) = heard(&[one, other]).unwrap().unwrap();
            prop_assert_eq!(peer, Peer { protocol: 3, version: "1.2.3".into() });
            prop_assert_eq!(rest, behind);
        }
    }

    #[test]
    fn a_way_that_changes_bytes_is_found_out() {
        let whole = greeting(End::Helper, 1, "0.1.0");
        let text = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let mut crlf = whole[..text].to_vec();
        for &byte in &whole[text..] {
            if byte == b'\n' {
                crlf.push(b'\r');
            }
            crlf.push(byte);
        }
        assert_eq!(heard(&[&crlf]), Err(GreetingError::Changed { at: 10 }));
        let seven: Vec<u8> = whole.iter().map(|byte| byte & 0x7f).collect();
        assert_eq!(heard(&[&seven]), Err(GreetingError::Changed { at: 128 }));
        assert_eq!(heard(&[&whole[..whole.len() - 1]]), Ok(None));
    }

    #[test]
    fn somebody_elses_words_are_told() {
        let mut listening = Listening::for_the(End::Helper);
        assert_eq!(listening.input(b"sh: 1: vmserial.exe: not found\n"), Ok(None));
        assert_eq!(
            listening.nobody().to_string(),
            "it is no helper of vmserial's; it said `sh: 1: vmserial.exe: not found`"
        );
        let silent = Listening::for_the(End::Client).nobody();
        assert_eq!(silent.to_string(), "it said nothing");
        let mut listening = Listening::for_the(End::Helper);
        assert!(listening.input(&vec![b'x'; OTHER_WORDS + 1]).is_err());
    }

    #[test]
    fn a_mismatch_names_both_and_what_mends_it() {
        let of = |protocol, version: &str| Peer {
            protocol,
            version: version.into(),
        };
        let ours = of(2, "0.2.0");
        assert_eq!(mismatch(&ours, &of(2, "0.9.0"), "put it there"), None);
        let older = mismatch(&ours, &of(1, "0.1.0"), "put it there").unwrap();
        for part in [
            "the helper is vmserial 0.1.0",
            "protocol 1",
            "this is vmserial 0.2.0",
            "speaks 2",
            "older one: put it there",
        ] {
            assert!(older.contains(part), "{older}");
        }
        let newer = mismatch(&ours, &of(3, "0.3.0"), "put it there").unwrap();
        assert!(newer.contains("install vmserial 0.3.0 here"), "{newer}");
    }
}
