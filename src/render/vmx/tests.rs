//! The editor: tables of edits, and properties of every byte that is not edited.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{EditOperation, FileFormat};
use crate::render::edit::apply;
use proptest::prelude::*;

fn edited(file: &str, key: &str, value: Option<&str>) -> String {
    let mut vmx = VmxFile::parse(file.as_bytes()).unwrap();
    match value {
        Some(value) => vmx.set(key, value).unwrap(),
        None => vmx.remove(key).unwrap(),
    }
    String::from_utf8(vmx.into_bytes()).unwrap()
}

#[test]
fn edits_keep_place_spelling_and_line_ends() {
    for (before, key, value, after) in [
        (
            "a = \"1\"\r\nB = \"2\"\r\n",
            "b",
            Some("3"),
            "a = \"1\"\r\nB = \"3\"\r\n",
        ),
        ("a = \"1\"\r\n", "b", Some("2"), "a = \"1\"\r\nb = \"2\"\r\n"),
        ("a = \"1\"", "b", Some("2"), "a = \"1\"\nb = \"2\"\n"),
        ("", "b", Some("x\"|"), "b = \"x|22|7C\"\n"),
        ("a=\"1\" # why\n", "A", Some("2"), "a=\"2\" # why\n"),
        ("a = \"1\"\nb = \"2\"\n", "a", None, "b = \"2\"\n"),
        ("a = \"1\"\n", "z", None, "a = \"1\"\n"),
        ("a = \"x|7cy\"\n", "a", Some("x|y"), "a = \"x|7cy\"\n"),
        ("a = 1\n", "a", Some("1"), "a = 1\n"),
        ("a = 1 # why\n", "a", Some("2"), "a = \"2\" # why\n"),
        ("a =\n", "a", Some(""), "a =\n"),
        ("a =\n", "a", Some("2"), "a =\"2\"\n"),
        (
            "\ta\t=\t\"1\"\t\r\n\r\n",
            "a",
            Some("#"),
            "\ta\t=\t\"#\"\t\r\n\r\n",
        ),
        (
            "#!/usr/bin/vmware\n.encoding = \"GBK\"\n",
            "a",
            Some("1"),
            "#!/usr/bin/vmware\n.encoding = \"GBK\"\na = \"1\"\n",
        ),
        ("a = \"1\"\r\n", "# mark", Some(""), "a = \"1\"\r\n# mark\r\n"),
        ("# mark\na = \"1\"\n", "# mark", Some(""), "# mark\na = \"1\"\n"),
        ("# mark\na = \"1\"\n", "# mark", None, "a = \"1\"\n"),
    ] {
        assert_eq!(edited(before, key, value), after, "{before:?} {key} {value:?}");
    }
}

#[test]
fn what_is_no_vmx_is_refused() {
    for (file, part) in [
        (&b"\xef\xbb\xbfa = \"1\"\n"[..], "byte-order mark"),
        (b"a = 1 2\n", "expected"),
        (b"a = \"1\n", "expected"),
        (b"a b = \"1\"\n", "expected"),
        (b"a = \"1\" b\n", "expected"),
        (b"= \"1\"\n", "expected"),
        (b"[section]\n", "expected"),
        (b"<?xml version=\"1.0\"?>\n", "expected"),
        (b"\x7fELF\0\0", "NUL"),
        (b"encryption.data = \"x\"\n", "encrypted"),
        (b"Encryption.KeySafe = \"x\"\n", "encrypted"),
    ] {
        assert!(
            VmxFile::parse(file).unwrap_err().to_string().contains(part),
            "{}",
            String::from_utf8_lossy(file)
        );
    }
}

#[test]
fn a_key_that_stands_twice_is_named_with_its_lines() {
    let mut file = VmxFile::parse(b"a = \"1\"\n#\nA = \"2\"\nb = \"3\"\n").unwrap();
    for error in [
        file.value("a").unwrap_err(),
        file.set("a", "1").unwrap_err(),
        file.remove("a").unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "the key `a` stands on the lines 1 and 3");
    }
    file.set("b", "4").unwrap();
}

#[test]
fn only_a_file_in_utf8_takes_more_than_ascii() {
    let path = "/tmp/é";
    let mut plain = VmxFile::parse(b".encoding = \"windows-1252\"\n").unwrap();
    let refused = plain.set("serial0.fileName", path).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the value of `serial0.fileName` has `é`, which is not ASCII, and the file does not say that it is UTF-8"
    );
    let mut utf8 = VmxFile::parse(b".encoding = \"UTF-8\"\n").unwrap();
    utf8.set("serial0.fileName", path).unwrap();
    assert_eq!(utf8.value("serial0.fileName").unwrap().as_deref(), Some(path));
}

prop_compose! {
    fn vmx_line()(
        kind in 0u8..6, key in "[a-e][0-9]?\\.?[a-z]{0,3}", value in "[^\"\n\r\0]{0,8}", blank in "[ \t]{0,2}",
    ) -> Vec<u8> {
        match kind {
            0 => format!("# {value}").into_bytes(),
            1 => blank.into_bytes(),
            2 => [format!("{key}{blank}={blank}\"").as_bytes(), b"\xe9\xff", b"\""].concat(),
            3 => format!("{blank}{key}={blank}{key}").into_bytes(),
            _ => format!("{blank}{key} = \"{value}\"{blank}").into_bytes(),
        }
    }
}

