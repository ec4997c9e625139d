//! What Hyper-V refuses, and what is refused for it: the exit code, and what to do.

use super::{DEV, Lab, PORT, WIN, trial};
use crate::kit::wait_until;
use libtest_mimic::Trial;
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_refusal_says_what_to_do", a_refusal_says_what_to_do),
        trial(
            "what_is_refused_between_plan_and_apply",
            what_is_refused_between_plan_and_apply,
        ),
        trial(
            "a_refused_start_is_told_with_the_way_back",
            a_refused_start_is_told_with_the_way_back,
        ),
        trial(
            "members_of_the_group_need_no_elevation",
            members_of_the_group_need_no_elevation,
        ),
        trial("words_that_no_vm_can_have", words_that_no_vm_can_have),
        trial(
            "a_guest_that_cannot_shut_down_runs_on",
            a_guest_that_cannot_shut_down_runs_on,
        ),
        trial("without_powershell_the_way_to_a_host_is_told", without_powershell),
    ]
}

type Change = fn(&mut Host);

fn a_refusal_says_what_to_do() {
    let table: [(&str, Change, &str, i32, &[&str]); 10] = [
        (
            "no VM",
            |_| {},
            "--vm nope --pipe x",
            4,
            &["has no VM `nope`", "`Get-VM`"],
        ),
        (
            "wildcard",
            |_| {},
            "--vm d* --pipe x",
            4,
            &["Wildcards are not taken"],
        ),
        (
            "two of a name",
            |host| {
                host.vms
                    .push(Vm::new("11111111-91d0-40a9-9769-7809f256f603", "dev", 1))
            },
            "--vm dev --pipe x",
            5,
            &["2 VMs", DEV, "by its GUID"],
        ),
        (
            "not elevated",
            |host| host.not_permitted = true,
            "--vm dev --pipe x",
            5,
            &["required permission", "elevated terminal", "S-1-5-32-578"],
        ),
        (
            "not elevated, quieter",
            |host| (host.not_permitted, host.hides) = (true, true),
            "--vm dev --pipe x",
            5,
            &["may not manage Hyper-V", "it shows no VM `dev`"],
        ),
        (
            "module missing",
            |host| host.no_module = true,
            "--vm dev --pipe x",
            4,
            &["Hyper-V module", "Enable-WindowsOptionalFeature"],
        ),
        (
            "saved",
            |host| "Saved".clone_into(&mut host.vms[0].state),
            "--vm dev --pipe x --restart hard",
            5,
            &["is saved"],
        ),
        (
            "paused",
            |host| "Paused".clone_into(&mut host.vms[0].state),
            "--vm dev --pipe x --restart hard",
            5,
            &["is paused"],
        ),
        (
            "pipe taken",
            |host| r"\\.\pipe\X".clone_into(&mut host.vms[1].com[1].path),
            "--vm dev --pipe x",
            5,
            &["taken by COM 2 of the VM `win`"],
        ),
        (
            "no such port",
            |_| {},
            "--vm dev --pipe x --port 3",
            5,
            &["has 2 COM ports"],
        ),
    ];
    for (case, change, words, code, said) in table {
        let lab = Lab::new(change);
        let before = lab.host();
        let ended = lab.setup(&format!("{words} --yes"));
        assert_eq!(ended.code, Some(code), "{case}: {ended:?}");
        for part in said {
            assert!(
                ended.stderr.contains(part),
                "{case}: no `{part}` in {}",
                ended.stderr
            );
        }
        assert!(ended.stderr.contains("hint: "), "{case}: {}", ended.stderr);
        assert_eq!(lab.host(), before, "{case}");
    }
}

/// What the cmdlets themselves refuse: the look was content, and then the host changed.
fn what_is_refused_between_plan_and_apply() {
    let table: [(&str, Change, i32, &[&str]); 5] = [
        (
            "started",
            |host| "Running".clone_into(&mut host.vms[0].state),
            5,
            &["in its current state", "`--restart graceful`"],
        ),
        (
            "saved",
            |host| "Saved".clone_into(&mut host.vms[0].state),
            5,
            &["in its current state", "only while the VM is off"],
        ),
        (
            "removed",
            |host| drop(host.vms.remove(0)),
            4,
            &["unable to find a virtual machine", "`Get-VM` lists"],
        ),
        (
            "rights lost",
            |host| host.not_permitted = true,
            5,
            &["required permission", "S-1-5-32-578"],
        ),
        (
            "module gone",
            |host| host.no_module = true,
            4,
            &["could not be loaded", "Install-WindowsFeature"],
        ),
    ];
    for (case, change, code, said) in table {
        let lab = Lab::new(|host| host.hangs_after = Some("observe".to_owned()));
        let words = format!("setup hyperv {PORT} --yes");
        let mut setup = lab.sandbox.start(words.split_whitespace());
        wait_until("the host was looked at", || {
            (lab.scripts().len() == 1).then_some(())
        });
        lab.change(|host| {
            change(host);
            host.hangs_after = None;
        });
        assert_eq!(setup.wait_end(), code, "{case}: {}", setup.said());
        let all = setup.said();
        for part in said.iter().chain(&["hint: "]) {
            assert!(all.contains(part), "{case}: no `{part}` in {all}");
        }
        assert_eq!(lab.log(), [""; 0], "{case}");
    }
}

