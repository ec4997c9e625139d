//! `vmserial setup helper --host`: the program goes onto a Windows host through a real OpenSSH server, behind which the
//! stand-in is its PowerShell and a login shell stands for `cmd.exe`, which takes 8,191 characters and knows no `uname`.

use crate::bridge_rig::random;
use crate::helper_bridge::{BUILTIN, SYSTEM, sandbox_of, script};
use crate::helper_rig::greeting;
use crate::kit::{Ended, Sandbox, is_fast, wait_until};
use crate::sshd::{QUICK_SHELL, Sshd, missing};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::path::PathBuf;
use vmserial_testkit::hyperv::files;
use vmserial_testkit::hyperv::host::Host;

pub fn trials() -> Vec<Trial> {
    let reason =
        missing().or_else(|| is_fast().then(|| "programs go over SSH (VMSERIAL_TEST_FAST=1)".to_owned()));
    let all: [(String, Box<dyn FnOnce() + Send>); 7] = [
        (
            "installed_heard_and_taken_back".into(),
            Box::new(|| installed_heard_and_taken_back(BUILTIN)),
        ),
        (
            "installed_by_the_systems_ssh".into(),
            Box::new(|| installed_heard_and_taken_back(SYSTEM)),
        ),
        (
            "an_older_one_is_told_and_returns".into(),
            Box::new(an_older_one_is_told_and_returns),
        ),
        (
            "killed_half_way_and_undone".into(),
            Box::new(killed_half_way_and_undone),
        ),
        (
            "killed_at_the_end_and_undone".into(),
            Box::new(killed_at_the_end_and_undone),
        ),
        ("refusals_of_the_host".into(), Box::new(refusals_of_the_host)),
        (
            "a_host_that_is_no_windows".into(),
            Box::new(a_host_that_is_no_windows),
        ),
    ];
    all.into_iter()
        .map(|(name, run)| {
            let reason = reason.clone();
            Trial::ignorable_test(format!("setup_helper_far::{name}"), move || match reason {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run();
                    Ok::<_, Failed>(Completion::Completed)
                }
            })
        })
        .collect()
}

/// A Windows host behind SSH.
struct Far {
    sandbox: Sandbox,
    server: Sshd,
    state: PathBuf,
}

/// What `cmd.exe` does with our lines: it knows no `uname`, starts PowerShell, and puts the variable in. A program of the
/// test is a script of a shell that begins as a program of Windows does.
const CMD: &str = r#"line=$SSH_ORIGINAL_COMMAND
if [ ${#line} -gt 8191 ]; then echo 'The command line is too long.' >&2; exit 1; fi
case $line in
'powershell.exe '*) exec $line ;;
'"%LOCALAPPDATA%\vmserial\bin\vmserial.exe" helper') [ -e "$INSTALLED" ] && exec sh "$INSTALLED" helper ;;
esac
echo "'${line%% *}' is not recognized as an internal or external command," >&2
exit 1"#;

impl Far {
    fn new(engine: &str) -> Self {
        let sandbox = sandbox_of(engine);
        sandbox.stand_in("powershell.exe");
        let folder = sandbox.path("far");
        fs::create_dir(&folder).unwrap();
        for name in ["powershell.exe", "powershell.state"] {
            fs::rename(sandbox.path("bin").join(name), folder.join(name)).unwrap();
        }
        let state = folder.join("powershell.state");
        let installed = files::place(&state, &place()).unwrap();
        let cmd = script(&sandbox, "far/cmd", CMD);
        let server = Sshd::start_with(
            &sandbox,
            &format!(
                "ForceCommand {}\nSetEnv {QUICK_SHELL} PATH={}:/usr/bin:/bin INSTALLED={}\n",
                cmd.display(),
                folder.display(),
                installed.display()
            ),
        );
        let far = Self {
            sandbox,
            server,
            state,
        };
        Host::default().write(&far.state).unwrap();
        far
    }

    fn installed(&self) -> PathBuf {
        files::place(&self.state, &place()).unwrap()
    }

