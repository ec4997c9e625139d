//! Plans and refusals of this driver.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::fake::{DEV, FakeHost, WIN, com, vm};
use super::{Hyperv, problem, scripts};
use crate::driver::Driver;
use crate::model::profile::{GuestOs, GuestProfile, SecureBoot};
use crate::model::{
    Cancel, Deadline, FailureKind, GdbStubSpec, HostRef, HypervisorKind, LogSpec, Policy, PortIndex,
    PortSpec, PowerState, Problem, RestartPolicy, TargetSpec, VmRef, Wait,
};
use crate::plan::{Plan, PlanContext, PowerChange, Stage, StageContent, TargetPlan, show};
use crate::runner::RunError;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn wait() -> Wait {
    Wait::new(
        Deadline::after(Instant::now(), Duration::from_secs(5)),
        Cancel::new(),
        "a test",
    )
}

fn port(number: u32, policy: Policy, attach: Option<&str>) -> PortSpec {
    PortSpec {
        port: PortIndex::new(number).unwrap(),
        policy,
        attach: attach.map(|endpoint| endpoint.parse().unwrap()),
        serve: Vec::new(),
        log: LogSpec::default(),
        hold_bytes: 0,
        replay_bytes: 0,
        one_writer: false,
        tunnel: None,
        break_with: None,
        firewall: None,
    }
}

fn target(ports: Vec<PortSpec>) -> TargetSpec {
    TargetSpec {
        name: "dev".parse().unwrap(),
        host: HostRef::Local,
        hypervisor: HypervisorKind::Hyperv,
        vm: VmRef::new("dev"),
        restart: RestartPolicy::Graceful,
        ports,
        gdb_stub: None,
        nested: false,
        secure_boot: SecureBoot::Auto,
        guest: None,
        host_sysrq_off: false,
        start: None,
        debugger: None,
        unserved: Vec::new(),
    }
}

fn stages(host: &FakeHost, wanted: &TargetSpec, remove: bool) -> Result<Vec<Stage>, Problem> {
    let seen = Hyperv.observe(host, std::slice::from_ref(wanted), &wait())?;
    let context = PlanContext {
        power_at_start: seen.vms[0].power,
        remove,
        start_vm: false,
    };
    Hyperv.stages(wanted, &seen.vms[0], &context)
}

/// The plan as a user reads it.
fn shown(host: &FakeHost, wanted: &TargetSpec) -> String {
    let stages = stages(host, wanted, false).unwrap();
    show::text(&Plan {
        hosts: Vec::new(),
        targets: vec![TargetPlan {
            target: wanted.name.clone(),
            host: HostRef::Local,
            hypervisor: HypervisorKind::Hyperv,
            vm: wanted.vm.clone(),
            power: PowerState::Off,
            ports: Vec::new(),
            unserved: Vec::new(),
            notes: Vec::new(),
            stages,
        }],
    })
}

fn generation_1(state: &str, ports: Value) -> FakeHost {
    FakeHost::shows(json!([vm(DEV, state, None, None)]), ports)
}

fn no_pipes() -> Value {
    json!([com(DEV, 1, "", "On"), com(DEV, 2, "", "Off")])
}

#[test]
fn a_vm_that_is_off_gets_its_ports_and_stays_off() {
    let wanted = target(vec![
        port(1, Policy::Console, Some("listen:pipe:dev-console")),
        port(2, Policy::Gdb, Some("listen:pipe:dev-gdb")),
    ]);
    insta::assert_snapshot!(shown(&generation_1("Off", no_pipes()), &wanted));
    let done = json!([
        com(DEV, 1, r"\\.\pipe\dev-console", "On"),
        com(DEV, 2, r"\\.\PIPE\DEV-gdb", "Off")
    ]);
    for state in ["Off", "Running", "Saved"] {
        assert_eq!(
            stages(&generation_1(state, done.clone()), &wanted, false),
            Ok(Vec::new())
        );
    }
}

#[test]
fn a_running_windows_guest_is_powered_off_and_started_cold() {
    let host = FakeHost::shows(
        json!([vm(DEV, "Running", Some("On"), Some("MicrosoftWindows"))]),
        no_pipes(),
    );
    let mut wanted = target(vec![port(2, Policy::Kd, Some("listen:pipe:dev-kd"))]);
    insta::assert_snapshot!(shown(&host, &wanted));
    wanted.restart = RestartPolicy::Hard;
    let hard = stages(&host, &wanted, false).unwrap();
    let StageContent::Planned(steps) = &hard[0].content else {
        panic!("{hard:?}")
    };
    assert_eq!(steps[0].power, Some(PowerChange::OffHard));
}

