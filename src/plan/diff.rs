//! What an edit changes, as a unified diff.

use similar::TextDiff;

/// Lines of context around a change.
const CONTEXT: usize = 2;

/// Returns the unified diff of a file; empty if nothing changes. Bytes that are no UTF-8 are shown as `�`.
pub fn unified(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).replace("\r\n", "\n");
    let name = |bytes: Option<&[u8]>| if bytes.is_some() { path } else { "/dev/null" };
    let (old, new) = (text(before), text(after));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(name(before), name(after))
        .missing_newline_hint(false)
        .to_string()
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
    fn equal_files_have_no_diff() {
        assert_eq!(unified("/a", Some(b"x\r\n"), Some(b"x\r\n")), "");
    }
}
