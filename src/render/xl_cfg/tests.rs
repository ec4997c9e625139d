//! The editor: tables of edits, and properties of every byte that is not edited.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::FileFormat;
use crate::render::edit::{apply, values};
use crate::render::environment::render;
use crate::render::quote::xl_string;
use proptest::prelude::*;

fn edited(file: &str, key: &str, value: Option<&str>) -> String {
    let mut cfg = XlCfg::parse(file.as_bytes()).unwrap();
    match value {
        Some(value) => cfg.set(key, value).unwrap(),
        None => cfg.remove(key).unwrap(),
    }
    String::from_utf8(cfg.into_bytes()).unwrap()
}

#[test]
fn edits_keep_place_spelling_and_line_ends() {
    for (before, key, value, after) in [
        ("", "serial", Some("\"pty\""), "serial = \"pty\"\n"),
        (
            "name = 'a'",
            "serial",
            Some("'pty'"),
            "name = 'a'\nserial = 'pty'\n",
        ),
        ("a=1\r\n", "serial", Some("'pty'"), "a=1\r\nserial = 'pty'\r\n"),
        (
            "serial\t=  'pty' # mine\nb = 2\n",
            "serial",
            Some("[ 'a' ]"),
            "serial\t=  [ 'a' ] # mine\nb = 2\n",
        ),
        (
            "a=1; serial='pty'; b=2\n",
            "serial",
            Some("'x'"),
            "a=1; serial='x'; b=2\n",
        ),
        // The last one counts.
        (
            "serial='a'\nserial='b'\n",
            "serial",
            Some("'c'"),
            "serial='a'\nserial='c'\n",
        ),
        ("a=1\nserial='pty'\nb=2\n", "serial", None, "a=1\nb=2\n"),
        (
            "a=1\nserial=[ 'a', # one\n 'b' ] ; # two\nb=2",
            "serial",
            None,
            "a=1\nb=2",
        ),
        ("a=1; serial='pty'; b=2\n", "serial", None, "a=1; b=2\n"),
        ("serial='pty'; b=2\n", "serial", None, "b=2\n"),
        ("a=1; serial='pty'\nb=2\n", "serial", None, "a=1\nb=2\n"),
        ("a=1\nserial='pty'", "serial", None, "a=1\n"),
        ("a=1\n", "serial", None, "a=1\n"),
        ("a=1\n", "# mark", Some(""), "a=1\n# mark\n"),
        ("# mark\na=1\n", "# mark", Some(""), "# mark\na=1\n"),
        ("# mark\na=1\n", "# mark", None, "a=1\n"),
        ("l=[\n# mark\n'x']\n", "# mark", None, "l=[\n# mark\n'x']\n"),
    ] {
        assert_eq!(edited(before, key, value), after, "{before:?} {key} {value:?}");
    }
}

#[test]
fn what_xl_refuses_is_refused() {
    for (file, line, part) in [
        ("name\n", 1, "expected `=`"),
        ("a=1\nname = dev\n", 2, "expected a value"),
        ("name = 'dev\n", 1, "without its end"),
        ("name = 'dev' x\n", 1, "expected the end of the line"),
        ("a = [ 'x' 'y' ]\n", 1, "expected `,` or `]`"),
        ("a = [ 'x',\n", 2, "expected a value"),
        ("import os\n", 1, "expected `=`"),
        ("def f():\n", 1, "expected `=`"),
        ("a = '\\q'\n", 1, "unknown escape"),
        ("a = '\\0'\n", 1, "no character"),
        ("a = '\\x4'\n", 1, "no character"),
        ("[section]\n", 1, "expected `key = value`"),
        ("a = \"x\\\"\n", 1, "without its end"),
    ] {
        let text = XlCfg::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("line {line}: ")) && text.contains(part),
            "{file:?}: {text}"
        );
    }
}

