//! What an edit changes, as a unified diff.

use similar::TextDiff;

/// Lines of context around a change.
const CONTEXT: usize = 2;

/// Returns the unified diff of a file; empty if nothing changes. Bytes that are no UTF-8 are shown as `�`, and control
/// characters as pictures: a file must not steer the reader's terminal.
pub fn unified(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    let text = |bytes: Option<&[u8]>| -> String {
        let text = String::from_utf8_lossy(bytes.unwrap_or_default()).replace("\r\n", "\n");
        text.chars().map(picture).collect()
    };
    let name = |bytes: Option<&[u8]>| if bytes.is_some() { path } else { "/dev/null" };
    let (old, new) = (text(before), text(after));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(name(before), name(after))
        .missing_newline_hint(false)
        .to_string()
}

/// Returns the picture of a control character (U+2400 on), any other character as it is.
fn picture(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{7f}' => '\u{2421}',
        _ if character.is_ascii_control() => {
            char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}')
        }
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_diffed_against_nothing() {
        insta::assert_snapshot!(unified("/a", None, Some(b"x\n")), @r"
        --- /dev/null
        +++ /a
        @@ -0,0 +1 @@
        +x
        ");
    }

    #[test]
    fn a_file_does_not_steer_the_terminal() {
        let diff = unified("/a", None, Some(b"\x1b[2J\r\n\xc2\x9bx\n"));
        assert!(diff.ends_with("+\u{241b}[2J\n+\u{fffd}x\n"), "{diff:?}");
    }

    #[test]
    fn equal_files_have_no_diff() {
        assert_eq!(unified("/a", Some(b"x\r\n"), Some(b"x\r\n")), "");
    }
}
