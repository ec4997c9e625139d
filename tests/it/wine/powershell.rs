//! PowerShell through the crate `powershell_script` in its helper, with the stand-in as `powershell.exe`; on Windows itself
//! the real one, too.

use super::place::{command, with_programs};
use super::rig::{Program, put_powershell, trial};
use crate::kit::{PATIENCE, Sandbox, wait_until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    let mut all = vec![
        trial("powershell_is_asked_through_the_crate", asked_through_the_crate),
        trial("powershells_manners_do_not_change_an_answer", manners),
        trial("powershells_failures_are_told", failures),
        trial("powershell_and_its_children_end_at_the_deadline", deadline),
    ];
    if cfg!(windows) {
        all.push(trial("the_real_powershell_answers", the_real_one_answers));
        all.push(trial(
            "the_real_powershell_sets_a_port_up",
            the_real_one_sets_a_port_up,
        ));
    }
    all
}

/// Text that means something to one of the languages on the way.
const HOSTILE: &str = "it's \"double\" \u{2018}curly\u{201d} $(Remove-Item x) $null `n ` %PATH% !x! ^& | <>;#\nline\r\n\t[wildcards]*? \
    \\\\.\\pipe\\dev Grüße 東京 🦀 '); Remove-VM x; (' </vmserial-1> _x0041_ \\u0041";

/// Puts the stand-in where `powershell.exe` is looked for first; returns the folder of programs and that of its state.
fn stand_in(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let bin = sandbox.path("bin");
    let state = put_powershell(&bin);
    (bin, state)
}

/// Starts a script with its values on standard input: a command line has its own limits.
fn start(sandbox: &Sandbox, programs: Option<&Path>, parameters: &Value, more: &[&str]) -> Program {
    let mut arguments = vec!["powershell", "host/versions", "-"];
    arguments.extend(more);
    let mut command = command(sandbox, "vmserial.exe", &arguments);
    if let Some(folder) = programs {
        with_programs(&mut command, folder);
    }
    let mut program = Program::start(&mut command);
    let mut stdin = program.stdin.take().unwrap();
    // It may have refused its arguments and ended: then it says so.
    let _ = stdin.write_all(parameters.to_string().as_bytes());
    program
}

fn call(sandbox: &Sandbox, programs: Option<&Path>, parameters: &Value) -> (Option<i32>, String) {
    start(sandbox, programs, parameters, &[]).end()
}

fn echo(sandbox: &Sandbox, programs: Option<&Path>, text: &str) -> Value {
    let (code, said) = call(sandbox, programs, &json!({ "Echo": text }));
    assert_eq!(code, Some(0), "{said}");
    let answer = said.lines().find(|line| line.starts_with('{')).expect(&said);
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["echo"], *text);
    answer
}

fn log(state: &Path) -> Vec<Value> {
    let text = fs::read_to_string(state.join("log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn asked_through_the_crate() {
    let sandbox = Sandbox::new();
    let (bin, state) = stand_in(&sandbox);
    assert_eq!(echo(&sandbox, Some(&bin), HOSTILE)["computer"], "STANDIN");
    // More than the crate may be given: our own command in the same helper.
    echo(&sandbox, Some(&bin), &"long ü ".repeat(4_000));
    let asked = log(&state);
    assert_eq!(asked.len(), 2, "{asked:?}");
    // The crate knows no other way than standard input.
    assert!(
        asked
            .iter()
            .all(|call| call["way"] == "input" && call["program"] == "powershell")
    );
}

fn manners() {
    let sandbox = Sandbox::new();
    let (bin, state) = stand_in(&sandbox);
    fs::write(state.join("faults"), "chatty\nnoise\nclixml").unwrap();
    echo(&sandbox, Some(&bin), "Grüße");
    echo(&sandbox, Some(&bin), &"long ü ".repeat(4_000));
}

fn failures() {
    let sandbox = Sandbox::new();
    let (bin, state) = stand_in(&sandbox);
    for (faults, words) in [
        (
            "throws",
            r"PowerShell on this machine: Zugriff auf „d:\vms“ verweigert.",
        ),
        (
            "garbage",
            "`PowerShell script host/versions` on this machine ended with 0",
        ),
        ("half\nclixml", "zweite Zeile"),
        (
            "killed",
            "`PowerShell script host/versions` on this machine ended with -1073741510",
        ),
    ] {
        fs::write(state.join("faults"), faults).unwrap();
        let (code, said) = call(&sandbox, Some(&bin), &json!({}));
        assert_eq!(code, Some(6), "{faults}: {said}");
        assert!(said.contains(words), "{faults}: {said}");
    }
}

fn deadline() {
    let sandbox = Sandbox::new();
    let (bin, state) = stand_in(&sandbox);
    fs::write(state.join("faults"), "hang").unwrap();
    let mut running = start(&sandbox, Some(&bin), &json!({}), &["--deadline=10"]);
    let port: u16 = wait_until("the child hangs", || {
        fs::read_to_string(state.join("child")).ok()?.parse().ok()
    });
    let mut child = TcpStream::connect(("127.0.0.1", port)).unwrap();
    child.set_read_timeout(Some(PATIENCE)).unwrap();
    let (code, said) = running.end();
    assert_eq!(code, Some(7), "{said}");
    match child.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the child still hangs: {other:?}"),
    }
}

fn the_real_one_answers() {
    let sandbox = Sandbox::new();
    let answer = echo(&sandbox, None, HOSTILE);
    assert!(
        answer["powershell"].as_str().unwrap().starts_with("5.1."),
        "{answer}"
    );
    echo(&sandbox, None, &"long ü ".repeat(4_000));
    let (code, said) = call(&sandbox, None, &json!({ "Nope": 1 }));
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("Nope"), "{said}");
}

/// On a Hyper-V module of the tests' own, found as PowerShell finds any.
fn the_real_one_sets_a_port_up() {
    let sandbox = Sandbox::new();
    let mut host = Host::default();
    host.vms = vec![Vm::new(
        "7cca7664-91d0-40a9-9769-7809f256f603",
        "it's [dev] Grüße",
        1,
    )];
    let folder = sandbox.path("hyperv");
    fs::create_dir_all(&folder).unwrap();
    host.write(&folder).unwrap();
    let run = |words: &[&str]| {
        let mut command = command(&sandbox, "vmserial.exe", words);
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/modules");
        let known = std::env::var_os("PSModulePath").unwrap_or_default();
        let path = std::iter::once(modules).chain(std::env::split_paths(&known));
        command
            .env("PSModulePath", std::env::join_paths(path).unwrap())
            .env(
                "VMSERIAL_STUB_HYPERV",
                folder.join(vmserial_testkit::hyperv::host::FILE),
            );
        let (code, said) = Program::start(&mut command).end();
        assert_eq!(code, Some(0), "{words:?}: {said}");
        said
    };
    let setup = [
        "setup",
        "hyperv",
        "--vm",
        "it's [dev] Grüße",
        "--port",
        "2",
        "--pipe",
        "dev-gdb",
        "--as",
        "gdb",
        "--yes",
    ];
    run(&setup);
    let changed = Host::read(&folder).unwrap();
    assert_eq!(changed.vms[0].com[1].path, r"\\.\pipe\dev-gdb");
    assert!(run(&setup).contains("Nothing to change."));
    run(&["undo", "--yes"]);
    assert_eq!(Host::read(&folder).unwrap().vms, host.vms);
}
