//! The driver against files as users have them: plans, refusals, what is recognised as it is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::fake::{FakeHost, VMX};
use super::*;
use crate::model::{
    Address, Cancel, Deadline, Digest, FailureKind, GdbStubSpec, HostRef, Policy, PortSpec, PowerState,
    RestartPolicy, Role, VmRef,
};
use crate::plan::{Action, PowerChange, StageContent, Step};
use crate::render::edit;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LOCK: &str = "/vm/dev.vmx.lck";
const LIST: &str = "vmrun -T ws list";

fn wait() -> Wait {
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    Wait::new(deadline, Cancel::new(), "the test")
}

fn target(vm: &str, ports: &[(u32, Option<&str>)]) -> TargetSpec {
    let ports = ports.iter().map(|(port, attach)| PortSpec {
        port: PortIndex::new(*port).unwrap(),
        policy: Policy::Console,
        attach: attach.map(|endpoint| endpoint.parse().unwrap()),
        serve: Vec::new(),
        log: crate::model::LogSpec::default(),
        hold_bytes: 0,
        replay_bytes: 0,
        one_writer: false,
        tunnel: None,
        break_with: None,
        firewall: None,
    });
    TargetSpec {
        name: "dev".parse().unwrap(),
        host: HostRef::Local,
        hypervisor: HypervisorKind::Vmware,
        vm: VmRef::new(vm),
        restart: RestartPolicy::Ask,
        ports: ports.collect(),
        gdb_stub: None,
        nested: false,
        secure_boot: Default::default(),
        guest: None,
        host_sysrq_off: false,
        start: None,
        debugger: None,
        unserved: Vec::new(),
    }
}

fn stub(port: u16, stop: bool, hide: bool, remote: bool) -> TargetSpec {
    TargetSpec {
        gdb_stub: Some(GdbStubSpec {
            port,
            stop_at_start: stop,
            hide_breakpoints: hide,
            allow_remote: remote,
        }),
        ..target(VMX, &[])
    }
}

fn planned(host: &FakeHost, target: &TargetSpec, remove: bool) -> Result<Vec<Stage>, Problem> {
    let seen = Vmware.observe(host, std::slice::from_ref(target), &wait())?;
    let context = PlanContext {
        power_at_start: seen.vms[0].power,
        remove,
        start_vm: false,
    };
    Vmware.stages(target, &seen.vms[0], &context)
}

fn steps(stages: &[Stage]) -> Vec<&Step> {
    stages
        .iter()
        .filter_map(|stage| match &stage.content {
            StageContent::Planned(steps) => Some(steps),
            StageContent::Later { .. } => None,
        })
        .flatten()
        .collect()
}

/// Plans and applies the edit to the text; `None` when there is nothing to change.
fn after(vmx: &str, target: &TargetSpec, remove: bool) -> Option<String> {
    let stages = planned(&FakeHost::with(vmx), target, remove).unwrap();
    let step = steps(&stages).first().copied().cloned()?;
    let Action::Edit(edit) = step.action else {
        panic!("no edit: {step:?}")
    };
    let bytes = edit::apply(edit.format, Some(vmx.as_bytes()), &edit.operations).unwrap();
    Some(String::from_utf8(bytes.unwrap()).unwrap())
}

const SERVER: (u32, Option<&str>) = (2, Some("listen:unix:/tmp/com_ubuntu1510"));

