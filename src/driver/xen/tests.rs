//! What needs several hosts or the folders of a real one: pools, consoles that go to logs, VMs of xl by name.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{
    Cancel, Deadline, HostPath, HostRef, Invocation, LogSpec, Policy, PortSpec, RestartPolicy, VmRef,
};
use crate::plan::{Action, StageContent, Step};
use crate::runner::{FileSnapshot, Output, RunError, Status};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A host as a table: files, and what commands print.
#[derive(Default)]
struct FakeHost {
    files: BTreeMap<String, String>,
    answers: BTreeMap<String, String>,
}

impl FakeHost {
    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// `command` without quotes; a command that begins so.
    fn says(mut self, command: &str, text: &str) -> Self {
        self.answers.insert(command.to_owned(), text.to_owned());
        self
    }
}

impl Runner for FakeHost {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn run(&self, invocation: &Invocation, _: &Wait) -> Result<Output, RunError> {
        let line = invocation.to_string().replace('\'', "");
        let program = |key: &String| key.split(' ').next() == Some(invocation.program.as_str());
        let output = |code, stdout: &str, stderr: &str| Output {
            status: Status::Exited(code),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
            elapsed: Duration::ZERO,
        };
        match self
            .answers
            .iter()
            .find(|(key, _)| line.starts_with(key.as_str()))
        {
            Some((_, text)) => Ok(output(0, text, "")),
            None if self.answers.keys().any(program) => {
                Ok(output(1, "", "message: Failure: Key x not found in map"))
            }
            None => Err(RunError::ProgramNotFound {
                program: invocation.program.clone(),
                host: HostRef::Local,
            }),
        }
    }

    fn read(&self, path: &HostPath, _: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        Ok(self.files.get(path.as_str()).map(|text| FileSnapshot {
            bytes: text.as_bytes().to_vec(),
            mode: None,
            owner: None,
        }))
    }

    fn list(&self, folder: &HostPath, _: &Wait) -> Result<Vec<String>, RunError> {
        let inside = |path: &String| {
            path.strip_prefix(folder.as_str())?
                .strip_prefix('/')
                .map(ToOwned::to_owned)
        };
        Ok(self.files.keys().filter_map(inside).collect())
    }

    fn exists(&self, path: &HostPath, _: &Wait) -> Result<bool, RunError> {
        Ok(self.files.contains_key(path.as_str()))
    }
}