    /// What is in the program's folder.
    fn names(&self) -> Vec<String> {
        let folder = fs::read_dir(self.installed().parent().unwrap());
        let names = folder.into_iter().flatten().flatten();
        let mut names: Vec<String> = names
            .map(|file| file.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Puts a program there by hand.
    fn put(&self, bytes: &[u8]) {
        fs::create_dir_all(self.installed().parent().unwrap()).unwrap();
        fs::write(self.installed(), bytes).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.sandbox.run(words)
    }

    fn done(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.stdout + &ended.stderr
    }

    /// The scripts that ran, and how each came.
    fn scripts(&self) -> Vec<(String, String)> {
        let log = fs::read_to_string(self.state.join("log")).unwrap_or_default();
        let parts = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("script"), text("way"))
        };
        // The newest line may be on its way.
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(parts).collect()
    }

    fn hang_after(&self, script: Option<&str>) {
        let mut host = Host::read(&self.state).unwrap();
        host.hangs_after = script.map(str::to_owned);
        host.write(&self.state).unwrap();
    }
}

fn place() -> String {
    format!(r"{}\vmserial\bin\vmserial.exe", files::LOCAL_APP_DATA)
}

/// A program that begins as one of Windows does and is this vmserial, several pieces long.
fn program(sandbox: &Sandbox) -> (String, Vec<u8>) {
    let mut bytes = format!("MZ=1\nexec '{}' \"$@\"\nexit\n", env!("CARGO_BIN_EXE_vmserial")).into_bytes();
    bytes.extend(random(540_000));
    let path = sandbox.path("new.exe");
    fs::write(&path, &bytes).unwrap();
    (path.display().to_string(), bytes)
}

