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

/// What is wrong with a host.
type Change = fn(&mut Host);

fn doctor_names_what_mends_it() {
    let table: [(&str, Change, &[&str]); 3] = [
        (
            "not elevated",
            |host| host.not_permitted = true,
            &[
                "MISSING  rights:",
                "Add-LocalGroupMember -SID S-1-5-32-578",
                "MISSING  VMs:",
            ],
        ),
        (
            "not elevated, quieter",
            |host| (host.not_permitted, host.hides) = (true, true),
            &["MISSING  rights:", "-        VMs: needs the rights"],
        ),
        (
            "no module",
            |host| host.no_module = true,
            &[
                "MISSING  module:",
                "Microsoft-Hyper-V-Management-PowerShell",
                "MISSING  service:",
                "Install-WindowsFeature -Name Hyper-V",
            ],
        ),
    ];
    for (case, change, said) in table {
        let lab = Lab::new(change);
        let ended = lab.run("doctor hyperv");
        assert_eq!(ended.code, Some(5), "{case}: {ended:?}");
        for part in said {
            assert!(
                ended.stdout.contains(part),
                "{case}: no `{part}` in {}",
                ended.stdout
            );
        }
        assert_eq!(lab.log(), [""; 0], "{case}");
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
    assert_eq!(sandbox.run(["doctor", "qemu"]).code, Some(5));
    assert_eq!(sandbox.run(["doctor", "nope"]).code, Some(2));
}