fn target(vm: &str, attach: Option<&str>) -> TargetSpec {
    TargetSpec {
        name: "dev".parse().unwrap(),
        host: HostRef::Local,
        hypervisor: HypervisorKind::Xen,
        vm: VmRef::new(vm),
        restart: RestartPolicy::Graceful,
        ports: vec![PortSpec {
            port: PortIndex::FIRST,
            policy: Policy::Kd,
            attach: attach.map(|endpoint| endpoint.parse().unwrap()),
            serve: Vec::new(),
            log: LogSpec::default(),
            hold_bytes: 0,
            replay_bytes: 0,
            one_writer: false,
            tunnel: None,
            break_with: None,
            firewall: None,
        }],
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

fn wait() -> Wait {
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(10));
    Wait::new(deadline, Cancel::new(), "a table")
}

const TCP: Option<&str> = Some("listen:tcp:127.0.0.1:7001");

/// A pool of two hosts, seen from the first, with one VM whose record has these lines.
fn pool(lines: &str) -> FakeHost {
    let record = format!(
        "uuid ( RO) : u1\n name-label ( RW): dev\n HVM-boot-policy ( RW): BIOS order\n is-control-domain ( RO): false\n{lines}\n"
    );
    FakeHost::default()
        .file("/etc/xensource-inventory", "COMPANY_NAME='Xen'\nINSTALLATION_UUID='aaaa'\n")
        .says("xe vm-list", &record)
        .says(
            "xe host-list",
            "uuid ( RO) : aaaa\n name-label ( RW): xcp1\n address ( RO): 192.0.2.1\n\n\nuuid ( RO) : bbbb\n name-label ( RW): xcp2\n address ( RO): 192.0.2.2\n",
        )
}

fn planned_steps(host: &FakeHost, target: &TargetSpec) -> Result<Vec<Step>, Problem> {
    let xen = Xen::new();
    let seen = xen.observe(host, std::slice::from_ref(target), &wait())?;
    if let Some((_, problem)) = seen.refused.into_iter().next() {
        return Err(problem);
    }
    let context = PlanContext {
        power_at_start: seen.vms[0].power,
        remove: false,
        start_vm: false,
    };
    let stages = xen.stages(target, &seen.vms[0], &context)?;
    let steps = stages.into_iter().filter_map(|stage| match stage.content {
        StageContent::Planned(steps) => Some(steps),
        StageContent::Later { .. } => None,
    });
    Ok(steps.flatten().collect())
}

fn commands(steps: &[Step]) -> Vec<String> {
    let run = |step: &Step| match &step.action {
        Action::Run(invocation) => Some(invocation.to_string().replace('\'', "")),
        _ => None,
    };
    steps.iter().filter_map(run).collect()
}

#[test]
fn a_vm_without_a_home_in_a_pool_gets_this_host() {
    let host = pool(" power-state ( RO): halted\n affinity ( RW): <not in database>\n");
    let steps = planned_steps(&host, &target("dev", TCP)).unwrap();
    let commands = commands(&steps);
    assert_eq!(commands.len(), 3, "{commands:?}");
    assert_eq!(commands[2], "xe vm-param-set uuid=u1 affinity=aaaa");
    // A pseudo terminal is found wherever the VM runs; there is nothing to pin.
    assert!(planned_steps(&host, &target("dev", None)).unwrap().is_empty());
}

#[test]
fn a_vm_that_is_at_home_elsewhere_is_refused_by_the_hosts_name() {
    for lines in [
        " power-state ( RO): running\n dom-id ( RO): 7\n resident-on ( RO): bbbb\n affinity ( RW): aaaa\n",
        " power-state ( RO): halted\n affinity ( RW): bbbb\n",
    ] {
        let problem = planned_steps(&pool(lines), &target("dev", TCP)).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
        assert!(
            problem
                .message
                .contains("another host of the pool: `xcp2` (192.0.2.2)"),
            "{problem}"
        );
    }
    let here = " power-state ( RO): halted\n affinity ( RW): aaaa\n";
    assert_eq!(
        commands(&planned_steps(&pool(here), &target("dev", TCP)).unwrap()).len(),
        2
    );
}

#[test]
fn consoles_that_go_to_logs_are_no_ports() {
    let host = pool(" power-state ( RO): halted\n").says("xenstore-read /local/logconsole/@", "/var/log/c\n");
    let problem = planned_steps(&host, &target("dev", TCP)).unwrap_err();
    assert!(
        problem.message.contains("logs all consoles to files"),
        "{problem}"
    );
}

#[test]
fn a_vm_of_xl_is_found_by_the_name_in_its_file() {
    let listing = "Name ID Mem VCPUs State Time(s)\nDomain-0 0 4096 4 r----- 1.0\n";
    let cfg = "type = 'hvm'\nname = 'dev'\n";
    let host = FakeHost::default()
        .says("xl list", listing)
        .file("/etc/xen/a.cfg", cfg)
        .file("/etc/xen/xl.conf", "#autoballoon=\"auto\"\n")
        .file("/etc/xen/broken", "\u{7f}ELF");
    let seen = Xen::new()
        .observe(&host, &[target("dev", None)], &wait())
        .unwrap();
    assert_eq!(seen.vms[0].files[0].path.as_str(), "/etc/xen/a.cfg");
    let none = planned_steps(&host, &target("other", None)).unwrap_err();
    assert_eq!(none.kind, FailureKind::NotFound);
    let twice = host.file("/etc/xen/b.cfg", cfg);
    let several = planned_steps(&twice, &target("dev", None)).unwrap_err();
    assert_eq!(several.kind, FailureKind::NotFound);
    assert!(
        several.message.contains("`/etc/xen/a.cfg`, `/etc/xen/b.cfg`"),
        "{several}"
    );
}
