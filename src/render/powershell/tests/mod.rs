//! PowerShell's language, checked without a PowerShell: every script of ours is parsed by tree-sitter's grammar, and its
//! commands are compared with the table of cmdlets in `tests/data/powershell/cmdlets.tsv` (rows of Microsoft's reference
//! for 5.1 and Windows Server 2016 to 2025).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cmdlets;
mod language;
mod samples;

use super::*;
use crate::model::base64;
use cmdlets::Table;
use language::{check, commands, shape};
use proptest::prelude::*;
use samples::{HOSTILE, parameters, sample, texts};

/// Returns a script without what it shows and says of itself: its body as a template.
fn body(source: &str) -> String {
    let mut body = String::new();
    let mut rest = source;
    while let Some((before, comment)) = rest.split_once("{#") {
        body.push_str(before);
        rest = comment.split_once("#}").map_or("", |(_, behind)| behind);
    }
    body.push_str(rest);
    body
}

fn source(name: &str) -> &'static str {
    let name = template_name(name);
    TEMPLATES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn call(name: &str, text: &str) -> ScriptCall {
    ScriptCall {
        script: name.to_owned(),
        parameters: sample(name, text),
        secrets: Default::default(),
    }
}

#[test]
fn a_script_stands_in_its_envelope_without_comments() {
    let text = script(&ScriptCall::new("host/versions"), "12").unwrap();
    assert!(text.starts_with("$ErrorActionPreference = 'Stop'\n"));
    assert!(
        text.contains("\n[CmdletBinding()]\nparam([string] $Echo = '')\n"),
        "{text}"
    );
    assert!(text.contains("'<vmserial-12>'") && text.contains("'</vmserial-12>'"));
    assert!(
        text.contains("FromBase64String('e30=')"),
        "no parameters are `{{}}`"
    );
    assert!(!text.contains("#}") && !text.lines().any(|line| line.starts_with('#')));
    assert!(text.ends_with("exit $vmserialExit\n"));
}

#[test]
fn every_script_is_named_and_an_unknown_one_is_an_error() {
    assert!(names().any(|name| name == "host/versions"));
    assert!(names().all(|name| name != "envelope"));
    assert!(script(&ScriptCall::new("host/nope"), "1").is_err());
    assert_eq!(cmdlet_lines(&ScriptCall::new("host/nope")), ["host/nope"]);
}

#[test]
fn encoded_text_needs_no_quotes_and_comes_back() {
    for text in ["a", "ab", "abc", "ü🦀"] {
        let encoded = encoded_command(text);
        assert!(!encoded.contains('='));
        let bytes = base64::decode(&encoded).unwrap();
        let units: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(String::from_utf16(&units).unwrap().trim_end(), text);
    }
}

#[test]
fn every_file_of_a_script_is_in_the_list_of_templates() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/powershell");
    let folders = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let relative = path.strip_prefix(root.parent().unwrap()).unwrap();
            let name = relative.to_string_lossy().replace('\\', "/");
            let name = name.strip_suffix(".j2").unwrap_or(&name).to_owned();
            assert!(TEMPLATES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}