#[test]
fn secure_boot_goes_off_where_a_debugger_needs_it() {
    let policies = [
        (Policy::Console, false),
        (Policy::Raw, false),
        (Policy::Gdb, true),
        (Policy::Kd, true),
    ];
    let linux = || vm(DEV, "Off", Some("On"), Some("MicrosoftUEFICertificateAuthority"));
    for (policy, is_needed) in policies {
        for (secure_boot, goes_off) in [
            (SecureBoot::Auto, is_needed),
            (SecureBoot::Keep, false),
            (SecureBoot::Off, true),
        ] {
            let wanted = TargetSpec {
                secure_boot,
                ..target(vec![port(1, policy, Some("listen:pipe:x"))])
            };
            let text = shown(&FakeHost::shows(json!([linux()]), no_pipes()), &wanted);
            assert_eq!(
                text.contains("Secure Boot off"),
                goes_off,
                "{policy:?} {secure_boot:?}\n{text}"
            );
            let warned = text.contains("Secure Boot stays on");
            assert_eq!(
                warned,
                secure_boot == SecureBoot::Keep && policy.is_debug(),
                "{text}"
            );
        }
    }
    // Only a Windows guest has BitLocker, and only its step wants its name.
    for (guest_os, template, wants_name) in [
        (None, "MicrosoftUEFICertificateAuthority", false),
        (None, "MicrosoftWindows", true),
        (Some(GuestOs::Linux), "MicrosoftWindows", false),
        (Some(GuestOs::Windows), "MicrosoftUEFICertificateAuthority", true),
    ] {
        let wanted = TargetSpec {
            guest: guest_os.map(GuestProfile::of),
            ..target(vec![port(1, Policy::Gdb, Some("listen:pipe:x"))])
        };
        let host = FakeHost::shows(json!([vm(DEV, "Off", Some("On"), Some(template))]), no_pipes());
        let text = shown(&host, &wanted);
        assert_eq!(text.contains("--confirm secure-boot"), wants_name, "{text}");
        assert_eq!(text.contains("recovery key"), wants_name, "{text}");
        // Where the guest is off it has to be started first.
        assert_eq!(
            text.contains("first start it and type in the guest"),
            wants_name,
            "{text}"
        );
        // The template is restored with it.
        assert!(
            text.contains(&format!("-EnableSecureBoot On -SecureBootTemplate {template}")),
            "{text}"
        );
    }
}

#[test]
fn bitlocker_asks_only_where_a_virtual_tpm_measures() {
    let wanted = target(vec![port(1, Policy::Kd, Some("listen:pipe:x"))]);
    for (tpm, wants_name, said) in [
        (
            json!(true),
            true,
            "the VM has a virtual TPM: BitLocker in the guest measures Secure Boot",
        ),
        (
            json!(null),
            true,
            "BitLocker in the guest may measure Secure Boot",
        ),
        (
            json!(false),
            false,
            "the VM has no virtual TPM, so BitLocker in its guest cannot measure",
        ),
    ] {
        let mut seen = vm(DEV, "Running", Some("On"), Some("MicrosoftWindows"));
        seen["tpm"] = tpm.clone();
        let text = shown(&FakeHost::shows(json!([seen]), no_pipes()), &wanted);
        assert!(text.contains(said), "{tpm}: {text}");
        for part in [
            "--confirm secure-boot",
            "have the recovery key ready",
            "`Suspend-BitLocker -MountPoint C: -RebootCount 2`",
        ] {
            assert_eq!(text.contains(part), wants_name, "{tpm}, {part}: {text}");
        }
    }
}

#[test]
fn a_port_stays_where_it_is_or_is_named_after_its_target() {
    let wanted = target(vec![
        port(1, Policy::Console, None),
        port(2, Policy::Console, None),
    ]);
    let there = json!([com(DEV, 1, r"\\.\pipe\theirs", "Off"), com(DEV, 2, "", "Off")]);
    let text = shown(&generation_1("Off", there), &wanted);
    assert!(
        !text.contains("COM1") && text.contains("the VM listens on pipe:dev-com2"),
        "{text}"
    );
}

#[test]
fn removing_takes_the_pipe_of_others_too() {
    let wanted = target(vec![
        port(1, Policy::Console, None),
        port(2, Policy::Console, None),
    ]);
    let there = json!([com(DEV, 1, r"\\.\pipe\theirs", "On"), com(DEV, 2, "", "Off")]);
    let stages = stages(&generation_1("Off", there), &wanted, true).unwrap();
    let StageContent::Planned(steps) = &stages[0].content else {
        panic!("{stages:?}")
    };
    let summaries: Vec<&str> = steps.iter().map(|step| step.summary.as_str()).collect();
    assert_eq!(summaries, [r"take port 1 (COM1) off `\\.\pipe\theirs`"]);
}

