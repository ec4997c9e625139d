//! A command as a line for a login shell on another host, and what comes back of it.

use crate::model::Invocation;

/// A mark that no command says by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(pub String);

/// Says the mark with the pid of the command, so that it can be ended, then becomes the command. `PATH` of a login without
/// a terminal often lacks the folders where administrators' tools are.
const BEGIN: &str = "PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin\"; export PATH; m=$1; shift; echo \"$m $$\" >&2; \
     command -v \"$1\" >/dev/null 2>&1 || { echo \"$m missing\" >&2; exit 127; }; exec \"$@\"";

/// The same behind a password for `sudo` on standard input, which was read there or not: all up to the mark is passed over.
const BEGIN_AFTER_PASSWORD: &str = "PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin\"; export PATH; m=$1; shift; \
     while IFS= read -r l && [ \"$l\" != \"$m\" ]; do :; done; echo \"$m $$\" >&2; \
     command -v \"$1\" >/dev/null 2>&1 || { echo \"$m missing\" >&2; exit 127; }; exec \"$@\"";

/// How a command becomes another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// Not.
    No,
    /// Without a password.
    Free,
    /// With a password, which [`stdin`] brings.
    Password,
}

/// Quotes a word for the shells of POSIX. Words of plain characters stay as they are, so that `cmd.exe` takes them too.
pub fn word(value: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./:@_=,".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) && !value.starts_with('=') {
        return Some(value.to_owned());
    }
    if value.contains('\0') {
        return None;
    }
    // `'` alone ends a quoted part in every shell; `!` is history in a C shell even there.
    Some(format!("'{}'", value.replace('\'', r"'\''")))
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let words: Option<Vec<String>> = words.into_iter().map(word).collect();
    words.map(|words| words.join(" "))
}

fn own_words(invocation: &Invocation) -> impl Iterator<Item = &str> {
    std::iter::once(invocation.program.as_str()).chain(invocation.arguments.iter().map(String::as_str))
}

/// Returns the line that runs a command on a POSIX host; `None` if a word has a NUL.
pub fn posix_line(invocation: &Invocation, mark: &Mark, sudo: Sudo) -> Option<String> {
    let begin = match sudo {
        Sudo::Password => BEGIN_AFTER_PASSWORD,
        Sudo::No | Sudo::Free => BEGIN,
    };
    let front: &[&str] = match sudo {
        Sudo::No => &["exec"],
        Sudo::Free => &["exec", "sudo", "-n", "--"],
        Sudo::Password => &["exec", "sudo", "-S", "-p", "", "--"],
    };
    let shell = ["sh", "-c", begin, "sh", mark.0.as_str()];
    words(front.iter().copied().chain(shell).chain(own_words(invocation)))
}

/// Returns the line that runs a command by `cmd.exe`; `None` if a word has what `cmd.exe` cannot be given safely.
pub fn windows_line(invocation: &Invocation) -> Option<String> {
    let quoted: Option<Vec<String>> = own_words(invocation)
        .map(|word| {
            if word.contains(|character: char| character.is_control() || "\"%!^&|<>".contains(character)) {
                None
            } else if word.is_empty() || word.contains([' ', '(', ')', ';', ',', '\'']) {
                // A backslash before the closing quote would quote it.
                let tail = word.len() - word.trim_end_matches('\\').len();
                Some(format!("\"{word}{}\"", "\\".repeat(tail)))
            } else {
                Some(word.to_owned())
            }
        })
        .collect();
    quoted.map(|words| words.join(" "))
}

/// Returns what goes to standard input.
pub fn stdin(input: &[u8], mark: &Mark, password: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(password) = password {
        bytes.extend_from_slice(format!("{password}\n{}\n", mark.0).as_bytes());
    }
    bytes.extend_from_slice(input);
    bytes
}

/// What the beginning of a command said on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begun {
    /// Process identifier there; `None` if it did not begin (`sudo` refused).
    pub pid: Option<u32>,
    /// The program is not there.
    pub missing: bool,
    /// The command's own standard error.
    pub stderr: Vec<u8>,
}

impl Begun {
    /// Takes the marked lines out of standard error.
    pub fn read(stderr: &[u8], mark: &Mark) -> Self {
        let mut begun = Self::default();
        for line in stderr.split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            match text.strip_prefix(&format!("{} ", mark.0)).map(str::trim) {
                Some("missing") => begun.missing = true,
                Some(pid) if begun.pid.is_none() && pid.parse::<u32>().is_ok() => {
                    begun.pid = pid.parse().ok()
                }
                _ => begun.stderr.extend_from_slice(line),
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn mark() -> Mark {
        Mark("m-1".into())
    }

    #[test]
    fn plain_words_are_the_same_for_every_shell() {
        for plain in ["-EncodedCommand", "ZQBjAGgAbwA=", "/usr/bin/x", "a@b:c", "k=v,w"] {
            assert_eq!(word(plain).unwrap(), plain);
        }
        for (value, quoted) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("=ls", "'=ls'"),
            ("$x", "'$x'"),
        ] {
            assert_eq!(word(value).unwrap(), quoted);
        }
        assert_eq!(word("a\0b"), None);
    }

    proptest::proptest! {
        #[test]
        fn a_word_comes_out_whole(value in "[^\\x00]{0,20}") {
            proptest::prop_assert_eq!(shlex::split(&word(&value).unwrap()).unwrap(), vec![value]);
        }
    }

    #[test]
    fn cmd_gets_what_it_cannot_take_apart() {
        let line = |arguments: &[&str]| {
            windows_line(&Invocation::reads("powershell.exe", arguments.iter().copied()))
        };
        assert_eq!(
            line(&["-EncodedCommand", "ZQA="]).unwrap(),
            "powershell.exe -EncodedCommand ZQA="
        );
        assert_eq!(line(&[r"C:\a b\"]).unwrap(), r#"powershell.exe "C:\a b\\""#);
        for refused in ["%PATH%", "a&b", "a\"b", "a\nb"] {
            assert_eq!(line(&[refused]), None, "{refused}");
        }
    }

    #[test]
    fn a_password_goes_by_standard_input_only() {
        let line = posix_line(&Invocation::reads("id", ["-u"]), &mark(), Sudo::Password).unwrap();
        assert!(line.starts_with("exec sudo -S -p '' -- sh -c "), "{line}");
        assert!(line.ends_with(" sh m-1 id -u"), "{line}");
        assert_eq!(stdin(b"data", &mark(), Some("secret")), b"secret\nm-1\ndata");
        assert_eq!(stdin(b"data", &mark(), None), b"data");
    }

    #[test]
    fn the_marked_lines_are_not_the_command_s() {
        let begun = Begun::read(b"lecture\nm-1 4711\nwords\nm-1 12 of\n", &mark());
        assert_eq!((begun.pid, begun.missing), (Some(4711), false));
        assert_eq!(begun.stderr, b"lecture\nwords\nm-1 12 of\n");
        assert!(Begun::read(b"m-1 1\nm-1 missing\n", &mark()).missing);
        assert_eq!(Begun::read(b"sudo: no\n", &mark()).pid, None);
    }
}
