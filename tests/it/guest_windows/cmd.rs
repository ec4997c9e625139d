//! A guest whose SSH server gives lines to `cmd.exe`, as Windows' own does: a real OpenSSH server hands each line to Wine's
//! `cmd.exe`, which finds a PowerShell on its PATH, the stand-in as a Windows program.

use super::Lab;
use crate::kit::{Ended, PATIENCE, Sandbox, finish_within};
use crate::sshd::{Sshd, missing};
use crate::wine::place::{self, windows_path};
use crate::wine::rig::{Program, put_powershell, wake};
use libtest_mimic::{Completion, Trial};
use std::fs;
use std::process::Command;
use vmserial_testkit::hyperv::host::{Host, Vm};
use vmserial_testkit::windows_guest::{CURRENT, Guest};

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 2] = [
        ("through_cmd_it_is_set_up_and_taken_back", set_up_and_undo),
        ("through_cmd_a_password_goes_by_standard_input", a_password),
    ];
    let trial = |(name, run): (&str, fn())| {
        Trial::ignorable_test(format!("guest_windows::{name}"), move || {
            match missing().or_else(place::missing) {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    wake();
                    run();
                    Ok(Completion::Completed)
                }
            }
        })
    };
    all.into_iter().map(trial).collect()
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A guest behind a server whose only shell is `cmd.exe`, and a shell that keeps Wine from starting anew for each question.
fn far() -> (Lab, Sshd, Program) {
    let sandbox = Sandbox::new().with("WIN_PW", "s3cret");
    let bin = sandbox.path("far");
    let state = put_powershell(&bin);
    // Wine as the other trials have it, with its own shell.
    let wine = place::command(&sandbox, "testkit.exe", &[]);
    let mut script = "#!/bin/sh\n".to_owned();
    script += &format!(
        "printf '%s\\n' \"$SSH_ORIGINAL_COMMAND\" >>{}\n",
        quoted(&sandbox.path("lines").display().to_string())
    );
    script += "exec env -i";
    let path = format!("WINEPATH={}", windows_path(&bin));
    let known = wine
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)));
    for setting in known.chain([path]) {
        script += &format!(" {}", quoted(&setting));
    }
    let program = wine.get_program().to_str().unwrap();
    script += &format!(" {} cmd.exe /c \"$SSH_ORIGINAL_COMMAND\"\n", quoted(program));
    let shell = sandbox.path("shell");
    fs::write(&shell, script).unwrap();
    let server = Sshd::start_with(&sandbox, &format!("ForceCommand sh {}\n", shell.display()));
    Guest::default().write(&state).unwrap();
    let mut idle = Command::new(wine.get_program());
    idle.arg("cmd.exe").env_clear();
    idle.envs(wine.get_envs().filter_map(|(name, value)| Some((name, value?))));
    idle.current_dir(sandbox.path(""));
    let idle = Program::start(&mut idle);
    (Lab { sandbox, state }, server, idle)
}

/// Runs it to its end: each question starts two programs of Wine, on a machine that does much else.
fn done(lab: &Lab, line: &str) -> Ended {
    let mut command = lab.sandbox.vmserial(line.split_whitespace());
    let ended = finish_within(&mut command, b"", 8 * PATIENCE);
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    ended
}

/// The lines that the shell was given.
fn lines(lab: &Lab) -> Vec<String> {
    let lines = fs::read_to_string(lab.sandbox.path("lines")).unwrap();
    lines.lines().map(ToOwned::to_owned).collect()
}

fn set_up_and_undo() {
    let (lab, _server, _idle) = far();
    lab.change(|guest| {
        "de".clone_into(&mut guest.language);
        "on".clone_into(&mut guest.bitlocker);
    });
    let before = lab.guest();
    done(&lab, "guest windows --host lab --port COM1 --yes");
    assert_eq!(lab.guest().get(CURRENT, "debug"), Some("Yes"));
    let again = done(&lab, "guest windows --host lab --port COM1 --yes");
    assert!(again.stderr.contains("Nothing to change."), "{again:?}");
    done(&lab, "undo --yes");
    assert_eq!(lab.guest(), before);
    // Nothing that a shell, or Wine between the server and its own shell, would write in another way; scripts that are too
    // long for a line, or hold what nobody may see, came by standard input.
    let lines = lines(&lab);
    let asked: Vec<&String> = lines.iter().filter(|line| *line != "uname -s").collect();
    assert!(asked.len() > 4, "{lines:?}");
    for line in &asked {
        assert!(line.starts_with("powershell.exe "), "{line}");
        assert!(line.len() < 8191, "{}", line.len());
        assert!(
            line.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b" -+/.".contains(&byte)),
            "{line}"
        );
    }
    assert!(
        asked.iter().any(|line| line.contains(" -EncodedCommand ")),
        "{lines:?}"
    );
    assert!(
        asked.iter().any(|line| line.ends_with(" -Command -")),
        "{lines:?}"
    );
}

fn a_password() {
    let (lab, _server, _idle) = far();
    let mut host = Host::default();
    host.vms = vec![Vm::new("0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11", "win", 2)];
    "Running".clone_into(&mut host.vms[0].state);
    host.write(&lab.state).unwrap();
    let inside = Guest {
        secure_boot: Some(true),
        ..Guest::default()
    };
    inside.write(&lab.state.join("win")).unwrap();
    let login = "--user Administrator --password-env WIN_PW";
    let shown = done(
        &lab,
        &format!("guest windows --hyperv lab --vm win {login} --show"),
    );
    // The guest's own, not its host's.
    assert!(shown.stdout.contains("MISSING  Secure Boot"), "{shown:?}");
    let lines = lines(&lab);
    assert!(
        lines.iter().any(|line| line.ends_with(" -Command -")),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.contains("s3cret")), "{lines:?}");
}
