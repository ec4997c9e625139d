//! Scripts of ours on PowerShell: by every program and way, its manners, its failures, its end. A stand-in everywhere; a
//! real one where there is one.

use crate::kit::{Ended, PATIENCE, Running, Sandbox, finish, wait_until};
use libtest_mimic::{Completion, Trial};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use vmserial::model::{Cancel, Deadline, HostRef, Invocation, ScriptCall, Wait};
use vmserial::runner::local::Local;
use vmserial::runner::powershell::over;
use vmserial::runner::{Output, RunError, Runner};
use vmserial_testkit::hyperv::host::{Host, Vm};

/// Text that means something to one of the languages on the way.
const HOSTILE: &[&str] = &[
    "plain",
    "",
    " ",
    "it's",
    "\"double\"",
    "\u{2018}curly\u{2019} \u{201c}double\u{201d} \u{201a}\u{201b}\u{201e}",
    "$(Remove-Item x) $env:PATH ${x} $null @{a=1} @args",
    "a`nb`0 `` %PATH% !x! ^& | < > ; & && #",
    "line\nbreak\r\nand\ttab",
    "[wildcards]* ?[a-z]",
    r"\\.\pipe\dev \\ \u0041",
    "Grüße, 東京, 🦀, e\u{301}",
    "</vmserial-1><vmserial-1>",
    "'); Remove-VM x; ('",
    "_x0041_ &lt; <S S=\"Error\">",
    "2024-01-01T00:00:00",
    "2024-01-01T00:00:00.1234567+02:00",
    "/Date(0)/",
    "=",
];

pub fn trials() -> Vec<Trial> {
    let mut all = vec![
        trial(
            "windows_powershell_is_taken_first",
            windows_powershell_is_taken_first,
        ),
        trial("text_comes_back_as_it_went", text_comes_back_as_it_went),
        trial("manners_do_not_change_an_answer", manners_do_not_change_an_answer),
        trial("what_a_script_throws_is_told", what_a_script_throws_is_told),
        trial(
            "no_answer_is_told_with_the_last_words",
            no_answer_is_told_with_the_last_words,
        ),
        trial(
            "the_deadline_ends_powershell_and_its_children",
            the_deadline_ends_powershell_and_its_children,
        ),
        trial(
            "ctrl_c_ends_powershell_and_its_children",
            ctrl_c_ends_powershell_and_its_children,
        ),
        trial("no_powershell_says_what_to_do", no_powershell_says_what_to_do),
        trial("wrong_calls_are_usage", wrong_calls_are_usage),
        trial(
            "a_shell_with_a_short_line_is_given_long_scripts_by_input",
            a_shell_with_a_short_line,
        ),
        trial("a_shell_says_that_there_is_none", a_shell_says_that_there_is_none),
    ];
    all.push(Trial::ignorable_test(
        "powershell::a_real_one_answers",
        || match real() {
            Some(program) => {
                a_real_one_answers(&program);
                Ok(Completion::Completed)
            }
            None => Ok(Completion::ignored_with(
                "no PowerShell on PATH, no VMSERIAL_TEST_PWSH",
            )),
        },
    ));
    all
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("powershell::{name}"), move || {
        test();
        Ok(())
    })
}

fn call(sandbox: &Sandbox, parameters: &Value) -> Ended {
    sandbox.run(["powershell", "host/versions", &parameters.to_string()])
}

fn result(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn log(state: &Path) -> Vec<Value> {
    let text = fs::read_to_string(state.join("log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn fault(state: &Path, faults: &str) {
    fs::write(state.join("faults"), faults).unwrap();
}

fn windows_powershell_is_taken_first() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("pwsh");
    assert_eq!(result(&call(&sandbox, &json!({})))["computer"], "STANDIN");
    assert_eq!(log(&state).len(), 1);
    let state = sandbox.stand_in("powershell.exe");
    let answer = result(&call(&sandbox, &json!({})));
    assert!(
        answer["powershell"].as_str().unwrap().starts_with("5.1."),
        "{answer}"
    );
    let asked = log(&state);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (&asked[0]["program"], &asked[0]["way"]),
        (&json!("powershell"), &json!("encoded"))
    );
    assert_eq!(asked[0]["script"], "host/versions");
}

fn text_comes_back_as_it_went() {
    for program in ["powershell.exe", "pwsh"] {
        text_comes_back_from(program);
    }
}

fn text_comes_back_from(program: &str) {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in(program);
    for text in HOSTILE {
        let answer = result(&call(&sandbox, &json!({ "Echo": text })));
        assert_eq!(answer["echo"], *text);
    }
    // More than a command line takes goes by standard input.
    let long = "long ü ".repeat(6_000);
    assert_eq!(result(&call(&sandbox, &json!({ "Echo": long })))["echo"], *long);
    let asked = log(&state);
    let ways: Vec<&str> = asked.iter().map(|call| call["way"].as_str().unwrap()).collect();
    assert_eq!(ways.last(), Some(&"input"));
    assert!(ways[..HOSTILE.len()].iter().all(|way| *way == "encoded"));
}

fn manners_do_not_change_an_answer() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    for faults in ["noise", "clixml", "chatty", "chatty\nnoise\nclixml"] {
        fault(&state, faults);
        for text in ["Grüße", &"long ü ".repeat(6_000)] {
            let answer = result(&call(&sandbox, &json!({ "Echo": text })));
            assert_eq!(answer["echo"], *text, "{faults}");
        }
    }
}