#[test]
fn every_script_is_powershell_of_every_version_that_we_serve() {
    let table = Table::read();
    let mut wrong = Vec::new();
    for name in names() {
        let text = script(&call(name, "plain"), "1").unwrap();
        wrong.extend(
            check(&text, &table)
                .into_iter()
                .map(|fault| format!("{name}: {fault}")),
        );
        let line = one_line(&text);
        wrong.extend(
            check(&line, &table)
                .into_iter()
                .map(|fault| format!("{name} in a line: {fault}")),
        );
        for shown in cmdlet_lines(&call(name, "plain")) {
            wrong.extend(
                check(&shown, &table)
                    .into_iter()
                    .map(|fault| format!("{name} shows: {fault}")),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_script_has_its_form() {
    let table = Table::read();
    for name in names() {
        let body = body(source(name));
        assert!(
            !body.contains("{{"),
            "{name}: a value in a body is not bound, it is pasted"
        );
        let mut lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
        assert_eq!(lines.next(), Some("[CmdletBinding()]"), "{name}");
        assert!(lines.next().unwrap().starts_with("param("), "{name}");
        assert!(
            !body.contains("SilentlyContinue"),
            "{name}: a refusal would look as if there were nothing"
        );
        assert!(
            body.is_ascii(),
            "{name}: 5.1 reads a file in the system's code page"
        );
        for command in commands(&script(&call(name, "plain"), "1").unwrap(), &table) {
            let module = table.module(&command);
            assert_ne!(
                module,
                Some("Hyper-V"),
                "{name}: other modules have a {command}, too"
            );
        }
    }
}

/// What the table finds in a script that was written wrong.
#[test]
fn what_5_1_would_refuse_is_found() {
    let table = Table::read();
    for (line, words) in [
        ("Get-VM -Nam x", "no parameter -Nam"),
        ("Get-VM x", "by position"),
        ("Get-Foo -Name x", "Get-Foo is not in the table"),
        ("get-vm -Name x", "get-vm is not in the table"),
        ("Set-VMComPort -VMName x -Path y", "no parameter set"),
        ("Set-VMComPort -VM $v -VMName x -Number 1", "no parameter set"),
        (
            "Set-VMComPort -VM $v -Number 1 -DebuggerMode Maybe",
            "not one of On,Off",
        ),
        ("Set-VMComPort -VM $v -Number 1 -Path", "without a value"),
        ("Set-VMComPort -VM $v -Number one", "no number"),
        ("Set-VMComPort -VM $v -Number 1 -Confirm no", "by position"),
        ("Set-VMComPort -VM $v -Number 1 -Number 2", "twice"),
        (
            "ConvertFrom-Json -InputObject $x -AsHashtable",
            "no parameter -AsHashtable",
        ),
        (
            "ConvertTo-Json -InputObject $x -EnumsAsStrings",
            "no parameter -EnumsAsStrings",
        ),
        ("$a = $b ?? 1", "error node"),
        ("$a = $b ? 1 : 2", "error node"),
        ("Get-VM && Get-VM", "&&"),
        ("Get-VM || Get-VM", "||"),
        ("$a = \"`u{41}\"", "`u{"),
        ("if ($IsWindows) { 1 }", "$IsWindows"),
        ("Get-VM &", "&"),
        ("$a = 'one\ntwo'", "over several lines"),
        ("$a = @'\none\n'@", "over several lines"),
        ("$a = 'one", "error node"),
        ("iex $a", "iex is not in the table"),
        (
            "Invoke-Expression -Command $a",
            "Invoke-Expression is not in the table",
        ),
    ] {
        let faults = check(line, &table);
        assert!(
            faults.iter().any(|fault| fault.contains(words)),
            "{line}: {faults:?}"
        );
    }
    for line in [
        "Hyper-V\\Set-VMComPort -VM $vm -Number 2 -Path '\\\\.\\pipe\\a' -DebuggerMode On -Confirm:$false",
        "$a = @($all | Where-Object -FilterScript { $_.Id -eq $id })",
        "function Find {\nparam($x)\n$x\n}\nFind -x 1",
        "Get-VM -ErrorAction Stop",
    ] {
        assert_eq!(check(line, &table), Vec::<String>::new(), "{line}");
    }
}

/// Of modules that are not in the table: DISM's and the server manager's (Microsoft's pages on installing Hyper-V).
const OTHER_MODULES: [&str; 2] = ["Enable-WindowsOptionalFeature", "Install-WindowsFeature"];

/// Hints, notes and the guide tell people cmdlet lines: they are held to what our own scripts are.
#[test]
fn every_line_that_people_are_told_to_run_is_powershell() {
    let table = Table::read();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let driver = std::fs::read_dir(root.join("src/driver/hyperv")).unwrap();
    let mut files: Vec<_> = driver.map(|entry| entry.unwrap().path()).collect();
    files.push(root.join("docs/guide/hyperv.md"));
    let is_line = |text: &&str| {
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        let verb = command
            .split_once('-')
            .map(|(verb, noun)| (verb.chars().next(), noun.chars().next()));
        let capital = |first: Option<char>| first.is_some_and(char::is_uppercase);
        verb.is_some_and(|(verb, noun)| capital(verb) && capital(noun)) && rest.contains('-')
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files.iter().filter(|file| file.is_file()) {
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines() {
            let constant = line.trim_end_matches(';').split('"').skip(1).step_by(2);
            let indented = line.strip_prefix("    ").into_iter();
            let told = line.split('`').skip(1).step_by(2).chain(constant).chain(indented);
            for told in told.filter(is_line) {
                count += 1;
                let faults = check(told, &table).into_iter();
                let faults = faults.filter(|fault| !OTHER_MODULES.iter().any(|name| fault.starts_with(name)));
                wrong.extend(faults.map(|fault| format!("{}: `{told}`: {fault}", file.display())));
            }
        }
    }
    assert!(count > 10, "{count} lines were found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn known_hostile_names_stay_values() {
    for text in HOSTILE {
        stays_a_value(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_hostile_name_stays_a_value(text in samples::hostile()) {
        stays_a_value(&text);
    }
}

#[test]
fn a_hostile_name_does_not_change_the_tree() {
    let text = HOSTILE.concat();
    for name in names() {
        let plain = script(&call(name, "plain"), "1").unwrap();
        let hostile = script(&call(name, &text), "1").unwrap();
        assert_eq!(shape(&plain), shape(&hostile), "{name}");
    }
}

/// Returns what stands around the one literal in which the values are, which is nothing but base64.
fn around(script: &str) -> (&str, &str) {
    let (before, rest) = script.split_once("FromBase64String('").unwrap();
    let (literal, behind) = rest.split_once('\'').unwrap();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    assert!(literal.bytes().all(known), "{literal}");
    (before, behind)
}

/// With any text as value a script differs in one literal, and what it shows has the same commands with the same parameters,
/// of which the value is the text.
fn stays_a_value(text: &str) {
    let table = Table::read();
    for name in names() {
        let (plain, hostile) = (call(name, "plain"), call(name, text));
        let (one, other) = (script(&plain, "1").unwrap(), script(&hostile, "1").unwrap());
        assert_eq!(around(&one), around(&other), "{name} with {text:?}");
        let bound = parameters(&other);
        assert_eq!(bound, hostile.parameters, "{name} with {text:?}");
        let (plain, hostile) = (cmdlet_lines(&plain), cmdlet_lines(&hostile));
        assert_eq!(plain.len(), hostile.len(), "{name} with {text:?}: {hostile:?}");
        for (plain, hostile) in plain.iter().zip(&hostile) {
            assert_eq!(
                commands(plain, &table),
                commands(hostile, &table),
                "{name} with {text:?}: {hostile}"
            );
            let (plain, hostile) = (texts(plain), texts(hostile));
            let changed: Vec<String> = plain
                .iter()
                .map(|value| {
                    if value == "plain" {
                        text.to_owned()
                    } else {
                        value.clone()
                    }
                })
                .collect();
            assert_eq!(hostile, changed, "{name} with {text:?}");
        }
    }
}