prop_compose! {
    fn vmx_file()(
        lines in proptest::collection::vec((vmx_line(), any::<bool>()), 0..10), last_end: bool,
    ) -> Vec<u8> {
        let count = lines.len();
        lines
            .into_iter()
            .enumerate()
            .flat_map(|(index, (line, crlf))| {
                let end: &[u8] = match (crlf, index + 1 == count && !last_end) {
                    (_, true) => b"",
                    (true, _) => b"\r\n",
                    (false, _) => b"\n",
                };
                [line.as_slice(), end].concat()
            })
            .collect()
    }
}

prop_compose! {
    fn operation()(key in "(serial1\\.(present|fileName|fileType)|[a-e][0-9]?|# mark)", value in "[ -~]{0,6}", set: bool) -> EditOperation {
        match (set, key.starts_with('#')) {
            (true, true) => EditOperation::Set { key, value: String::new() },
            (true, false) => EditOperation::Set { key, value },
            (false, _) => EditOperation::Remove { key },
        }
    }
}

/// The lines of a file that are not of these keys, with their ends; a missing last end counts as any.
fn other_lines(bytes: &[u8], operations: &[EditOperation]) -> Vec<Vec<u8>> {
    line::split(bytes)
        .iter()
        .filter(|line| {
            !operations
                .iter()
                .any(|operation| match is_comment(operation.key()) {
                    true => line.text.trim_ascii() == operation.key().as_bytes(),
                    false => entry(&line.text).is_some_and(|entry| entry.is(operation.key())),
                })
        })
        .map(|line| line.text.clone())
        .collect()
}

proptest! {
    #[test]
    fn a_file_that_is_not_edited_keeps_its_bytes(bytes in vmx_file()) {
        prop_assert_eq!(VmxFile::parse(&bytes).unwrap().into_bytes(), bytes);
    }

    #[test]
    fn editing_twice_is_editing_once_and_other_lines_stay(
        bytes in vmx_file(), operations in proptest::collection::vec(operation(), 0..6),
    ) {
        if let Ok(once) = apply(FileFormat::Vmx, Some(&bytes), &operations) {
            let once = once.unwrap();
            let twice = apply(FileFormat::Vmx, Some(&once), &operations).unwrap().unwrap();
            // The last operation on a key wins both times, at the same place if the key was there before.
            let file = VmxFile::parse(&once).unwrap();
            let again = VmxFile::parse(&twice).unwrap();
            for operation in &operations {
                let last = operations.iter().rfind(|other| other.key() == operation.key()).unwrap();
                let wanted = last.value().map(str::to_owned);
                prop_assert_eq!(file.value(last.key()).unwrap(), wanted.clone());
                prop_assert_eq!(again.value(last.key()).unwrap(), wanted);
            }
            prop_assert_eq!(other_lines(&once, &operations), other_lines(&bytes, &operations));
            let distinct = operations.iter().all(|one| {
                operations.iter().filter(|other| other.key().eq_ignore_ascii_case(one.key())).count() == 1
            });
            if distinct {
                prop_assert_eq!(twice, once);
            }
        }
    }

    #[test]
    fn a_new_key_comes_behind_and_goes_without_a_trace(bytes in vmx_file(), value in "[^\0\u{f780}-\u{f7ff}]{0,8}") {
        let mut file = VmxFile::parse(&bytes).unwrap();
        if file.set("serial1.fileName", &value).is_ok() {
            prop_assert_eq!(file.value("SERIAL1.filename").unwrap(), Some(value));
            prop_assert!(file.clone().into_bytes().starts_with(&bytes));
            file.remove("serial1.fileName").unwrap();
            let rest = file.into_bytes();
            // Only a last line without its end has one now.
            prop_assert!(rest.starts_with(&bytes) && rest.len() <= bytes.len() + 2);
        }
    }

    #[test]
    fn a_value_that_is_read_and_written_back_has_its_bytes(
        value in proptest::collection::vec(any::<u8>().prop_filter("one line, plain", |byte| !b"\"\n\r\0|\x7f".contains(byte) && (*byte >= 0x20 || *byte == b'\t')), 0..12),
        utf8: bool,
    ) {
        let encoding: &[u8] = if utf8 { b".encoding = \"UTF-8\"\n" } else { b"" };
        let bytes = [encoding, b"a = \"", value.as_slice(), b"\"\n"].concat();
        let mut file = VmxFile::parse(&bytes).unwrap();
        let before = file.value("a").unwrap().unwrap();
        file.set("a", "ours").unwrap();
        file.set("a", &before).unwrap();
        prop_assert_eq!(file.into_bytes(), bytes);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = VmxFile::parse(&bytes) {
            prop_assert_eq!(file.into_bytes(), bytes);
        }
    }
}

#[test]
fn a_template_becomes_operations_that_write_it() {
    let text = "# mark\nserial1.present = \"TRUE\"\n\nserial1.fileName = \"a|7Cé\"\n";
    let operations = operations(text).unwrap();
    let set = |key: &str, value: &str| EditOperation::Set {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(
        operations,
        [
            set("# mark", ""),
            set("serial1.present", "TRUE"),
            set("serial1.fileName", "a|é")
        ]
    );
    let file = b".encoding = \"UTF-8\"\r\n";
    let written = apply(FileFormat::Vmx, Some(file), &operations).unwrap().unwrap();
    let expected = format!(
        ".encoding = \"UTF-8\"\r\n{}",
        text.replace("\n\n", "\n").replace('\n', "\r\n")
    );
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}