fn what_a_script_throws_is_told() {
    let sandbox = Sandbox::new();
    fault(&sandbox.stand_in("powershell.exe"), "throws\nnoise\nclixml");
    let ended = call(&sandbox, &json!({}));
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    let said = "PowerShell on this machine: Zugriff auf „d:\\vms“ verweigert.";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

fn no_answer_is_told_with_the_last_words() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    for (faults, words) in [
        (
            "garbage",
            "`PowerShell script host/versions` on this machine ended with 0",
        ),
        (
            "half",
            "`PowerShell script host/versions` on this machine ended with 1",
        ),
        (
            "half\nclixml",
            "\n    Zugriff verweigert: \"d:\\vms\" <1>\n    zweite Zeile",
        ),
        (
            "killed",
            "`PowerShell script host/versions` on this machine ended by signal 9",
        ),
    ] {
        fault(&state, faults);
        let ended = call(&sandbox, &json!({}));
        assert_eq!(ended.code, Some(6), "{faults}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{faults}: {}", ended.stderr);
        assert!(
            !ended.stderr.contains("CLIXML") && !ended.stderr.contains("Preparing"),
            "{}",
            ended.stderr
        );
    }
}

/// Waits until the script's own child hangs, and returns a connection that ends with it.
fn hanging_child(state: &Path) -> TcpStream {
    let port: u16 = wait_until("the child hangs", || {
        fs::read_to_string(state.join("child")).ok()?.parse().ok()
    });
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sees the child's end: nobody else closes the connection.
fn gone(mut child: TcpStream) {
    match child.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the child still hangs: {other:?}"),
    }
}

fn the_deadline_ends_powershell_and_its_children() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    fault(&state, "hang");
    let mut running = sandbox.start(["powershell", "host/versions", "--deadline=2"]);
    let child = hanging_child(&state);
    assert_eq!(running.wait_end(), 7, "{}", running.said());
    let said = running.said();
    assert!(
        said.contains("gave up waiting for the PowerShell script `host/versions`"),
        "{said}"
    );
    gone(child);
}

fn ctrl_c_ends_powershell_and_its_children() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    fault(&state, "hang");
    let mut running: Running = sandbox.start(["powershell", "host/versions", "--deadline=600"]);
    let child = hanging_child(&state);
    running.signal("INT");
    assert_eq!(running.wait_end(), 130, "{}", running.said());
    gone(child);
}

