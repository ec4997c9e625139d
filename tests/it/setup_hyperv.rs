//! `vmserial setup hyperv` and profiles for Hyper-V, on a stand-in of PowerShell whose Hyper-V keeps its state in a file and
//! refuses what the real one refuses. On Linux with `powershell.exe` on the PATH this is the way of WSL.

mod debug;
mod doctor;
mod refusals;
mod ssh;
mod undo;

use crate::kit::{Ended, Sandbox};
use libtest_mimic::Trial;
use std::fs;
use std::path::PathBuf;
use vmserial_testkit::hyperv::host::{Host, Vm};

/// The GUID of `dev`, a VM of generation 1.
const DEV: &str = "7cca7664-91d0-40a9-9769-7809f256f603";
/// The GUID of `win`, of generation 2, with Secure Boot and its template for Windows.
const WIN: &str = "0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a_plan_shows_the_cmdlets", a_plan_shows_the_cmdlets),
        trial("a_second_apply_changes_nothing", a_second_apply_changes_nothing),
        trial("a_running_vm_is_started_cold", a_running_vm_is_started_cold),
        trial("a_vm_has_the_name_that_it_has", a_vm_has_the_name_that_it_has),
        trial(
            "a_windows_guest_wants_its_step_confirmed",
            a_windows_guest_wants_its_step_confirmed,
        ),
        trial(
            "show_and_remove_serve_ports_of_others",
            show_and_remove_serve_ports_of_others,
        ),
        trial("a_lab_is_looked_at_once", a_lab_is_looked_at_once),
        trial(
            "the_shipped_profiles_are_planned",
            the_shipped_profiles_are_planned,
        ),
    ];
    trials.extend(debug::trials());
    trials.extend(doctor::trials());
    trials.extend(refusals::trials());
    trials.extend(ssh::trials());
    trials.extend(undo::trials());
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("setup_hyperv::{name}"), move || {
        test();
        Ok(())
    })
}

/// A sandbox with a Hyper-V behind `powershell.exe`.
struct Lab {
    sandbox: Sandbox,
    state: PathBuf,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Host)) -> Self {
        Self::behind("powershell.exe", change)
    }

    /// With another PowerShell.
    fn behind(program: &str, change: impl FnOnce(&mut Host)) -> Self {
        let sandbox = Sandbox::new();
        let state = sandbox.stand_in(program);
        let lab = Self { sandbox, state };
        let mut host = Host::default();
        host.vms = vec![Vm::new(DEV, "dev", 1), Vm::new(WIN, "win", 2)];
        change(&mut host);
        lab.set(&host);
        lab
    }

    fn host(&self) -> Host {
        Host::read(&self.state).unwrap()
    }

    fn set(&self, host: &Host) {
        host.write(&self.state).unwrap();
    }

    /// Somebody else changes the host.
    fn change(&self, change: impl FnOnce(&mut Host)) {
        let mut host = self.host();
        change(&mut host);
        self.set(&host);
    }

    fn run(&self, line: &str) -> Ended {
        self.sandbox.run(line.split_whitespace())
    }

    fn setup(&self, words: &str) -> Ended {
        self.run(&format!("setup hyperv {words}"))
    }

    /// What was changed on the host, in order.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state.join("hyperv.log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }

    /// The scripts that ran, in order.
    fn scripts(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state.join("log")).unwrap_or_default();
        let name = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["script"].as_str().unwrap().to_owned()
        };
        log.lines().map(name).collect()
    }

    fn shown(&self, ended: &Ended) -> String {
        crate::setup_vmware::redact_entries(&ended.shown(&self.sandbox))
    }
}

const PORT: &str = "--vm dev --port 2 --pipe dev-gdb --as gdb";

