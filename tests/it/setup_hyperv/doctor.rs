//! `vmserial doctor hyperv`: what is missing, and the command that mends it.

use super::{Lab, trial};
use libtest_mimic::Trial;
use std::fs;
use vmserial_testkit::hyperv::host::Host;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("doctor_names_what_mends_it", doctor_names_what_mends_it),
        trial(
            "doctor_is_content_with_a_good_host",
            doctor_is_content_with_a_good_host,
        ),
        trial(
            "doctor_without_powershell_looks_no_further",
            doctor_without_powershell,
        ),
    ]
}

/// What is wrong with a host: what its file says, and which faults its PowerShell has.
type Change = fn(&mut Host);

/// Every check in each way in which it can fail: its line, and the command that mends it.
fn doctor_names_what_mends_it() {
    const JOIN: &str = "`Add-LocalGroupMember -SID S-1-5-32-578 -Member $env:USERNAME`";
    const MODULE: &str =
        "`Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell`";
    const SEE: &str = "`vmserial powershell host/versions`";
    let table: [(&str, &str, Change, &str, &[&str]); 13] = [
        (
            "PowerShell gives no answer",
            "garbage",
            |_| {},
            "MISSING  PowerShell: ",
            &[SEE, "- VMs: needs an answer"],
        ),
        (
            "PowerShell is killed",
            "killed",
            |_| {},
            "MISSING  PowerShell: ",
            &[SEE],
        ),
        (
            "PowerShell is refused",
            "throws",
            |_| {},
            "MISSING  PowerShell: ",
            &[JOIN],
        ),
        (
            "not elevated",
            "",
            |host| host.not_permitted = true,
            "MISSING  rights: ",
            &[JOIN, "elevated terminal"],
        ),
        (
            "not elevated, refused",
            "",
            |host| host.not_permitted = true,
            "MISSING  VMs: ",
            &[JOIN],
        ),
        (
            "not elevated, quieter",
            "",
            |host| (host.not_permitted, host.hides) = (true, true),
            "MISSING  rights: ",
            &[JOIN, "- VMs: needs the rights"],
        ),
        ("elevated", "", |_| {}, "advice   rights: ", &[JOIN]),
        (
            "in the group",
            "",
            |host| host.administrator = true,
            "good     rights: ",
            &["no elevation is needed"],
        ),
        (
            "no module",
            "",
            |host| host.no_module = true,
            "MISSING  module: ",
            &[MODULE, "- VMs: needs the module"],
        ),
        (
            "no module on a server",
            "",
            |host| host.no_module = true,
            "MISSING  module: ",
            &["`Install-WindowsFeature -Name Hyper-V-PowerShell`"],
        ),
        (
            "service stopped",
            "",
            |host| "Stopped".clone_into(&mut host.service),
            "MISSING  service: vmms is `Stopped`",
            &["`Start-Service -Name vmms`"],
        ),
        (
            "no service",
            "",
            |host| "none".clone_into(&mut host.service),
            "MISSING  service: this host has no Hyper-V",
            &[
                "`Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All`",
                "`Install-WindowsFeature -Name Hyper-V -IncludeManagementTools -Restart`",
            ],
        ),
        (
            "no helper",
            "",
            |_| {},
            "MISSING  helper: ",
            &["`vmserial setup helper --from"],
        ),
    ];
    for (case, faults, change, line, said) in table {
        let lab = Lab::new(change);
        fs::write(lab.state.join("faults"), faults).unwrap();
        let ended = lab.run("doctor hyperv");
        assert_eq!(ended.code, Some(5), "{case}: {ended:?}");
        for part in said.iter().chain(&[line]) {
            let part = part.replace("- VMs", "-        VMs");
            assert!(
                ended.stdout.contains(&part),
                "{case}: no `{part}` in {}",
                ended.stdout
            );
        }
        assert_eq!(lab.log(), [""; 0], "{case}");
        // Whatever is missing, a command stands under it.
        let lines: Vec<&str> = ended.stdout.lines().collect();
        for (index, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("  MISSING "))
        {
            let rest = lines[index + 1..]
                .iter()
                .take_while(|line| line.starts_with("    "));
            let commands = rest.filter(|line| line.contains('`')).count();
            assert!(
                commands > 0,
                "{case}: nothing mends `{}`: {}",
                lines[index],
                ended.stdout
            );
        }
    }
}

fn doctor_is_content_with_a_good_host() {
    let lab = Lab::new(|_| {});
    // Without the helper the bytes have no way: it is told apart from what the host lacks.
    let ended = lab.run("doctor");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stdout.contains("MISSING  helper:") && ended.stdout.contains("VMSERIAL_EXE"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("1 thing must be mended"), "{ended:?}");
    let helper = lab.sandbox.path("bin/vmserial.exe");
    fs::copy(env!("CARGO_BIN_EXE_vmserial"), helper).unwrap();
    let ended = lab.run("doctor hyperv");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    insta::assert_snapshot!(lab.shown(&ended));
    let json = lab.run("doctor hyperv --json");
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&value["good"], &value["checks"][3]["state"]),
        (&true.into(), &"advice".into())
    );
}

fn doctor_without_powershell() {
    let sandbox = crate::kit::Sandbox::new();
    let ended = sandbox.run(["doctor", "hyperv"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    // A machine with a PowerShell of its own has no Hyper-V at least.
    let looks_no_further =
        ended.stdout.contains("MISSING  PowerShell:") && ended.stdout.contains("-        module");
    assert!(
        looks_no_further || ended.stdout.contains("MISSING  module:"),
        "{ended:?}"
    );
    // The drivers of these check nothing, so their host's firewall is not told either.
    for kind in ["qemu", "vmware"] {
        let ended = sandbox.run(["doctor", kind]);
        assert!(!ended.stdout.contains("firewall: "), "{ended:?}");
        let words = format!("checks nothing for `{kind}`");
        assert!(
            !ended.stdout.is_empty() || ended.stderr.contains(&words),
            "{ended:?}"
        );
    }
    assert_eq!(sandbox.run(["doctor", "nope"]).code, Some(2));
}
