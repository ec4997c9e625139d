//! Planning, from observations as they come from real VMs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{
    GdbStubSpec, HostRef, Invocation, ObservedFile, ObservedPort, Policy, PowerState, RestartPolicy,
    StartSpec, VmRef,
};
use crate::plan::{Action, Condition, QmpCommand, StageContent, Step, Undo};
use crate::render::qemu::invocation;
use serde_json::json;

const CONTEXT: PlanContext = PlanContext {
    power_at_start: PowerState::Off,
    remove: false,
    start_vm: true,
};
const REMOVE: PlanContext = PlanContext {
    remove: true,
    ..CONTEXT
};

fn port(number: u32, attach: Option<&str>, break_with: Option<&str>) -> PortSpec {
    PortSpec {
        port: PortIndex::new(number).unwrap(),
        policy: Policy::Console,
        attach: attach.map(|text| text.parse().unwrap()),
        serve: Vec::new(),
        log: crate::model::LogSpec::default(),
        hold_bytes: 0,
        replay_bytes: 0,
        one_writer: false,
        tunnel: None,
        break_with: break_with.map(|text| text.parse().unwrap()),
        firewall: None,
    }
}

fn target(vm: &str, ports: Vec<PortSpec>) -> TargetSpec {
    TargetSpec {
        name: "demo".parse().unwrap(),
        host: HostRef::Local,
        hypervisor: HypervisorKind::Qemu,
        vm: VmRef::new(vm),
        restart: RestartPolicy::Ask,
        ports,
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

fn started() -> TargetSpec {
    TargetSpec {
        start: Some(StartSpec {
            keep: false,
            kernel: Some("/g/bzImage".into()),
            initrd: None,
            append: None,
            memory_mib: 64,
            disks: Vec::new(),
            program: None,
            extra_arguments: Vec::new(),
        }),
        ..target("demo", vec![port(1, None, None), port(2, None, None)])
    }
}

fn stub(port: u16) -> GdbStubSpec {
    GdbStubSpec {
        port,
        stop_at_start: false,
        hide_breakpoints: false,
        allow_remote: false,
    }
}

fn observed(power: PowerState, facts: &[(&str, &str)]) -> Observed {
    Observed {
        vm: VmRef::new("demo"),
        power,
        ports: Vec::new(),
        gdb_stub: None,
        files: Vec::new(),
        facts: facts
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn driver() -> Qemu {
    Qemu::new(HostPath::new("/s/run"))
}

fn steps(target: &TargetSpec, observed: &Observed, context: PlanContext) -> Vec<Step> {
    let stages = driver().stages(target, observed, &context).unwrap();
    stages
        .into_iter()
        .flat_map(|stage| match stage.content {
            StageContent::Planned(steps) => steps,
            StageContent::Later { .. } => panic!("everything is known"),
        })
        .collect()
}

fn refusal(target: &TargetSpec, observed: &Observed, context: PlanContext) -> Problem {
    driver().stages(target, observed, &context).unwrap_err()
}

#[test]
fn a_vm_that_is_off_is_started_and_waited_for() {
    let steps = steps(&started(), &observed(PowerState::Off, &[]), CONTEXT);
    assert_eq!(
        steps[0].summary,
        "start the QEMU VM `demo` with ttyS0 (console), ttyS1 (console)"
    );
    assert_eq!(steps[0].undo, Undo::StopProcess);
    let Action::Start { log, .. } = &steps[0].action else {
        panic!("{:?}", steps[0].action);
    };
    assert_eq!(log.as_str(), "/s/run/demo/qemu.log");
    let socket = HostPath::new("/s/run/demo/qmp.sock");
    assert_eq!(steps[1].action, Action::WaitFor(Condition::QmpAnswers { socket }));
    assert_eq!(steps.len(), 2);
}

#[test]
fn apply_alone_starts_nothing() {
    let context = PlanContext {
        start_vm: false,
        ..CONTEXT
    };
    assert!(steps(&started(), &observed(PowerState::Off, &[]), context).is_empty());
}

fn running(target: &TargetSpec) -> Observed {
    let command: Invocation = invocation(
        target,
        target.start.as_ref().unwrap(),
        &driver().files(target),
        None,
    )
    .unwrap();
    let arguments = serde_json::Value::from(command.arguments).to_string();
    observed(
        PowerState::Running,
        &[(fact::PID, "7"), (fact::ARGUMENTS, &arguments)],
    )
}

#[test]
fn a_vm_that_runs_as_wanted_is_left_alone() {
    assert!(steps(&started(), &running(&started()), CONTEXT).is_empty());
}

#[test]
fn a_vm_that_runs_with_other_arguments_is_not_touched() {
    let now = running(&started());
    let mut wanted = started();
    wanted.start.as_mut().unwrap().memory_mib = 128;
    let problem = refusal(&wanted, &now, CONTEXT);
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert_eq!(
        problem.message,
        "`demo` runs already (pid 7), with other arguments: now `64`, wanted `128`"
    );
    assert!(problem.hints[0].contains("vmserial down demo"));
}

#[test]
fn what_stands_against_a_start_is_said() {
    let cases = [
        (
            PowerState::Off,
            fact::PROGRAM_MISSING,
            "qemu-system-x86_64",
            FailureKind::NotFound,
            "is not installed",
        ),
        (
            PowerState::Off,
            fact::FILE_MISSING,
            "/g/bzImage",
            FailureKind::NotFound,
            "is not there",
        ),
        (
            PowerState::Off,
            fact::OCCUPIED,
            "/d/x",
            FailureKind::Precondition,
            "regular file",
        ),
        (
            PowerState::Unknown,
            fact::QMP_FAILURE,
            "another client holds it",
            FailureKind::Precondition,
            "did not start",
        ),
        (
            PowerState::Running,
            fact::VERSION,
            "QEMU emulator version 7.2.22",
            FailureKind::Precondition,
            "did not start",
        ),
    ];
    for (power, name, value, kind, words) in cases {
        let problem = refusal(&started(), &observed(power, &[(name, value)]), CONTEXT);
        assert_eq!(problem.kind, kind, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
        assert!(
            !problem.hints.is_empty() || name == fact::FILE_MISSING,
            "{problem}"
        );
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let mut nested = started();
    nested.nested = true;
    let mut far = started();
    far.host = HostRef::Ssh("root@h".to_owned());
    let mut no_port = started();
    no_port.gdb_stub = Some(stub(0));
    for (target, words) in [(nested, "`nested`"), (far, "another host"), (no_port, "port 0")] {
        let problem = refusal(&target, &observed(PowerState::Off, &[]), CONTEXT);
        assert_eq!(problem.kind, FailureKind::Precondition);
        assert!(problem.message.contains(words), "{problem}");
    }
}

#[test]
fn an_open_stub_warns() {
    let mut target = started();
    target.gdb_stub = Some(GdbStubSpec {
        allow_remote: true,
        ..stub(1234)
    });
    let steps = steps(&target, &observed(PowerState::Off, &[]), CONTEXT);
    assert!(
        steps[0].notes[0].contains("all addresses"),
        "{:?}",
        steps[0].notes
    );
}

// A VM that somebody else started.

fn with_port(text: &str) -> Observed {
    let mut now = observed(
        PowerState::Running,
        &[("chardev-2", "serial1"), (fact::CHARDEVS, "serial0, serial1")],
    );
    now.ports.push(ObservedPort {
        port: PortIndex::new(2).unwrap(),
        endpoint: match crate::render::qemu::chardev::parse_filename(text) {
            crate::render::qemu::chardev::Backend::Endpoint(endpoint) => Some(endpoint),
            _ => None,
        },
        text: text.to_owned(),
    });
    now
}

fn foreign(attach: &str) -> TargetSpec {
    target("other", vec![port(2, Some(attach), Some("qmp:/q.sock"))])
}

fn change(backend: serde_json::Value) -> QmpCommand {
    QmpCommand {
        socket: HostPath::new("/q.sock"),
        execute: "chardev-change".to_owned(),
        arguments: json!({ "id": "serial1", "backend": backend }),
    }
}

#[test]
fn a_live_port_is_changed_and_the_old_backend_is_the_undo() {
    let unix = |path: &str| json!({"type":"socket","data":{"addr":{"type":"unix","data":{"path":path}},"server":true,"wait":false}});
    let cases = [
        (
            "disconnected:unix:/old,server=on",
            Undo::Qmp(change(unix("/old"))),
        ),
        (
            "pty:/dev/pts/4",
            Undo::Qmp(change(json!({"type":"pty","data":{}}))),
        ),
        ("null", Undo::Qmp(change(json!({"type":"null","data":{}})))),
        (
            "vc",
            Undo::Nothing {
                reason: "vmserial cannot write the backend `vc` again".to_owned(),
            },
        ),
    ];
    for (now, undo) in cases {
        let steps = steps(&foreign("listen:unix:/new"), &with_port(now), CONTEXT);
        assert_eq!(steps.len(), 1, "{now}");
        assert_eq!(steps[0].action, Action::Qmp(change(unix("/new"))));
        assert_eq!(steps[0].undo, undo);
    }
}

#[test]
fn a_second_apply_is_empty() {
    for (wanted, now) in [
        ("listen:unix:/new", "unix:/new,server=on"),
        ("listen:unix:/new", "disconnected:unix:/new,server=on"),
        (
            "listen:tcp:127.0.0.1:7",
            "tcp:127.0.0.1:7,server=on <-> 127.0.0.1:50",
        ),
        ("pty", "pty:/dev/pts/9"),
        (
            "listen:tcp:127.0.0.1:0",
            "disconnected:tcp:127.0.0.1:4242,server=on",
        ),
    ] {
        assert!(
            steps(&foreign(wanted), &with_port(now), CONTEXT).is_empty(),
            "{wanted} {now}"
        );
    }
    assert!(steps(&foreign("listen:unix:/new"), &with_port("null"), REMOVE).is_empty());
}

#[test]
fn removing_a_live_port_leaves_the_null_backend() {
    let steps = steps(
        &foreign("listen:unix:/new"),
        &with_port("unix:/x,server=on"),
        REMOVE,
    );
    assert_eq!(
        steps[0].action,
        Action::Qmp(change(json!({"type":"null","data":{}})))
    );
}

#[test]
fn a_port_that_is_not_there_names_those_that_are() {
    let now = observed(
        PowerState::Running,
        &[(fact::CHARDEVS, "compat_monitor0, serial0")],
    );
    let problem = refusal(&foreign("listen:unix:/new"), &now, CONTEXT);
    assert_eq!(problem.kind, FailureKind::NotFound);
    assert!(problem.message.ends_with("compat_monitor0, serial0"), "{problem}");
}

#[test]
fn a_vm_that_is_not_running_is_said() {
    let problem = refusal(
        &foreign("listen:unix:/new"),
        &observed(PowerState::Off, &[]),
        CONTEXT,
    );
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert!(problem.message.contains("does not run"), "{problem}");
}

#[test]
fn the_stub_of_a_running_vm_is_opened_and_closed() {
    let mut wanted = target("qmp:/q.sock", Vec::new());
    wanted.gdb_stub = Some(stub(1234));
    let line = |step: &Step| match &step.action {
        Action::Qmp(command) => command.arguments["command-line"].as_str().unwrap().to_owned(),
        other => format!("{other:?}"),
    };
    let closed = observed(PowerState::Running, &[]);
    let open = observed(
        PowerState::Running,
        &[(fact::GDB_STUB, "disconnected:tcp:127.0.0.1:1234,server=on")],
    );
    let steps_open = steps(&wanted, &closed, CONTEXT);
    assert_eq!(line(&steps_open[0]), "gdbserver tcp:127.0.0.1:1234");
    assert_eq!(
        steps_open[1].action,
        Action::WaitFor(Condition::TcpListens { port: 1234 })
    );
    assert!(steps(&wanted, &open, CONTEXT).is_empty());
    assert_eq!(line(&steps(&wanted, &open, REMOVE)[0]), "gdbserver none");
    assert!(steps(&wanted, &closed, REMOVE).is_empty());
}

// A VM that is started with a file.

#[test]
fn a_configuration_file_keeps_its_other_ports() {
    let now = config::text(&[(PortIndex::new(1).unwrap(), "pty".parse().unwrap())].into()).unwrap();
    let mut seen = observed(PowerState::Unknown, &[]);
    seen.files.push(ObservedFile {
        path: HostPath::new("/etc/vm.cfg"),
        bytes: Some(now.clone().into_bytes()),
    });
    let wanted = target("/etc/vm.cfg", vec![port(2, Some("listen:unix:/x"), None)]);
    let steps_set = steps(&wanted, &seen, CONTEXT);
    let Action::Edit(edit) = &steps_set[0].action else {
        panic!("{:?}", steps_set[0].action);
    };
    let text = edit.operations[0].value().unwrap();
    assert!(
        text.contains("index = \"0\"") && text.contains("path = \"/x\""),
        "{text}"
    );

    let only = target("/etc/vm.cfg", vec![port(1, None, None)]);
    let Action::Edit(edit) = &steps(&only, &seen, REMOVE)[0].action else {
        panic!("an edit");
    };
    assert_eq!(edit.operations[0].value(), None);

    seen.files[0].bytes = Some(b"[machine]".to_vec());
    assert_eq!(refusal(&wanted, &seen, CONTEXT).kind, FailureKind::Precondition);
}

#[test]
fn names_of_chardevs_in_their_order() {
    assert_eq!(
        chardev_candidates(&port(2, None, Some("qmp:/q,id=mine"))),
        ["mine", "ser1", "serial1", "charserial1"]
    );
    assert_eq!(
        chardev_candidates(&port(2, None, Some("qmp:/q")))[0],
        "ser1",
        "the default id is port 1's"
    );
}