fn a_plan_shows_the_cmdlets() {
    let lab = Lab::new(|_| {});
    let ended = lab.setup(&format!("{PORT} --plan"));
    insta::assert_snapshot!(lab.shown(&ended));
    assert_eq!(lab.log(), [""; 0]);
    assert_eq!(lab.scripts(), ["hyperv/observe"]);
    assert!(!lab.sandbox.path("state/journal").exists());
    let json = lab.run(&format!("setup hyperv {PORT} --plan --json"));
    assert_eq!(json.code, Some(0), "{json:?}");
    let plan: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let step = &plan["targets"][0]["stages"][0]["steps"][0];
    assert_eq!(step["action"]["powershell"]["script"], "hyperv/set-com-port");
}

fn a_second_apply_changes_nothing() {
    let lab = Lab::new(|_| {});
    let before = lab.host();
    let first = lab.setup(&format!("{PORT} --yes"));
    insta::assert_snapshot!(lab.shown(&first));
    let host = lab.host();
    assert_eq!(host.vms[0].com[1].path, r"\\.\pipe\dev-gdb");
    // What nobody asked for stays: COM 1, and the debugger mode of COM 2.
    assert_eq!(
        (&host.vms[0].com[0], host.vms[0].com[1].debugger_mode.as_str()),
        (&before.vms[0].com[0], "Off")
    );
    assert_eq!(host.vms[0].state, "Off");
    let second = lab.setup(&format!("{PORT} --yes"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    // By its GUID, and with the pipe's whole path, it is the same.
    let again = lab.setup(&format!(
        r"--vm {DEV} --port 2 --pipe \\.\pipe\DEV-gdb --as gdb --yes"
    ));
    assert!(again.stderr.starts_with("Nothing to change.\n"), "{again:?}");
    let undone = lab.run("undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.host(), before);
}

/// Windows PowerShell 5.1 and PowerShell 7 read JSON in different ways.
fn a_vm_has_the_name_that_it_has() {
    for program in ["powershell.exe", "pwsh"] {
        for name in [
            "2024-01-01T00:00:00",
            "/Date(0)/",
            "it's [dev] \u{201d}$(x)`",
            "Grüße",
            "=",
        ] {
            let lab = Lab::behind(program, |host| name.clone_into(&mut host.vms[0].name));
            let words = [
                "setup",
                "hyperv",
                "--vm",
                name,
                "--port",
                "2",
                "--pipe",
                "2024-01-01T00",
                "--yes",
            ];
            let done = lab.sandbox.run(words);
            assert_eq!(done.code, Some(0), "{program}, {name}: {done:?}");
            assert_eq!(
                lab.host().vms[0].com[1].path,
                r"\\.\pipe\2024-01-01T00",
                "{program}, {name}"
            );
            let again = lab.sandbox.run(words);
            assert!(
                again.stderr.contains("Nothing to change."),
                "{program}, {name}: {again:?}"
            );
            let undone = lab.run("undo --yes");
            assert_eq!(undone.code, Some(0), "{program}, {name}: {undone:?}");
            assert_eq!(lab.host().vms[0].com[1].path, "", "{program}, {name}");
        }
    }
}

fn a_running_vm_is_started_cold() {
    let running = |host: &mut Host| "Running".clone_into(&mut host.vms[0].state);
    let lab = Lab::new(running);
    let before = lab.host();
    for level in ["ask", "never"] {
        let ended = lab.setup(&format!("{PORT} --yes --restart {level}"));
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(ended.stderr.contains("`--restart graceful`"), "{ended:?}");
    }
    assert_eq!(lab.host(), before);
    for (level, stop) in [("graceful", "Stop-VM dev"), ("hard", "Stop-VM dev -TurnOff")] {
        let lab = Lab::new(running);
        let ended = lab.setup(&format!("{PORT} --yes --restart {level}"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let set = r"Set-VMComPort dev 2 '\\.\pipe\dev-gdb' Off";
        assert_eq!(lab.log(), [stop, set, "Start-VM dev"]);
        let second = lab.setup(&format!("{PORT} --yes --restart {level}"));
        assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
        // Undo obeys the policy that the target had, and leaves the VM running, as it finds it.
        let undone = lab.run("undo --yes");
        assert_eq!(undone.code, Some(0), "{undone:?}");
        assert_eq!(
            lab.log()[3..],
            [stop, "Set-VMComPort dev 2 '' Off", "Start-VM dev"]
        );
        assert_eq!(lab.host(), before);
    }
}

fn a_windows_guest_wants_its_step_confirmed() {
    let lab = Lab::new(|_| {});
    let before = lab.host();
    let words = "--vm win --port 1 --pipe win-kd --as kd --yes";
    let refused = lab.setup(words);
    insta::assert_snapshot!(lab.shown(&refused));
    assert_eq!(lab.host(), before);
    let done = lab.setup(&format!("{words} --confirm secure-boot"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let win = lab.host().vms[1].clone();
    assert_eq!(
        (win.secure_boot.as_deref(), win.com[0].debugger_mode.as_str()),
        (Some("Off"), "On")
    );
    let undone = lab.run("undo --yes --confirm secure-boot");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.host(), before);
    // Kept, it is warned of.
    let kept = lab.setup("--vm win --port 1 --pipe win-kd --as kd --plan --secure-boot keep");
    assert!(kept.stdout.contains("Secure Boot stays on"), "{kept:?}");
}

fn show_and_remove_serve_ports_of_others() {
    let lab = Lab::new(|host| r"\\.\pipe\theirs".clone_into(&mut host.vms[0].com[0].path));
    let shown = lab.setup("--vm dev --show");
    insta::assert_snapshot!(lab.shown(&shown), @r"
    exit code: 0
    --- standard output
    port 1 (COM1, ttyS0): `\\.\pipe\theirs`, debugger mode on; the VM's end is `listen:pipe:theirs`, ours `connect:pipe:theirs`
    --- standard error
    ");
    assert_eq!(lab.setup("--vm dev --port 2 --show").code, Some(4));
    let removed = lab.setup("--vm dev --remove --yes");
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(lab.host().vms[0].com[0].path, "");
    let undone = lab.run("undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(lab.host().vms[0].com[0].path, r"\\.\pipe\theirs");
}

const LAB: &str = "version: 1
targets:
  dev: {host: hyperv, vm: dev, ports: [{port: 1, as: console, attach: \"listen:pipe:dev-console\"}]}
  win: {host: hyperv, vm: win, secure_boot: keep, ports: [{port: 1, as: kd, attach: \"listen:pipe:win-kd\"}]}
";

fn a_lab_is_looked_at_once() {
    let lab = Lab::new(|_| {});
    fs::write(lab.sandbox.path("lab.yaml"), LAB).unwrap();
    let ended = lab.run("plan lab.yaml");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(lab.scripts(), ["hyperv/observe"]);
    let ended = lab.run("apply lab.yaml --yes");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let again = lab.run("apply lab.yaml --yes");
    assert!(again.stderr.starts_with("Nothing to change.\n"), "{again:?}");
    // A checkpoint that is applied brings the settings of its own time.
    lab.change(|host| host.vms[0].com[0].path.clear());
    assert_eq!(lab.run("drift lab.yaml --exit-code").code, Some(10));
}

fn the_shipped_profiles_are_planned() {
    for (profile, says) in [
        (
            "hyperv-linux-kgdb",
            "attach port 2 (COM2, ttyS1): the VM listens on pipe:dev-gdb",
        ),
        ("hyperv-windows-windbg", "switch Secure Boot off"),
    ] {
        let lab = Lab::new(|_| {});
        let path = format!("{}/profiles/{profile}.yaml", env!("CARGO_MANIFEST_DIR"));
        let checked = lab.run(&format!("profile check {path}"));
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let planned = lab.run(&format!("plan {path}"));
        assert_eq!(planned.code, Some(0), "{planned:?}");
        assert!(planned.stdout.contains(says), "{planned:?}");
        assert!(!planned.stdout.contains("not served yet"), "{planned:?}");
        let applied = lab.run(&format!("apply {path} --yes --confirm secure-boot"));
        assert_eq!(applied.code, Some(0), "{applied:?}");
    }
}