#[test]
fn a_vm_that_is_neither_off_nor_running_is_refused() {
    let wanted = target(vec![port(1, Policy::Console, Some("listen:pipe:x"))]);
    for (state, said) in [
        ("Saved", "is saved"),
        ("Paused", "is paused"),
        ("Stopping", "is `Stopping`"),
    ] {
        let problem = stages(&generation_1(state, no_pipes()), &wanted, false).unwrap_err();
        assert_eq!(
            (problem.kind, problem.hints.len()),
            (FailureKind::Precondition, 1)
        );
        assert!(problem.message.contains(said), "{problem}");
    }
}

#[test]
fn a_pipe_that_no_vm_can_have_is_refused() {
    for (endpoint, reason) in [
        ("connect:pipe:x", "stops trying"),
        (r"connect:pipe:\\other\pipe\x", "own host"),
        ("listen:tcp:127.0.0.1:1", "named pipes"),
        ("pty", "named pipes"),
        ("listen:pipe:x,via=h", "own host"),
        ("listen:pipe:win-kd", "taken by COM 2 of the VM `win`"),
        ("listen:pipe:WIN-KD", "taken by COM 2 of the VM `win`"),
        ("listen:pipe:own", "taken by COM 2 of the VM `dev`"),
    ] {
        let ports = json!([
            com(DEV, 1, "", "Off"),
            com(DEV, 2, r"\\.\pipe\own", "Off"),
            com(WIN, 2, r"\\.\pipe\win-kd", "On")
        ]);
        let wanted = target(vec![port(1, Policy::Console, Some(endpoint))]);
        let problem = stages(&generation_1("Off", ports), &wanted, false).unwrap_err();
        assert!(problem.message.contains(reason), "{endpoint}: {problem}");
        assert_eq!(
            (problem.kind, problem.hints.len()),
            (FailureKind::Precondition, 1)
        );
    }
    let third = target(vec![port(3, Policy::Console, None)]);
    let problem = stages(&generation_1("Off", no_pipes()), &third, false).unwrap_err();
    assert!(problem.message.contains("has 2 COM ports"), "{problem}");
    let stub = TargetSpec {
        gdb_stub: Some(GdbStubSpec {
            port: 1,
            stop_at_start: false,
            hide_breakpoints: false,
            allow_remote: false,
        }),
        ..target(Vec::new())
    };
    assert!(
        stages(&generation_1("Off", no_pipes()), &stub, false)
            .unwrap_err()
            .message
            .contains("gdb stub")
    );
}

#[test]
fn two_ports_may_swap_their_pipes() {
    let there = json!([
        com(DEV, 1, r"\\.\pipe\a", "Off"),
        com(DEV, 2, r"\\.\pipe\b", "Off")
    ]);
    let wanted = target(vec![
        port(1, Policy::Console, Some("listen:pipe:b")),
        port(2, Policy::Console, Some("listen:pipe:a")),
    ]);
    let stages = stages(&generation_1("Off", there), &wanted, false).unwrap();
    let StageContent::Planned(steps) = &stages[0].content else {
        panic!("{stages:?}")
    };
    assert_eq!(steps.len(), 2);
}

#[test]
fn a_vm_is_one_vm() {
    let wanted = target(Vec::new());
    let kind = |host: &FakeHost, wanted: &TargetSpec| {
        let problem = Hyperv
            .observe(host, std::slice::from_ref(wanted), &wait())
            .unwrap_err();
        assert!(!problem.hints.is_empty());
        (problem.kind, problem.message)
    };
    let (of, message) = kind(&FakeHost::shows(json!([]), json!([])), &wanted);
    assert_eq!(
        (of, message.as_str()),
        (FailureKind::NotFound, "HV1 (this machine) has no VM `dev`")
    );
    let both = json!([vm(DEV, "Off", None, None), vm(WIN, "Off", None, None)]);
    let (of, message) = kind(&FakeHost::shows(both, json!([])), &wanted);
    assert_eq!(of, FailureKind::Precondition);
    assert!(message.contains(DEV) && message.contains(WIN), "{message}");
    // Some hosts show no VM to who may not look.
    let mut answer = FakeHost::shows(json!([]), json!([])).0.unwrap();
    answer["elevated"] = json!(false);
    let (of, message) = kind(&FakeHost(Ok(answer)), &wanted);
    assert_eq!(of, FailureKind::Precondition);
    assert!(message.contains(r"HV1\me may not manage Hyper-V"), "{message}");
}