fn installed_heard_and_taken_back(engine: &str) {
    let far = Far::new(engine);
    let (from, bytes) = program(&far.sandbox);
    let setup = ["setup", "helper", "--host", "lab", "--from", &from];
    let plan = far.done(&[&setup[..], &["--plan"]].concat());
    for part in [
        "lab",
        &format!("install the helper at `{}`", place()),
        "copies `",
        "SHA-256 ",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
    assert_eq!(far.names(), [""; 0], "a plan changes nothing");
    let said = far.done(&[&setup[..], &["--yes"]].concat());
    assert!(said.contains("`vmserial undo "), "{said}");
    let version = format!("vmserial {} answers as the helper (", env!("CARGO_PKG_VERSION"));
    assert!(said.contains(&version), "{said}");
    assert_eq!(far.names(), ["vmserial.exe"]);
    assert!(fs::read(far.installed()).unwrap() == bytes);
    let scripts = far.scripts();
    let pieces = scripts.iter().filter(|(name, _)| name == "host/write-part");
    let ways: Vec<&str> = pieces.map(|(_, way)| way.as_str()).collect();
    assert_eq!(ways, ["input"; 2], "no command line takes a piece");
    let again = far.done(&[&setup[..], &["--yes"]].concat());
    assert!(
        again.contains("Nothing to change.") && again.contains(&version),
        "{again}"
    );
    if engine == BUILTIN {
        far.server.logins();
        far.done(&[&setup[..], &["--yes"]].concat());
        assert_eq!(far.server.logins(), 1, "one connection for each command");
    }
    let undo = far.done(&["undo", "--yes"]);
    assert!(undo.contains("Taken back."), "{undo}");
    assert_eq!(far.names(), [""; 0]);
    assert!(far.done(&["undo", "--yes"]).contains("Nothing to undo."));
}

fn an_older_one_is_told_and_returns() {
    let far = Far::new(BUILTIN);
    let (from, bytes) = program(&far.sandbox);
    fs::write(far.sandbox.path("hello"), greeting("vmserial-helper 0 0.0.1")).unwrap();
    let hello = far.sandbox.path("hello");
    let mut old = format!("MZ=1\ncat {}; cat >/dev/null; exit\n", hello.display()).into_bytes();
    old.extend(random(1000));
    far.put(&old);
    let said = far.done(&["setup", "helper", "--host", "lab", "--from", &from, "--yes"]);
    for part in [
        "replace the helper",
        "vmserial 0.0.1 and speaks protocol 0",
        "end the bridges",
        "answers as the helper",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(fs::read(far.installed()).unwrap() == bytes);
    far.done(&["undo", "--yes"]);
    assert!(fs::read(far.installed()).unwrap() == old);
    assert_eq!(far.names(), ["vmserial.exe"]);
    let removed = far.done(&["setup", "helper", "--host", "lab", "--remove", "--yes"]);
    assert!(removed.contains("remove the helper"), "{removed}");
    assert_eq!(far.names(), [""; 0]);
    far.done(&["undo", "--yes"]);
    assert!(fs::read(far.installed()).unwrap() == old);
}

fn kill_at(far: &Far, script: &str, from: &str) {
    far.hang_after(Some(script));
    let words = ["setup", "helper", "--host", "lab", "--from", from, "--yes"];
    let mut setup = far.sandbox.start(words);
    let name = format!("host/{script}");
    wait_until("the host has changed", || {
        let begun = far.scripts().iter().any(|(script, _)| *script == name);
        (begun && !far.names().is_empty()).then_some(())
    });
    setup.signal("KILL");
    assert_eq!(setup.wait_end(), 128 + 9);
    far.hang_after(None);
}

fn killed_half_way_and_undone() {
    let far = Far::new(BUILTIN);
    let (from, _) = program(&far.sandbox);
    kill_at(&far, "write-part", &from);
    wait_until("a piece of it is there", || {
        (far.names() == ["vmserial.exe.vmserial-part"]).then_some(())
    });
    let undone = far.done(&["undo", "--yes"]);
    assert!(undone.contains("what had arrived"), "{undone}");
    assert_eq!(far.names(), [""; 0]);
    assert!(far.done(&["undo", "--yes"]).contains("Nothing to undo."));
}

fn killed_at_the_end_and_undone() {
    let far = Far::new(BUILTIN);
    let (from, bytes) = program(&far.sandbox);
    far.put(b"MZ old");
    kill_at(&far, "put-file", &from);
    wait_until("it is in its place", || {
        fs::read(far.installed())
            .is_ok_and(|there| there == bytes)
            .then_some(())
    });
    far.done(&["undo", "--yes"]);
    assert_eq!(fs::read(far.installed()).unwrap(), b"MZ old");
    assert_eq!(far.names(), ["vmserial.exe"]);
}

fn refusals_of_the_host() {
    let far = Far::new(BUILTIN);
    let (from, _) = program(&far.sandbox);
    far.put(b"MZ old");
    // A helper that runs holds its file.
    fs::write(far.state.join("in-use"), "").unwrap();
    let words = ["setup", "helper", "--host", "lab", "--from", &from, "--yes"];
    let ended = far.run(&words);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("Access to the path"), "{ended:?}");
    assert_eq!(fs::read(far.installed()).unwrap(), b"MZ old");
    fs::remove_file(far.state.join("in-use")).unwrap();
    far.done(&["undo", "--yes"]);
    assert_eq!(far.names(), ["vmserial.exe"]);
    // Somebody else's is left alone.
    far.done(&words);
    far.put(b"MZ another");
    let ended = far.run(&["undo", "--yes"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("somebody else changed"), "{ended:?}");
    assert_eq!(fs::read(far.installed()).unwrap(), b"MZ another");
}

fn a_host_that_is_no_windows() {
    let sandbox = Sandbox::new();
    let (from, _) = program(&sandbox);
    let _server = Sshd::start_with(&sandbox, &format!("SetEnv {QUICK_SHELL} PATH=/usr/bin:/bin\n"));
    let ended = sandbox.run(["setup", "helper", "--host", "lab", "--from", &from, "--yes"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stderr.contains("lab has no PowerShell") && ended.stderr.contains("hint: "),
        "{ended:?}"
    );
    // One with a PowerShell is told by its environment.
    let far = Far::new(BUILTIN);
    fs::write(far.state.join("local-app-data"), "").unwrap();
    let ended = far.run(&["setup", "helper", "--host", "lab", "--from", &from, "--yes"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("lab has no %LOCALAPPDATA%"), "{ended:?}");
}
