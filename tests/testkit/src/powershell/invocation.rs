//! The command line of PowerShell, taken apart as the real one does.

use std::path::PathBuf;

/// Where the script comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-EncodedCommand`, decoded.
    Encoded(String),
    /// `-File`.
    File(PathBuf),
    /// `-Command TEXT`.
    Command(String),
    /// `-Command -`.
    Input,
}

/// What PowerShell was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Where the script comes from.
    pub source: Source,
    /// `-OutputFormat Text` was given.
    pub text_output: bool,
}

/// The real one's parameters: full name, shortest form, whether a value follows.
const PARAMETERS: [(&str, &str, bool); 10] = [
    ("encodedcommand", "e", true),
    ("executionpolicy", "ex", true),
    ("command", "c", true),
    ("file", "f", true),
    ("inputformat", "in", true),
    ("noexit", "noe", false),
    ("nologo", "nol", false),
    ("noninteractive", "noni", false),
    ("noprofile", "nop", false),
    ("outputformat", "o", true),
];

impl Invocation {
    /// Takes the arguments apart.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut rest = arguments.iter();
        let mut text_output = false;
        let mut source = None;
        while let Some(word) = rest.next() {
            let Some(name) = word.strip_prefix(['-', '/']) else {
                return Err(format!("the stand-in is given no script by position: {word}"));
            };
            let name = name.to_ascii_lowercase();
            let known = PARAMETERS
                .iter()
                .find(|(full, short, _)| full.starts_with(&name) && name.starts_with(short));
            let Some((full, _, takes_value)) = known else {
                return Err(format!(
                    "The argument '{word}' is not recognized as the name of a script file."
                ));
            };
            let value = if *takes_value { rest.next() } else { None };
            if *takes_value && value.is_none() {
                return Err(format!(
                    "Cannot process the command because of a missing parameter: {full}."
                ));
            }
            let value = value.map(String::as_str).unwrap_or_default();
            match *full {
                "encodedcommand" => source = Some(Source::Encoded(decode(value)?)),
                "executionpolicy" if !["Bypass", "Unrestricted", "RemoteSigned"].contains(&value) => {
                    return Err(format!(
                        "the stand-in's scripts do not run under the policy {value}"
                    ));
                }
                "outputformat" => text_output = value.eq_ignore_ascii_case("text"),
                // Everything behind them is theirs.
                "command" => {
                    let words: Vec<&str> = std::iter::once(value)
                        .chain(rest.by_ref().map(String::as_str))
                        .collect();
                    source = Some(match words.as_slice() {
                        ["-"] => Source::Input,
                        words => Source::Command(words.join(" ")),
                    });
                }
                "file" => {
                    source = Some(Source::File(PathBuf::from(value)));
                    if rest.by_ref().next().is_some() {
                        return Err("our scripts have no arguments".to_owned());
                    }
                }
                _ => {}
            }
        }
        let source = source.ok_or("the stand-in has no prompt: no script was given")?;
        Ok(Self { source, text_output })
    }
}

/// Decodes `-EncodedCommand`.
fn decode(value: &str) -> Result<String, String> {
    let wrong = || {
        "Cannot process the command because the value specified with -EncodedCommand is not properly encoded. The \
         value must be Base64 encoded."
            .to_owned()
    };
    let bytes = base64(value).ok_or_else(wrong)?;
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let units: Vec<u16> = units.iter().copied().map(u16::from_le_bytes).collect();
    Ok(String::from_utf16_lossy(&units))
}

/// Reads base64 as .NET does: padding is needed.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    // Programs come this way, megabytes of them.
    let mut values = [None; 256];
    for (value, &digit) in (0_u32..).zip(DIGITS) {
        values[usize::from(digit)] = Some(value);
    }
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::with_capacity(text.len()));
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | values[usize::from(digit)]?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Takes standard input apart into what `-Command -` runs one by one. A line is a statement if a line break ends it; the
/// last one is lost unless a blank line follows. One line of ours is unwrapped to the script that it runs.
pub fn statements(input: &str) -> Vec<String> {
    let lines: Vec<&str> = input
        .split('\n')
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    // `a\n\n` is split into a, an empty line and what is behind the last line break.
    let Some((_, complete)) = lines.split_last() else {
        return Vec::new();
    };
    let ended = complete.last().is_some_and(|line| line.is_empty());
    let mut statements: Vec<&str> = complete
        .iter()
        .copied()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if !ended {
        statements.pop();
    }
    statements.into_iter().map(unwrap).collect()
}

/// Returns the script in a line that makes one from base64 and runs it; any other line as it is.
fn unwrap(line: &str) -> String {
    let inner = line
        .strip_prefix(
            "& ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('",
        )
        .and_then(|rest| rest.strip_suffix("'))))"));
    inner
        .and_then(base64)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, String> {
        let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
        Invocation::parse(&words)
    }

    #[test]
    fn parameters_are_taken_in_any_case_and_cut_short() {
        let source = |line| parse(line).map(|invocation| invocation.source);
        assert_eq!(
            source("-nop -NonI -enc YQBiAA=="),
            Ok(Source::Encoded("ab".into()))
        );
        assert_eq!(source("-NoProfile -NonInteractive -Command -"), Ok(Source::Input));
        assert_eq!(
            source("-c Get-VM -Name x"),
            Ok(Source::Command("Get-VM -Name x".into()))
        );
        assert_eq!(source("-File a.ps1"), Ok(Source::File("a.ps1".into())));
        assert!(parse("-OutputFormat Text -c -").is_ok_and(|invocation| invocation.text_output));
    }

    #[test]
    fn what_the_real_one_refuses_is_refused() {
        for line in [
            "-enc",
            "-enc YWI",
            "-enc YQ==",
            "-nope",
            "a.ps1",
            "-NoProfile",
            "-ex Restricted -c -",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn standard_input_is_run_line_by_line_and_the_last_needs_a_blank_line() {
        assert_eq!(statements("a\nb\n\n"), ["a", "b"]);
        assert_eq!(statements("a\nb\n"), ["a"]);
        assert_eq!(statements("a"), [""; 0]);
        let wrapped =
            "& ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('YQpi'))))";
        assert_eq!(statements(&format!("{wrapped}\n\n")), ["a\nb"]);
    }
}
