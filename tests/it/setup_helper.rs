//! `vmserial setup helper`: the program is put where WSL finds it, and taken back. WSL's own `cmd.exe` and `wslpath` are
//! stand-ins that answer as those do; real ones are Windows CI's.

use crate::helper_bridge::script;
use crate::kit::{Ended, Sandbox, finish};
use libtest_mimic::Trial;
use std::path::PathBuf;

pub fn trials() -> Vec<Trial> {
    [
        (
            "installed_once_and_taken_back",
            installed_once_and_taken_back as fn(),
        ),
        ("an_older_one_returns", an_older_one_returns),
        ("somebody_elses_is_left_alone", somebody_elses_is_left_alone),
        ("removed_and_back", removed_and_back),
        (
            "what_cannot_be_installed_is_told",
            what_cannot_be_installed_is_told,
        ),
        ("the_installed_one_is_found", the_installed_one_is_found),
    ]
    .map(|(name, run)| {
        Trial::test(format!("setup_helper::{name}"), move || {
            run();
            Ok(())
        })
    })
    .into()
}

/// A folder of Windows, and the two programs of WSL that tell of it.
fn wsl(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path("Users/żółć me/AppData/Local");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(sandbox.path("bin")).unwrap();
    let told: Vec<u8> = "C:\\Users\\żółć me\\AppData\\Local\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(sandbox.path("told"), told).unwrap();
    script(
        sandbox,
        "bin/cmd.exe",
        &format!(
            "[ \"$*\" = '/d /u /c echo %LOCALAPPDATA%' ] || exit 9\ncat '{}'",
            sandbox.path("told").display()
        ),
    );
    script(
        sandbox,
        "bin/wslpath",
        &format!(
            "[ \"$*\" = '-u C:\\Users\\żółć me\\AppData\\Local' ] || exit 9\nprintf '%s\\n' '{}'",
            folder.display()
        ),
    );
    folder.join("vmserial/bin/vmserial.exe")
}

fn run(sandbox: &Sandbox, words: &[&str]) -> Ended {
    let mut command = sandbox.vmserial(words);
    finish(command.env("WSL_DISTRO_NAME", "Debian"), b"")
}

fn done(sandbox: &Sandbox, words: &[&str]) -> String {
    let ended = run(sandbox, words);
    assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.stderr);
    ended.stdout + &ended.stderr
}

fn program(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> String {
    let path = sandbox.path(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn installed_once_and_taken_back() {
    let sandbox = Sandbox::new();
    let place = wsl(&sandbox);
    let from = program(&sandbox, "new.exe", b"MZ one \0\xff");
    let setup = ["setup", "helper", "--from", &from];
    let plan = done(&sandbox, &[&setup[..], &["--plan"]].concat());
    for part in [
        "install the helper at",
        "AppData/Local/vmserial/bin/vmserial.exe",
        "copies `",
        "(9 bytes, SHA-256 ",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
    assert!(!place.exists(), "a plan changes nothing");
    let refused = run(&sandbox, &setup);
    assert_eq!(refused.code, Some(5), "nobody to ask: {}", refused.stderr);
    assert!(!place.exists());
    let said = done(&sandbox, &[&setup[..], &["--yes"]].concat());
    assert!(said.contains("`vmserial undo "), "{said}");
    assert_eq!(std::fs::read(&place).unwrap(), b"MZ one \0\xff");
    let again = done(&sandbox, &[&setup[..], &["--yes"]].concat());
    assert!(again.contains("Nothing to change."), "{again}");
    let undo = done(&sandbox, &["undo", "--yes"]);
    assert!(undo.contains("Taken back."), "{undo}");
    assert!(!place.exists());
    assert!(done(&sandbox, &["undo", "--yes"]).contains("Nothing to undo."));
}

fn an_older_one_returns() {
    let sandbox = Sandbox::new();
    let place = wsl(&sandbox);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, b"MZ old \xfe").unwrap();
    let from = program(&sandbox, "new.exe", b"MZ new");
    let said = done(&sandbox, &["setup", "helper", "--from", &from, "--yes"]);
    assert!(
        said.contains("replace the helper") && said.contains("end the bridges"),
        "{said}"
    );
    assert_eq!(std::fs::read(&place).unwrap(), b"MZ new");
    done(&sandbox, &["undo", "--yes"]);
    assert_eq!(std::fs::read(&place).unwrap(), b"MZ old \xfe");
}

fn somebody_elses_is_left_alone() {
    let sandbox = Sandbox::new();
    let place = wsl(&sandbox);
    let from = program(&sandbox, "new.exe", b"MZ new");
    done(&sandbox, &["setup", "helper", "--from", &from, "--yes"]);
    std::fs::write(&place, b"MZ another").unwrap();
    let refused = run(&sandbox, &["undo", "--yes"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("somebody else changed"),
        "{}",
        refused.stderr
    );
    assert_eq!(std::fs::read(&place).unwrap(), b"MZ another");
}

fn removed_and_back() {
    let sandbox = Sandbox::new();
    let place = wsl(&sandbox);
    let from = program(&sandbox, "new.exe", b"MZ new");
    assert!(done(&sandbox, &["setup", "helper", "--remove", "--yes"]).contains("Nothing to change."));
    done(&sandbox, &["setup", "helper", "--from", &from, "--yes"]);
    done(&sandbox, &["setup", "helper", "--remove", "--yes"]);
    assert!(!place.exists());
    done(&sandbox, &["undo", "--yes"]);
    assert_eq!(std::fs::read(&place).unwrap(), b"MZ new");
    done(&sandbox, &["undo", "--yes"]);
    assert!(!place.exists());
}

fn what_cannot_be_installed_is_told() {
    let sandbox = Sandbox::new();
    let from = program(&sandbox, "new.exe", b"MZ new");
    let elsewhere = sandbox.run(["setup", "helper", "--from", &from]);
    assert_eq!(elsewhere.code, Some(5), "{}", elsewhere.stderr);
    assert!(
        elsewhere.stderr.contains("no Windows around this machine"),
        "{}",
        elsewhere.stderr
    );
    wsl(&sandbox);
    let elf = program(&sandbox, "elf", b"\x7fELF");
    let absent = sandbox.path("absent").display().to_string();
    for (words, code, part) in [
        (vec!["--from", &elf], 5, "is no program of Windows"),
        (vec!["--from", &absent], 4, "there is no file"),
        (vec![], 4, "no vmserial.exe to copy"),
    ] {
        let ended = run(&sandbox, &[&["setup", "helper"][..], &words].concat());
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(part) && ended.stderr.contains("hint: "),
            "{}",
            ended.stderr
        );
    }
    std::fs::write(sandbox.path("told"), b"%\0L\0%\0\r\0\n\0").unwrap();
    let ended = run(&sandbox, &["setup", "helper", "--from", &from]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("has no such variable"), "{}", ended.stderr);
}

/// The one that is installed is the one that a bridge starts, without a word from anybody.
fn the_installed_one_is_found() {
    let sandbox = Sandbox::new();
    let place = wsl(&sandbox);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmserial"), &place).unwrap();
    let mut command = sandbox.vmserial(["bridge", "connect:pipe:vm", "pty"]);
    let mut bridge = crate::kit::Running::start(command.env("WSL_DISTRO_NAME", "Debian"));
    // It was started and understood: no pipes is what a helper on Linux says of itself.
    let line = bridge.wait_line("target away");
    assert!(line.contains("named pipes are Windows's"), "{line}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}