#[test]
fn a_refusal_has_a_kind_and_a_way_on() {
    let vm = "Microsoft.HyperV.PowerShell.Commands";
    let table = [
        (
            "Hyper-V was unable to find a virtual machine with name \"NOPE\".",
            format!("InvalidParameter,{vm}.GetVM"),
            "InvalidArgument",
            FailureKind::NotFound,
            "`Get-VM` lists",
        ),
        (
            "You do not have the required permission to complete this task. Contact the administrator of the authorization policy for the computer 'X'.",
            format!("Unspecified,{vm}.GetVM"),
            "NotSpecified",
            FailureKind::Precondition,
            "S-1-5-32-578",
        ),
        (
            "Zugriff verweigert",
            format!("AccessDenied,{vm}.StartVM"),
            "PermissionDenied",
            FailureKind::Precondition,
            "elevated terminal",
        ),
        (
            "The module 'Hyper-V' could not be loaded.",
            "CouldNotAutoLoadModule".to_owned(),
            "ObjectNotFound",
            FailureKind::NotFound,
            "Enable-WindowsOptionalFeature",
        ),
        (
            "The term 'Get-VM' is not recognized as the name of a cmdlet",
            "CommandNotFoundException".to_owned(),
            "ObjectNotFound",
            FailureKind::NotFound,
            "Install-WindowsFeature",
        ),
        (
            "The operation cannot be performed while the virtual machine is in its current state.",
            format!("InvalidState,{vm}.SetVMComPort"),
            "InvalidOperation",
            FailureKind::Precondition,
            "--restart graceful",
        ),
        (
            "COM 1 of the VM 'dev' is no longer as it was looked at",
            scripts::CHANGED.to_owned(),
            "InvalidOperation",
            FailureKind::Precondition,
            "checkpoint",
        ),
        (
            "Something else",
            "Whatever".to_owned(),
            "NotSpecified",
            FailureKind::Host,
            "",
        ),
    ];
    for (message, id, category, kind, hint) in table {
        let error = RunError::Script {
            message: message.to_owned(),
            id,
            category: category.into(),
            host: HostRef::Local,
        };
        let problem = problem(&scripts::power(DEV), error);
        assert_eq!(problem.kind, kind, "{problem}");
        assert!(problem.message.contains(message), "{problem}");
        assert!(problem.hints.concat().contains(hint), "{problem:?}");
    }
    let locked = RunError::Script {
        message:
            "Windows PowerShell is in NonInteractive mode. Read and Prompt functionality is not available."
                .to_owned(),
        id: format!("InvalidOperation,{vm}.StopVM"),
        category: "InvalidOperation".into(),
        host: HostRef::Local,
    };
    let problem = problem(&scripts::stop(DEV, scripts::Stop::Graceful), locked);
    assert!(problem.hints[0].contains("--restart hard"), "{problem:?}");
}

#[test]
fn a_port_is_located_without_a_look_where_its_pipe_is_named() {
    let number = PortIndex::new(1).unwrap();
    let locate = |host: &FakeHost, attach| {
        Hyperv.locate(
            host,
            &target(vec![port(1, Policy::Console, attach)]),
            number,
            &wait(),
        )
    };
    let deaf = FakeHost(Err(("nobody is to ask", "", "")));
    assert_eq!(
        locate(&deaf, Some("listen:pipe:x")).unwrap().to_string(),
        "listen:pipe:x"
    );
    let far = TargetSpec {
        host: HostRef::Ssh("me@hv1".to_owned()),
        ..target(vec![port(1, Policy::Console, Some("listen:pipe:x"))])
    };
    let place = Hyperv.locate(&deaf, &far, number, &wait()).unwrap();
    assert_eq!(place.other_side().to_string(), "connect:pipe:x,via=me@hv1");
    let there = |path: &str| generation_1("Running", json!([com(DEV, 1, path, "Off")]));
    assert_eq!(
        locate(&there(r"\\.\pipe\a,b"), None).unwrap().to_string(),
        "listen:pipe:a,,b"
    );
    assert_eq!(locate(&there(""), None).unwrap_err().kind, FailureKind::NotFound);
    assert_eq!(
        locate(&there(r"\\other\pipe\x"), None).unwrap_err().kind,
        FailureKind::Precondition
    );
}

#[test]
fn ports_are_observed_as_the_vm_has_them() {
    let host = generation_1(
        "Running",
        json!([com(DEV, 1, r"\\.\pipe\x", "On"), com(DEV, 2, "", "Off")]),
    );
    let seen = Hyperv.observe(&host, &[target(Vec::new())], &wait()).unwrap();
    let observed = &seen.vms[0];
    assert_eq!((observed.power, observed.ports.len()), (PowerState::Running, 1));
    assert_eq!(observed.ports[0].text, r"`\\.\pipe\x`, debugger mode on");
    assert_eq!(seen.facts["elevated"], "true");
}