#[test]
fn a_new_port_has_every_line_and_then_nothing_is_to_change() {
    let written = after("a = \"1\"\r\n", &target(VMX, &[SERVER]), false).unwrap();
    insta::assert_snapshot!(written.replace("\r\n", "$\n"), @r#"
    a = "1"$
    # vmserial: serial1 is set by vmserial, `vmserial undo` takes it back$
    serial1.present = "TRUE"$
    serial1.startConnected = "TRUE"$
    serial1.fileType = "pipe"$
    serial1.fileName = "/tmp/com_ubuntu1510"$
    serial1.pipe.endPoint = "server"$
    serial1.yieldOnMsrRead = "TRUE"$
    serial1.tryNoRxLoss = "TRUE"$
    "#);
    assert_eq!(after(&written, &target(VMX, &[SERVER]), false), None);
    let client = target(VMX, &[(2, Some("connect:unix:/tmp/com_ubuntu1510"))]);
    assert_eq!(
        after(&written, &client, false).unwrap(),
        written.replace("\"server\"", "\"client\"")
    );
}

/// The lines of the users' document (`tests/data/vmx/workstation-kgdb.vmx` has them in a whole file).
const USERS_PORT: &str = r#"serial1.present = "TRUE"
serial1.yieldOnMsrRead = "TRUE"
serial1.fileType = "pipe"
serial1.fileName = "/tmp/com_ubuntu1510"
"#;

#[test]
fn the_users_own_lines_are_kept_and_the_missing_ones_named() {
    for attach in [SERVER.1, None] {
        let target = target(VMX, &[(2, attach)]);
        let stages = planned(&FakeHost::with(USERS_PORT), &target, false).unwrap();
        assert_eq!(
            steps(&stages)[0].summary,
            "complete port 2 (COM2, ttyS1) on unix:/tmp/com_ubuntu1510: missing serial1.pipe.endPoint, serial1.tryNoRxLoss"
        );
        let written = after(USERS_PORT, &target, false).unwrap();
        assert!(written.starts_with(USERS_PORT));
        assert_eq!(written.lines().count(), USERS_PORT.lines().count() + 3);
    }
    let whole = format!(
        "{}SERIAL1.PIPE.ENDPOINT = \"Server\"\nserial1.tryNoRxLoss = \"true\"\n",
        USERS_PORT.replace("TRUE", "true")
    );
    assert_eq!(after(&whole, &target(VMX, &[SERVER]), false), None);
}

const USERS_STUB: &str = r#"debugStub.listen.guest64.remote = "TRUE"
debugStub.port.guest64 = "1337"
debugStub.hideBreakpoints = "TRUE"
monitor.debugOnStartGuest64 = "TRUE"
"#;

#[test]
fn the_users_own_gdb_stub_is_recognised() {
    assert_eq!(after(USERS_STUB, &stub(1337, true, true, true), false), None);
    let loopback = after(USERS_STUB, &stub(1337, true, true, false), false).unwrap();
    assert!(!loopback.contains("remote") && loopback.contains("debugStub.listen.guest64 = \"TRUE\""));
    assert_eq!(after(&loopback, &stub(1337, true, true, false), false), None);
    let plain = after(USERS_STUB, &stub(8864, false, false, true), false).unwrap();
    insta::assert_snapshot!(plain, @r#"
    debugStub.listen.guest64.remote = "TRUE"
    debugStub.port.guest64 = "8864"
    # vmserial: the gdb stub is set by vmserial, `vmserial undo` takes it back
    "#);
    // 8864 is VMware's default.
    let default = "debugStub.listen.guest64 = \"TRUE\"\n";
    assert_eq!(after(default, &stub(8864, false, false, false), false), None);
    assert_eq!(
        after(USERS_STUB, &stub(1, false, false, false), true).unwrap(),
        ""
    );
}

#[test]
fn opening_the_stub_to_everybody_is_warned_of() {
    let host = FakeHost::with("a = \"1\"\n");
    let stages = planned(&host, &stub(1337, false, false, true), false).unwrap();
    let step = steps(&stages)[0];
    assert!(step.notes[0].starts_with("warning: the gdb stub will listen on all addresses"));
    let stages = planned(&host, &stub(1337, false, false, false), false).unwrap();
    assert!(steps(&stages)[0].notes.is_empty());
}

#[test]
fn all_of_a_vm_is_one_edit() {
    let wanted = TargetSpec {
        ports: target(VMX, &[(1, Some("connect:unix:/run/a")), (2, None)]).ports,
        nested: true,
        ..stub(1337, false, false, false)
    };
    let written = after("a = \"1\"\n", &wanted, false).unwrap();
    for line in [
        "serial0.pipe.endPoint = \"client\"",
        "serial1.fileName = \"/vm/dev-com2.sock\"",
        "serial1.pipe.endPoint = \"server\"",
        "debugStub.port.guest64 = \"1337\"",
        "vhv.enable = \"TRUE\"",
    ] {
        assert!(written.lines().any(|written| written == line), "{line}");
    }
    assert_eq!(after(&written, &wanted, false), None);
}

#[test]
fn removing_takes_every_key_of_the_port_whoever_set_it() {
    let file = format!(
        "a = \"1\"\nserial0.present = \"TRUE\"\nserial10.x = \"1\"\n{USERS_PORT}serial1.autodetect = \"FALSE\"\n"
    );
    let removed = after(&file, &target(VMX, &[SERVER]), true).unwrap();
    assert_eq!(
        removed,
        "a = \"1\"\nserial0.present = \"TRUE\"\nserial10.x = \"1\"\n"
    );
    assert_eq!(after(&removed, &target(VMX, &[SERVER]), true), None);
}

#[test]
fn a_port_that_was_used_for_something_else_is_said() {
    let printer =
        "serial0.present = \"TRUE\"\nserial0.fileType = \"thinprint\"\nserial0.fileName = \"thinprint\"\n";
    let stages = planned(&FakeHost::with(printer), &target(VMX, &[(1, None)]), false).unwrap();
    assert_eq!(
        steps(&stages)[0].notes,
        ["port 1 is in use for something else now: thinprint `thinprint`"]
    );
}

#[test]
fn an_endpoint_that_vmware_has_not_is_refused_with_the_reason() {
    for (vmx, endpoint, reason) in [
        (VMX, "listen:tcp:127.0.0.1:1", "ESXi"),
        (VMX, "listen:telnet:h:1", "ESXi"),
        (VMX, "listen:pipe:x", "named pipes are Windows's"),
        (VMX, "pty", "pipes only"),
        (VMX, "listen:unix:relative", "absolute"),
        (VMX, "connect:unix:/x,via=h", "its own host only"),
        (r"C:\vm\dev.vmx", "listen:unix:/x", "on Windows"),
        (r"C:\vm\dev.vmx", r"connect:pipe:\\h\pipe\x", "its own host only"),
    ] {
        let host = FakeHost {
            files: BTreeMap::from([(vmx.to_owned(), b"a = \"1\"\n".to_vec())]),
            ..FakeHost::with("")
        };
        let problem = planned(&host, &target(vmx, &[(1, Some(endpoint))]), false).unwrap_err();
        assert!(problem.message.contains(reason), "{problem}");
        assert_eq!(
            (problem.kind, problem.hints.len()),
            (FailureKind::Precondition, 1)
        );
    }
    let problem = planned(&FakeHost::with("a = \"1\"\n"), &target(VMX, &[(5, None)]), false).unwrap_err();
    assert!(problem.message.contains("4 serial ports"));
}

#[test]
fn a_windows_host_has_named_pipes() {
    let vmx = r"C:\vm\dev.vmx";
    let host = |bytes: &str| FakeHost {
        files: BTreeMap::from([(vmx.to_owned(), bytes.as_bytes().to_vec())]),
        ..FakeHost::with("")
    };
    let wanted = target(vmx, &[(1, Some("listen:pipe:kd")), (2, None)]);
    let stages = planned(&host("a = \"1\"\r\n"), &wanted, false).unwrap();
    let Action::Edit(edit) = &steps(&stages)[0].action else {
        panic!("no edit")
    };
    let bytes = edit::apply(edit.format, Some(b"a = \"1\"\r\n"), &edit.operations).unwrap();
    let text = String::from_utf8(bytes.unwrap()).unwrap();
    assert!(
        text.contains("serial0.fileName = \"\\\\.\\pipe\\kd\"\r\n"),
        "{text}"
    );
    assert!(
        text.contains("serial1.fileName = \"\\\\.\\pipe\\dev-com2\"\r\n"),
        "{text}"
    );
    let again = host(&text.replace(r"\\.\pipe\kd", r"\\.\PIPE\KD"));
    assert!(planned(&again, &wanted, false).unwrap().is_empty());
    let there = Vmware
        .locate(&host(&text), &wanted, PortIndex::new(1).unwrap(), &wait())
        .unwrap();
    assert_eq!(there.to_string(), "listen:pipe:kd");
}

#[test]
fn a_lock_stops_the_edit_but_not_the_look() {
    let wanted = target(VMX, &[SERVER]);
    let open = |host: FakeHost| host.there(LOCK);
    let problem = planned(&open(FakeHost::with("a = \"1\"\n")), &wanted, false).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert_eq!(
        problem.message,
        "`/vm/dev.vmx` is in use: `/vm/dev.vmx.lck` is there"
    );
    assert!(
        problem.hints[0].contains("close its tab") && problem.hints[1].contains("`vmrun` is not on the PATH")
    );
    let done = after("a = \"1\"\n", &wanted, false).unwrap();
    assert!(
        planned(&open(FakeHost::with(&done)), &wanted, false)
            .unwrap()
            .is_empty()
    );
    let crashed = open(FakeHost::with("a = \"1\"\n")).says(LIST, Ok("Total running VMs: 0\n"));
    let problem = planned(&crashed, &wanted, false).unwrap_err();
    assert!(problem.hints[1].contains("left behind by a crash"));
    let hanging = FakeHost {
        hangs: true,
        ..open(FakeHost::with("a = \"1\"\n"))
    };
    let problem = planned(&hanging, &wanted, false).unwrap_err();
    assert!(
        problem.hints[1].contains("`vmrun -T ws list` gave no answer within 15 s"),
        "{problem:?}"
    );
    let broken = open(FakeHost::with("a = \"1\"\n"))
        .says(LIST, Err("Error: Unable to connect to host.\n"))
        .says("vmrun -T player list", Err("Error: no\n"))
        .says("vmrun -T fusion list", Err("Error: no\n"));
    let problem = planned(&broken, &wanted, false).unwrap_err();
    assert!(problem.hints[1].contains("said: Error: Unable to connect to host."));
}

#[test]
fn what_is_no_vm_is_refused() {
    let kind = |host: &FakeHost, vm: &str| {
        let problem = planned(host, &target(vm, &[SERVER]), false).unwrap_err();
        assert!(!problem.hints.is_empty() || problem.message.contains("no setting"));
        problem.kind
    };
    let host = FakeHost::with("\u{feff}a = \"1\"\n");
    assert_eq!(kind(&host, VMX), FailureKind::Configuration);
    assert_eq!(kind(&host, "/vm/other.vmx"), FailureKind::NotFound);
    assert_eq!(kind(&host, "/vm/"), FailureKind::Precondition);
    assert_eq!(
        kind(&FakeHost::with("# nothing\n"), VMX),
        FailureKind::Configuration
    );
    let twice = FakeHost::with("serial1.present = \"TRUE\"\nSerial1.present = \"FALSE\"\n");
    assert_eq!(kind(&twice, VMX), FailureKind::Configuration);
}

#[test]
fn a_suspended_vm_keeps_its_devices() {
    let file = "checkpoint.vmState = \"dev.vmss\"\n";
    let wanted = target(VMX, &[SERVER]);
    let problem = planned(&FakeHost::with(file).there("/vm/dev.vmss"), &wanted, false).unwrap_err();
    assert!(problem.message.contains("suspended"));
    // A copied VM names a state that is not there.
    assert!(!planned(&FakeHost::with(file), &wanted, false).unwrap().is_empty());
}

fn running() -> FakeHost {
    FakeHost::with("a = \"1\"\n")
        .there(LOCK)
        .says(LIST, Ok("Total running VMs: 2\n/other.vmx\n/vm/dev.vmx\n"))
}

#[test]
fn a_running_vm_is_planned_in_two_goes() {
    for (restart, how, power) in [
        (RestartPolicy::Graceful, "soft", PowerChange::OffGraceful),
        (RestartPolicy::Ask, "soft", PowerChange::OffGraceful),
        (RestartPolicy::Hard, "hard", PowerChange::OffHard),
    ] {
        let wanted = TargetSpec {
            restart,
            ..target(VMX, &[SERVER])
        };
        let first = planned(&running(), &wanted, false).unwrap();
        let names: Vec<&str> = first.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["power off", "settings", "start"]);
        assert!(matches!(first[1].content, StageContent::Later { .. }));
        let ready = steps(&first);
        assert_eq!((ready.len(), ready[0].power), (3, Some(power)));
        let Action::Run(stop) = &ready[0].action else {
            panic!("no command")
        };
        assert_eq!(stop.to_string(), format!("vmrun -T ws stop /vm/dev.vmx {how}"));

        let off = FakeHost::with("a = \"2\"\n").says(LIST, Ok("Total running VMs: 0\n"));
        let seen = Vmware
            .observe(&off, std::slice::from_ref(&wanted), &wait())
            .unwrap();
        let context = PlanContext {
            power_at_start: PowerState::Running,
            remove: false,
            start_vm: false,
        };
        let second = Vmware.stages(&wanted, &seen.vms[0], &context).unwrap();
        let names: Vec<&str> = second.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["settings", "start"]);
        let Action::Edit(edit) = &steps(&second)[0].action else {
            panic!("no edit")
        };
        assert_eq!(edit.planned_on, Some(Digest::of(b"a = \"2\"\n")));
        let Action::Run(start) = &steps(&second)[1].action else {
            panic!("no command")
        };
        assert_eq!(start.to_string(), "vmrun -T ws start /vm/dev.vmx nogui");
    }
}

