//! Values for scripts, and how they are found again in what was rendered.

use super::language::{parse, visit};
use crate::model::base64;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::{Map, Value};

/// Text that means something to one of the languages on the way. None is empty: a value that is may be shown by `$null`.
pub const HOSTILE: &[&str] = &[
    "\r#",
    " ",
    "it's",
    "'",
    "\"double\"",
    "\u{2018}curly\u{2019} \u{201c}double\u{201d} \u{201a}\u{201b}\u{201e}",
    "$(Remove-Item x) $env:PATH ${x} $null @{a=1} @args",
    "a`nb `` `",
    "line\nbreak\r\nand\ttab",
    "\n$(Remove-Item x)\"`\u{201d}",
    "[wildcards]* ?[a-z]",
    r"\\.\pipe\dev",
    "Grüße, 東京, 🦀, e\u{301}\u{7f}\u{85}",
    "</vmserial-1><vmserial-1>",
    "'); Remove-VM x; ('",
    "-Name",
    "--%",
    "1",
    "true",
    "2024-01-01T00:00:00",
    "/Date(0)/",
    "# comment",
    "; Get-VM | Remove-VM",
];

/// Makes hostile text.
pub fn hostile() -> impl Strategy<Value = String> {
    let known = prop::sample::select(HOSTILE.to_vec()).prop_map(ToOwned::to_owned);
    let pieces =
        string_regex("(['\"`$(){};|&@#%,<> \n\r\t\\[\\]*?\\\\-]|[‘’‚‛“”„]|[a-zA-Z0-9]|ü|🦀|\u{85}){1,24}")
            .unwrap();
    prop_oneof![known, pieces]
}

/// Returns a value for everything that a script shows of its parameters, the text wherever there can be text.
pub fn sample(name: &str, text: &str) -> Map<String, Value> {
    let shows = super::source(name).split_once(super::SHOWS).unwrap().1;
    let shows = shows.split_once("#}").unwrap().0;
    let mut environment = minijinja::Environment::new();
    environment.add_template("shows", shows).unwrap();
    let wanted = environment
        .get_template("shows")
        .unwrap()
        .undeclared_variables(true);
    let mut names: Vec<String> = wanted.into_iter().collect();
    names.sort();
    let mut values = Map::new();
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        let (last, folders) = parts.split_last().unwrap();
        let mut place = &mut values;
        for folder in folders {
            let entry = place
                .entry((*folder).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            place = entry.as_object_mut().unwrap();
        }
        place.insert((*last).to_owned(), value(last, text));
    }
    values
}

/// What a parameter of this name holds: numbers and switches are what they are called.
fn value(name: &str, text: &str) -> Value {
    match name {
        "number" => Value::from(2),
        "runs" => Value::from(vec![Value::from(vec!["bcdedit".to_owned(), text.to_owned()])]),
        "debugger_mode" | "secure_boot" => Value::from("On"),
        _ => Value::from(text),
    }
}

/// Returns the values that a script binds.
pub fn parameters(script: &str) -> Map<String, Value> {
    let (_, rest) = script.split_once("FromBase64String('").unwrap();
    let bytes = base64::decode(rest.split_once('\'').unwrap().0).unwrap();
    let mut values: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
    values.values_mut().for_each(unmark);
    values
}

/// Takes the mark off that stands before each text, as the envelope does.
fn unmark(value: &mut Value) {
    match value {
        Value::String(text) => assert_eq!(text.remove(0), '='),
        Value::Array(list) => list.iter_mut().for_each(unmark),
        Value::Object(map) => map.values_mut().for_each(unmark),
        _ => {}
    }
}

/// Returns the words and texts that a line gives to its commands, as PowerShell reads them.
pub fn texts(line: &str) -> Vec<String> {
    let tree = parse(line);
    let mut texts = Vec::new();
    visit(tree.root_node(), &mut |node| {
        let written = &line[node.byte_range()];
        match node.kind() {
            "verbatim_string_characters" => texts.push(verbatim(written)),
            "expandable_string_literal" => texts.push(expanded(written)),
            "generic_token" => texts.push(written.to_owned()),
            _ => {}
        }
    });
    texts
}

/// Reads text in single quotes: each quote inside is doubled, whichever of the five it is.
fn verbatim(written: &str) -> String {
    let mut text = String::new();
    let inner: Vec<char> = written.chars().collect();
    let mut characters = inner[1..inner.len() - 1].iter();
    while let Some(&character) = characters.next() {
        text.push(character);
        if matches!(
            character,
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}'
        ) {
            characters.next();
        }
    }
    text
}

/// Reads text in double quotes with the escapes that we write.
fn expanded(written: &str) -> String {
    let mut text = String::new();
    let mut rest = &written[1..written.len() - 1];
    while let Some(character) = rest.chars().next() {
        if let Some(number) = rest.strip_prefix("$([char]") {
            let (digits, behind) = number.split_once(')').unwrap();
            text.push(char::from_u32(digits.parse().unwrap()).unwrap());
            rest = behind;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        if character != '`' {
            text.push(character);
            continue;
        }
        let escaped = rest.chars().next().unwrap();
        rest = &rest[escaped.len_utf8()..];
        text.push(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        });
    }
    text
}