fn no_powershell_says_what_to_do() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.vmserial(["powershell", "host/versions"]);
    command.env("PATH", sandbox.path("nothing"));
    let ended = finish(&mut command, b"");
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    for words in [
        "there is no PowerShell on this machine",
        "--host [user@]HOST",
        "WSL",
        "aka.ms/powershell",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

fn wrong_calls_are_usage() {
    let sandbox = Sandbox::new();
    sandbox.stand_in("powershell.exe");
    for arguments in [
        &["host/nope"][..],
        &["host/versions", "[1]"],
        &["host/versions", "{"],
    ] {
        let ended = sandbox.run(["powershell"].iter().chain(arguments));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
    let listed = sandbox.run(["powershell"]).stdout;
    assert!(listed.lines().any(|name| name == "host/versions"), "{listed}");
}

/// A host behind a shell that takes 8,191 characters, as cmd.exe behind Windows' SSH server does.
struct ShortShell {
    host: HostRef,
    /// Where its programs are.
    folder: std::path::PathBuf,
}

impl Runner for ShortShell {
    fn host(&self) -> &HostRef {
        &self.host
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        let line = invocation.to_string();
        assert!(line.len() < 8191, "cmd.exe: the command line is too long");
        let mut shell =
            Invocation::changes("sh", ["-c", &format!("PATH='{}'; {line}", self.folder.display())]);
        shell.stdin = invocation.stdin.clone();
        Local::new().run(&shell, wait)
    }
}

fn short_shell(sandbox: &Sandbox) -> ShortShell {
    ShortShell {
        host: HostRef::Ssh("me@hyperv.lab".to_owned()),
        folder: sandbox.path("bin"),
    }
}

fn patience() -> Wait {
    Wait::new(
        Deadline::after(Instant::now(), Duration::from_secs(30)),
        Cancel::new(),
        "the test",
    )
}

fn a_shell_with_a_short_line() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    let shell = short_shell(&sandbox);
    for length in [0, 100, 500, 1_000, 2_000, 4_000, 20_000] {
        let text = "ü".repeat(length);
        let call = ScriptCall::new("host/versions").with("Echo", text.as_str());
        let answer = over(&shell, &call, &patience()).unwrap();
        assert_eq!(answer["echo"], *text);
    }
    let asked = log(&state);
    assert_eq!(asked.len(), 7);
    assert!(asked.last().is_some_and(|call| call["way"] == "input"));
    fault(&state, "throws");
    match over(&shell, &ScriptCall::new("host/versions"), &patience()) {
        Err(RunError::Script {
            id, category, host, ..
        }) => {
            assert_eq!(id, "AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM");
            assert_eq!((&*category, host), ("PermissionDenied", shell.host.clone()));
        }
        other => panic!("{other:?}"),
    }
}

fn a_shell_says_that_there_is_none() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("pwsh");
    let shell = short_shell(&sandbox);
    let call = ScriptCall::new("host/versions");
    assert_eq!(over(&shell, &call, &patience()).unwrap()["computer"], "STANDIN");
    assert_eq!(log(&state)[0]["program"], "pwsh");
    fs::remove_file(sandbox.path("bin/pwsh")).unwrap();
    let error = over(&shell, &call, &patience()).unwrap_err();
    assert!(matches!(error, RunError::NoPowerShell { .. }), "{error}");
}

/// A PowerShell of this machine, if there is one.
fn real() -> Option<std::path::PathBuf> {
    if let Some(named) = std::env::var_os("VMSERIAL_TEST_PWSH") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    ["powershell.exe", "pwsh"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

fn a_real_one_answers(program: &Path) {
    let sandbox = Sandbox::new();
    let bin = sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let name = program.file_name().unwrap();
    std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
    for text in HOSTILE {
        assert_eq!(result(&call(&sandbox, &json!({ "Echo": text })))["echo"], *text);
    }
    let long = "long ü ".repeat(6_000);
    assert_eq!(result(&call(&sandbox, &json!({ "Echo": long })))["echo"], *long);
    sets_a_port(&sandbox);
    let ended = call(&sandbox, &json!({ "Nope": 1 }));
    assert_eq!(ended.code, Some(6), "{}", ended.stderr);
    assert!(ended.stderr.contains("Nope"), "{}", ended.stderr);
}

/// Runs a driver's script on a Hyper-V module of the tests' own, found as PowerShell finds any.
fn sets_a_port(sandbox: &Sandbox) {
    let id = "7cca7664-91d0-40a9-9769-7809f256f603";
    let mut host = Host::default();
    host.vms = vec![Vm::new(id, "it's [dev] Grüße", 1)];
    let folder = sandbox.path("hyperv");
    fs::create_dir_all(&folder).unwrap();
    host.write(&folder).unwrap();
    let setting = |path: &str| json!({ "path": path, "debugger_mode": "Off" });
    let path = r"\\.\pipe\it's ü";
    let parameters = json!({
        "vm": id, "number": 2, "from": setting(""), "to": setting(path), "look": false,
    });
    let mut command = sandbox.vmserial(["powershell", "hyperv/set-com-port", &parameters.to_string()]);
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/modules");
    let known = std::env::var_os("PSModulePath").unwrap_or_default();
    let all = std::iter::once(modules).chain(std::env::split_paths(&known));
    command
        .env("PSModulePath", std::env::join_paths(all).unwrap())
        .env(
            "VMSERIAL_STUB_HYPERV",
            folder.join(vmserial_testkit::hyperv::host::FILE),
        );
    assert_eq!(result(&finish(&mut command, b""))["verdict"], "ours");
    assert_eq!(Host::read(&folder).unwrap().vms[0].com[1].path, path);
}