#[test]
fn a_key_that_is_added_to_or_stands_twice_is_named_with_its_lines() {
    let mut added = XlCfg::parse(b"serial = [ 'a' ]\nserial += [ 'b' ]\n").unwrap();
    let text = added.set("serial", "'c'").unwrap_err().to_string();
    assert!(
        text.starts_with("line 2: `serial` is added to with `+=`"),
        "{text}"
    );
    let mut twice = XlCfg::parse(b"serial = 'a'\n\nserial='b'\n").unwrap();
    assert_eq!(twice.lines_of("serial"), [1, 3]);
    assert_eq!(twice.value("serial").unwrap().as_deref(), Some("'b'"));
    let text = twice.remove("serial").unwrap_err().to_string();
    assert_eq!(text, "the key `serial` stands on the lines 1 and 3");
}

#[test]
fn strings_are_read_as_xl_reads_them() {
    let file = XlCfg::parse(b"name = \"a\\\"b\\\\c\\x41\\101'\"\nmemory = 0x20\nl = [ 1 ]\n").unwrap();
    assert_eq!(file.plain("name").as_deref(), Some("a\"b\\cAA'"));
    assert_eq!(file.plain("memory").as_deref(), Some("0x20"));
    assert_eq!((file.plain("l"), file.plain("z")), (None, None));
}

#[test]
fn a_port_gets_its_place_among_the_devices() {
    for (present, index, device, after) in [
        (None, 0, "pty", "[ \"pty\" ]"),
        (None, 2, "pty", "[ \"null\", \"null\", \"pty\" ]"),
        (Some("'unix:/a'"), 0, "pty", "'pty'"),
        (Some("'unix:/a'"), 0, "unix:/a", "'unix:/a'"),
        (Some("'unix:/a'"), 1, "pty", "[ 'unix:/a', \"pty\" ]"),
        (Some("\"a\""), 2, "pty", "[ \"a\", \"null\", \"pty\" ]"),
        (
            Some("[ 'a', # one\n \"b\", ]"),
            0,
            "it's",
            "[ 'it\\'s', # one\n \"b\", ]",
        ),
        (
            Some("[ 'a', # one\n \"b\", ]"),
            2,
            "c",
            "[ 'a', # one\n \"b\", \"c\", ]",
        ),
        (Some("['a']"), 1, "b", "['a', \"b\"]"),
        (Some("[]"), 0, "b", "[ \"b\" ]"),
        (Some("[ ]"), 1, "b", "[ \"null\", \"b\" ]"),
    ] {
        assert_eq!(
            with_device(present, index, device).unwrap(),
            after,
            "{present:?} {index}"
        );
    }
    for (present, index, after) in [
        ("'a'", 0, None),
        ("'a'", 1, Some("'a'")),
        ("[ 'a' ]", 0, None),
        ("[ 'a', 'b' ]", 1, Some("[ 'a' ]")),
        ("[ 'a', 'b' ]", 0, Some("[ 'null', 'b' ]")),
        ("[ 'null', 'b' ]", 1, None),
        ("[ 'a', 'null', 'b', ]", 2, Some("[ 'a', ]")),
        ("[ 'a' ]", 3, Some("[ 'a' ]")),
    ] {
        assert_eq!(
            without_device(present, index).unwrap().as_deref(),
            after,
            "{present} {index}"
        );
    }
    assert!(devices("[ [ 'a' ] ]").is_err() && devices("'a' 'b'").is_err());
}

#[test]
fn a_template_becomes_operations_that_write_it() {
    let text = render("xen/serial.cfg", &serde_json::json!({ "value": "[ \"pty\" ]" })).unwrap();
    let file = b"name = \"dev\"\n";
    let written = apply(FileFormat::XlCfg, Some(file), &operations(&text).unwrap()).unwrap();
    let expected = format!("name = \"dev\"\n{text}");
    assert_eq!(String::from_utf8(written.unwrap()).unwrap(), expected);
    let broken = serde_json::json!({ "value": "'x'\nkernel = '/evil'" });
    assert!(render("xen/serial.cfg", &broken).is_err());
}

