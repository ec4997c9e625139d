//! Quoting, one function per target language. A value either comes out whole at the other end or is refused.

/// A value that the target language cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{language} cannot hold {what} in `{value}`")]
pub struct QuoteError {
    language: &'static str,
    what: &'static str,
    value: String,
}

fn refuse(language: &'static str, what: &'static str, value: &str) -> QuoteError {
    QuoteError {
        language,
        what,
        value: value.escape_default().to_string(),
    }
}

/// Quotes one word of a gdb command that splits its arguments as `gdb_buildargv` does: blanks separate, both quotes
/// and backslash quote (libiberty, argv.c).
///
/// # Errors
///
/// A gdb command is one line: line breaks and NUL are refused.
pub fn gdb_word(value: &str) -> Result<String, QuoteError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(refuse("a gdb command", "a line break or NUL", value));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:+=@,%".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    Ok(format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")))
}

/// Passes the address of `target remote`, which gdb takes as the rest of the line, unquoted.
///
/// # Errors
///
/// Line breaks, NUL, blanks at an end and a leading `|` (gdb would run a program) are refused.
pub fn gdb_address(value: &str) -> Result<String, QuoteError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(refuse("a gdb command", "a line break or NUL", value));
    }
    if value.is_empty() || value.trim() != value || value.starts_with('|') {
        return Err(refuse("`target remote`", "this address", value));
    }
    Ok(value.to_owned())
}

/// Quotes one word for a POSIX shell.
///
/// # Errors
///
/// NUL is refused.
pub fn shell_word(value: &str) -> Result<String, QuoteError> {
    shlex::try_quote(value)
        .map(Into::into)
        .map_err(|_| refuse("a shell command", "NUL", value))
}

/// Writes a word of a program that PowerShell starts, quoted only where it must be.
///
/// # Errors
///
/// As [`powershell_word`].
pub fn powershell_argument(value: &str) -> Result<String, QuoteError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:._-".contains(&byte);
    // A number would be read as one, and written anew.
    let begins = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    if begins && value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    powershell_word(value)
}

/// Quotes one argument of a PowerShell command, on one line: as it is where it is a plain word, else in single quotes,
/// which are doubled inside (PowerShell takes the curly ones for quotes, too), else in double quotes with escapes.
///
/// # Errors
///
/// NUL is refused: no cmdlet of ours takes it.
pub fn powershell_word(value: &str) -> Result<String, QuoteError> {
    if value.contains('\0') {
        return Err(refuse("a PowerShell command", "NUL", value));
    }
    if value.chars().any(char::is_control) {
        let mut quoted = String::from("\"");
        for character in value.chars() {
            match character {
                '\n' => quoted.push_str("`n"),
                '\r' => quoted.push_str("`r"),
                '\t' => quoted.push_str("`t"),
                '`' | '$' | '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' => quoted.extend(['`', character]),
                // To PowerShell it is itself; highlighters take one behind an escape for a comment.
                '#' => quoted.push_str("`#"),
                // 5.1 has no `u{…}.
                character if character.is_control() => {
                    quoted.push_str(&format!("$([char]{})", u32::from(character)));
                }
                character => quoted.push(character),
            }
        }
        quoted.push('"');
        return Ok(quoted);
    }
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    if value.starts_with(|first: char| first.is_ascii_alphabetic()) && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    let mut quoted = String::from("'");
    for character in value.chars() {
        if matches!(
            character,
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}'
        ) {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted.push('\'');
    Ok(quoted)
}

/// Writes a `.vmx` value with its quotes. `"`, `|` and control characters but tab are written `|XX`, their byte in
/// hexadecimal (open-vm-tools `lib/dict/dictll.c`, libvirt `virVMXEscapeHex`).
///
/// # Errors
///
/// NUL is refused: VMware's values end there.
pub fn vmx_value(value: &str) -> Result<String, QuoteError> {
    if value.contains('\0') {
        return Err(refuse("a .vmx value", "NUL", value));
    }
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '|' | '\x01'..='\x08' | '\x0a'..='\x1f' | '\x7f' => {
                quoted.push_str(&format!("|{:02X}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// Writes a string of xl's configuration files with its quotes. Backslash and the quote are escaped
/// (Xen `libxlu_cfg.c`, `xlu__cfgl_dequote`).
///
/// # Errors
///
/// Control characters are refused: a string ends with its line, and no device has one in its name.
pub fn xl_string(value: &str, quote: char) -> Result<String, QuoteError> {
    if value.contains(char::is_control) {
        return Err(refuse(
            "a string of an xl configuration",
            "a control character",
            value,
        ));
    }
    let mut quoted = String::from(quote);
    for character in value.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    Ok(quoted)
}

/// Writes a value of a QEMU `-readconfig` file with its quotes. The format has no escapes and holds 1023 bytes
/// (QEMU, `util/qemu-config.c`, `qemu_config_foreach`).
///
/// # Errors
///
/// Quotation marks, line breaks, NUL and longer values are refused.
pub fn qemu_config_value(value: &str) -> Result<String, QuoteError> {
    let language = "a QEMU configuration file";
    if value.contains('"') {
        return Err(refuse(language, "a quotation mark", value));
    }
    if value.contains(['\n', '\r', '\0']) {
        return Err(refuse(language, "a line break or NUL", value));
    }
    if value.len() > 1023 {
        return Err(refuse(language, "more than 1023 bytes", value));
    }
    Ok(format!("\"{value}\""))
}

/// Passes the text of a comment that ends with its line.
///
/// # Errors
///
/// Line breaks and NUL are refused.
pub fn one_line(value: &str) -> Result<String, QuoteError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(refuse("a comment", "a line break or NUL", value));
    }
    Ok(value.to_owned())
}

/// Passes arguments of a kernel's command line, which boot loaders and shells take as they are.
///
/// # Errors
///
/// Whatever one of them would take for more than a word is refused.
pub fn kernel_arguments(value: &str) -> Result<String, QuoteError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" =,.:/_-@+%!*".contains(&byte);
    if !value.bytes().all(plain) {
        return Err(refuse(
            "a kernel's command line",
            "quotes, variables or anything else that a boot loader reads",
            value,
        ));
    }
    Ok(value.to_owned())
}

/// Quotes one word of GRUB's language, in single quotes as a shell does it.
///
/// # Errors
///
/// Line breaks and NUL are refused.
pub fn grub_word(value: &str) -> Result<String, QuoteError> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(refuse("GRUB's configuration", "a line break or NUL", value));
    }
    Ok(format!("'{}'", value.replace('\'', r"'\''")))
}