#[test]
fn another_vm_of_the_same_file_name_is_not_ours() {
    let host = FakeHost::with("a = \"1\"\n").says(LIST, Ok("Total running VMs: 1\n/else/vm/dev.vmx\n"));
    let seen = Vmware.observe(&host, &[target(VMX, &[])], &wait()).unwrap();
    assert_eq!(seen.vms[0].power, PowerState::Off);
}

#[test]
fn a_port_is_located_in_the_file_as_it_is_now() {
    let port = PortIndex::new(2).unwrap();
    let locate =
        |vmx: &str, attach| Vmware.locate(&FakeHost::with(vmx), &target(VMX, &[(2, attach)]), port, &wait());
    let there = locate(&format!("{USERS_PORT}serial1.pipe.endPoint = \"client\"\n"), None).unwrap();
    assert_eq!(
        there,
        EndpointSpec::new(Some(Role::Connect), Address::Unix("/tmp/com_ubuntu1510".into()))
    );
    // The file does not say the role: the profile does.
    assert_eq!(
        locate(USERS_PORT, SERVER.1).unwrap().to_string(),
        "listen:unix:/tmp/com_ubuntu1510"
    );
    assert!(
        locate(USERS_PORT, None)
            .unwrap_err()
            .message
            .contains("which end")
    );
    assert_eq!(
        locate("a = \"1\"\n", None).unwrap_err().kind,
        FailureKind::NotFound
    );
    let printer = "serial1.present = \"TRUE\"\nserial1.fileType = \"thinprint\"\n";
    assert!(locate(printer, None).unwrap_err().message.contains("thinprint"));
}

#[test]
fn ports_are_observed_with_their_own_lines() {
    let file = format!(
        "{USERS_PORT}serial0.present = \"FALSE\"\nserial2.present = \"TRUE\"\nserial2.PRESENT = \"TRUE\"\n"
    );
    let seen = Vmware
        .observe(&FakeHost::with(&file), &[target(VMX, &[])], &wait())
        .unwrap();
    let shown: Vec<String> = seen.vms[0]
        .ports
        .iter()
        .map(|port| {
            format!(
                "{} {:?}\n{}",
                port.port,
                port.endpoint.as_ref().map(ToString::to_string),
                port.text
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    1 None
    serial0.present = "FALSE"
    2 Some("listen:unix:/tmp/com_ubuntu1510")
    serial1.present = "TRUE"
    serial1.yieldOnMsrRead = "TRUE"
    serial1.fileType = "pipe"
    serial1.fileName = "/tmp/com_ubuntu1510"
    3 None
    the key `serial2.present` stands on the lines 6 and 7
    "#);
}