prop_compose! {
    fn statement()(
        kind in 0_u8..7, key in "[a-e][a-z0-9_]{0,3}", text in "[a-z :/,.]{0,8}", blank in "[ \t]{0,2}",
    ) -> String {
        match kind {
            0 => format!("# {text}\n"),
            1 => format!("{blank}\n"),
            2 => format!("{blank}{key}{blank}={blank}'{text}' # {text}\n"),
            3 => format!("{key} = [ \"{text}\",\n '{text}'{blank}, ]\n"),
            4 => format!("{key}=0x1f;{blank}"),
            5 => format!("{key} = \"{text}\"\r\n"),
            _ => format!("{blank}{key} += [ '{text}' ]\n"),
        }
    }
}

fn file() -> impl Strategy<Value = String> {
    proptest::collection::vec(statement(), 0..8).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn a_file_that_is_not_edited_keeps_its_bytes(file in file()) {
        prop_assert_eq!(XlCfg::parse(file.as_bytes()).unwrap().into_bytes(), file.into_bytes());
    }

    #[test]
    fn editing_twice_is_editing_once_and_other_bytes_stay(
        file in file(), device in "[ -~]{0,12}", index in 0_usize..4, mark: bool,
    ) {
        let value = with_device(None, index, &device).unwrap();
        let set = |key: &str, value: &str| EditOperation::Set { key: key.to_owned(), value: value.to_owned() };
        let mut wanted = vec![set("serial", &value)];
        if mark {
            wanted.insert(0, set("# ours", ""));
        }
        let once = apply(FileFormat::XlCfg, Some(file.as_bytes()), &wanted).unwrap().unwrap();
        let twice = apply(FileFormat::XlCfg, Some(&once), &wanted).unwrap().unwrap();
        prop_assert_eq!(&twice, &once);
        prop_assert!(once.starts_with(file.as_bytes()));
        let found = values(FileFormat::XlCfg, Some(&once), &["serial"]).unwrap();
        let written = found["serial"].clone().unwrap();
        prop_assert_eq!(devices(&written).unwrap()[index].clone(), device);
        // Taken away again, only a last line without its end has one now.
        let back: Vec<_> = wanted.iter().map(|one| EditOperation::Remove { key: one.key().to_owned() }).collect();
        let undone = apply(FileFormat::XlCfg, Some(&once), &back).unwrap().unwrap();
        prop_assert!(undone.starts_with(file.as_bytes()) && undone.len() <= file.len() + 2);
    }

    #[test]
    fn one_port_more_or_less_leaves_the_others(
        there in proptest::collection::vec("[a-z:/',\"\\\\]{1,6}", 1..4), index in 0_usize..4, device in "[a-z]{1,4}",
    ) {
        let mut text: Option<String> = None;
        for (at, device) in there.iter().enumerate() {
            text = Some(with_device(text.as_deref(), at, device).unwrap());
        }
        let with = with_device(text.as_deref(), index, &device).unwrap();
        let mut expected = there.clone();
        while expected.len() <= index {
            expected.push("null".to_owned());
        }
        expected[index] = device.clone();
        prop_assert_eq!(devices(&with).unwrap(), expected);
        prop_assert_eq!(with_device(Some(&with), index, &device).unwrap(), with);
    }

    #[test]
    fn a_string_cannot_break_out(value in "[^\\p{Cc}]{0,20}", single: bool) {
        let quoted = xl_string(&value, if single { '\'' } else { '"' }).unwrap();
        prop_assert_eq!(devices(&quoted).unwrap(), vec![value]);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), key in "[a-z#]{1,3}") {
        if let Ok(mut file) = XlCfg::parse(&bytes) {
            prop_assert_eq!(&file.clone().into_bytes(), &bytes);
            let _ = file.set(&key, "'x'");
            let _ = file.remove(&key);
        }
    }
}