/// Passes a number in decimal, the part of a name that counts.
///
/// # Errors
///
/// Anything but ASCII digits is refused.
pub fn digits(value: &str) -> Result<String, QuoteError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("a number", "anything but digits", value));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    /// Splits as libiberty's `buildargv` does: the check of what [`gdb_word`] writes.
    fn build_argv(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let (mut single, mut double) = (false, false);
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => word.get_or_insert_default().extend(characters.next()),
                '\'' if !double => {
                    single = !single;
                    word.get_or_insert_default();
                }
                '"' if !single => {
                    double = !double;
                    word.get_or_insert_default();
                }
                character if character.is_ascii_whitespace() && !single && !double => {
                    words.extend(word.take())
                }
                character => word.get_or_insert_default().push(character),
            }
        }
        words.extend(word);
        words
    }

    proptest! {
        #[test]
        fn a_gdb_word_cannot_break_out(value in "[^\n\r\0]{0,30}", next in "[a-z]{1,5}") {
            let line = format!("{} {next}", gdb_word(&value).unwrap());
            prop_assert_eq!(build_argv(&line), vec![value, next]);
        }

        #[test]
        fn a_shell_word_cannot_break_out(value in "[^\0]{0,30}") {
            prop_assert_eq!(shlex::split(&shell_word(&value).unwrap()), Some(vec![value]));
        }

        #[test]
        fn a_vmx_value_cannot_break_out(value in "[^\0]{0,30}") {
            let written = vmx_value(&value).unwrap();
            let inner = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!inner.contains(['"', '\n', '\r']));
            let (first, escaped) = inner.split_once('|').map_or((inner, ""), |(first, rest)| (first, rest));
            let mut plain = first.to_owned();
            for part in escaped.split('|').filter(|part| !part.is_empty()) {
                plain.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
                plain.push_str(&part[2..]);
            }
            prop_assert_eq!(plain, value);
        }
    }

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(digits("12").unwrap(), "12");
        assert!(digits("").is_err() && digits("1.present = ").is_err() && digits("-1").is_err());
    }

    #[test]
    fn line_breaks_are_refused() {
        assert!(gdb_word("a\nb").is_err() && gdb_address("| sh").is_err() && vmx_value("\0").is_err());
    }
}