fn a_refused_start_is_told_with_the_way_back() {
    let lab = Lab::new(|host| {
        "Running".clone_into(&mut host.vms[0].state);
        "StartVM".clone_into(&mut host.denies);
    });
    let ended = lab.setup(&format!("{PORT} --yes --restart graceful"));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    for part in ["Access is denied.", "S-1-5-32-578", "vmserial undo"] {
        assert!(ended.stderr.contains(part), "no `{part}` in {ended:?}");
    }
    lab.change(|host| host.denies.clear());
    let undone = lab.run("undo --yes");
    assert_eq!(undone.code, Some(0), "{undone:?}");
    let dev = lab.host().vms[0].clone();
    assert_eq!((dev.state.as_str(), dev.com[1].path.as_str()), ("Running", ""));
}

fn members_of_the_group_need_no_elevation() {
    let lab = Lab::new(|host| (host.unelevated, host.administrator) = (true, true));
    let done = lab.setup(&format!("{PORT} --yes"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let doctor = lab.run("doctor hyperv");
    assert!(
        doctor
            .stdout
            .contains("good     rights: in Hyper-V Administrators"),
        "{doctor:?}"
    );
    // Who is neither may be shown VMs all the same; one that is not shown is not said to be absent.
    lab.change(|host| host.administrator = false);
    let ended = lab.setup("--vm nope --pipe x --yes");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("may not manage Hyper-V"), "{ended:?}");
}

fn words_that_no_vm_can_have() {
    let lab = Lab::new(|_| {});
    for (words, code, said) in [
        ("--vm dev --pipe COM3", 2, "reserved for Windows"),
        (
            "--vm dev --pipe x --endpoint listen:pipe:y",
            2,
            "cannot be used with",
        ),
        ("--pipe x", 2, "which VM is meant is missing"),
        ("--vm dev --endpoint connect:pipe:x", 5, "stops trying"),
        ("--vm dev --endpoint listen:tcp:127.0.0.1:1", 5, "named pipes"),
        ("--vm dev --gdbstub 1234", 5, "gdb stub"),
    ] {
        let ended = lab.setup(&format!("{words} --yes"));
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.stderr.contains(said), "{words}: {ended:?}");
    }
    assert_eq!(lab.log(), [""; 0]);
    // A text that means something to PowerShell is a name like any other.
    for name in ["it's", "$(Stop-Computer)", "a`b", "[x]", "”quoted“", WIN] {
        let ended = lab
            .sandbox
            .run(["setup", "hyperv", "--vm", name, "--pipe", "x", "--plan"]);
        let code = if name == WIN { 0 } else { 4 };
        assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
    }
}

fn a_guest_that_cannot_shut_down_runs_on() {
    for (guest, code, said) in [
        ("locked", 5, "without a question"),
        ("no-shutdown", 6, "integration service"),
    ] {
        let lab = Lab::new(|host| {
            "Running".clone_into(&mut host.vms[0].state);
            guest.clone_into(&mut host.vms[0].guest);
        });
        let before = lab.host();
        let ended = lab.setup(&format!("{PORT} --yes --restart graceful"));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(
            ended.stderr.contains(said) && ended.stderr.contains("--restart hard"),
            "{ended:?}"
        );
        assert_eq!(lab.host(), before);
    }
}

fn without_powershell() {
    let sandbox = crate::kit::Sandbox::new();
    let ended = sandbox.run(["setup", "hyperv", "--vm", "dev", "--pipe", "x", "--plan"]);
    if ended.code == Some(4) {
        assert!(
            ended.stderr.contains("no PowerShell") && ended.stderr.contains("--host"),
            "{ended:?}"
        );
    } else {
        // A machine that has one: it has no Hyper-V that knows `dev`.
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
}
