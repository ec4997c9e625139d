//! What Hyper-V refuses, and what is refused for it: the exit code, and what to do.

use super::{DEV, Lab, PORT, WIN, trial};
use libtest_mimic::Trial;
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_refusal_says_what_to_do", a_refusal_says_what_to_do),
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
