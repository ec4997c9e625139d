//! Applies on a host in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{RestartPolicy, StartSpec};
use crate::session::fake::{Disk, FakeFront, FakeHosts, options, target};
use crate::session::journal::StepState;
use crate::session::lifetime::{end_vms, started_targets};

const VMX: &str = "disk = \"a.vmdk\"\n";

struct Bench {
    hosts: FakeHosts,
    locks: tempfile::TempDir,
    front: FakeFront,
}

impl Bench {
    fn new() -> Self {
        let hosts = FakeHosts::default();
        hosts.set_file("/dev.vmx", VMX);
        Self {
            hosts,
            locks: tempfile::tempdir().unwrap(),
            front: FakeFront::default(),
        }
    }

    fn apply(&mut self, targets: &[TargetSpec]) -> Result<Applied, Problem> {
        self.apply_with(targets, &options(self.locks.path()))
    }

    fn apply_with(&mut self, targets: &[TargetSpec], options: &ApplyOptions) -> Result<Applied, Problem> {
        plan_and_apply(&self.hosts, targets, options, &mut self.front)
    }

    fn journals(&self) -> usize {
        let disk = self.hosts.disk();
        disk.files
            .keys()
            .filter(|file| file.ends_with("/entry.json"))
            .count()
    }

    fn entry(&self) -> EntryData {
        let disk = self.hosts.disk();
        let mut entries = disk
            .files
            .iter()
            .filter(|(file, _)| file.ends_with("/entry.json"));
        serde_json::from_slice(entries.next().unwrap().1).unwrap()
    }
}

#[test]
fn a_second_apply_has_nothing_to_change_and_makes_no_entry() {
    let mut bench = Bench::new();
    let targets = [target("dev", "listen:unix:/s")];
    let applied = bench.apply(&targets).unwrap();
    assert!(applied.journal.is_some());
    let file = bench.hosts.file("/dev.vmx").unwrap();
    assert!(
        file.starts_with(VMX) && file.contains("serial0.fileName = \"listen:unix:/s\""),
        "{file}"
    );
    let again = bench.apply(&targets).unwrap();
    assert_eq!((again.journal, bench.journals()), (None, 1));
    assert_eq!(bench.front.said.last().unwrap(), "Nothing to change.");
}

#[test]
fn the_journal_names_command_host_vm_and_steps() {
    let mut bench = Bench::new();
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    let entry = bench.entry();
    assert_eq!((entry.format, entry.steps.len()), (1, 1));
    assert_eq!(entry.targets[0].vm.as_str(), "/dev.vmx");
    assert_eq!(entry.steps[0].state, StepState::Done);
    assert_eq!(
        entry.steps[0].edit.as_ref().unwrap().before.as_deref(),
        Some("before/1")
    );
    let disk = bench.hosts.disk();
    let before = disk
        .files
        .iter()
        .find(|(file, _)| file.ends_with("/before/1"))
        .unwrap();
    assert_eq!(before.1, VMX.as_bytes());
}

#[test]
fn a_stage_is_planned_shown_and_confirmed_when_its_facts_are_there() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/dev.vmx.on", "");
    bench.front.answer = Some(true);
    let mut options = options(bench.locks.path());
    options.consent = Consent::Ask;
    let applied = bench
        .apply_with(&[target("dev", "listen:unix:/s")], &options)
        .unwrap();
    assert!(bench.front.shown[0].contains("settings: after power-off; may change: serial keys"));
    assert!(!bench.front.shown[0].contains("serial0.fileName"));
    assert!(bench.front.shown[1].contains("+serial0.fileName"));
    assert_eq!(bench.front.asked.len(), 2);
    assert_eq!(applied.observed[0].power, crate::model::PowerState::Running);
    assert_eq!(bench.entry().steps.len(), 3, "one entry for both goes");
}

#[test]
fn without_a_yes_nothing_happens() {
    for (answer, kind) in [
        (None, FailureKind::Precondition),
        (Some(false), FailureKind::AnsweredNo),
    ] {
        let mut bench = Bench::new();
        bench.front.answer = answer;
        let mut options = options(bench.locks.path());
        options.consent = Consent::Ask;
        let before = bench.hosts.world();
        let problem = bench
            .apply_with(&[target("dev", "listen:unix:/s")], &options)
            .unwrap_err();
        assert_eq!((problem.kind, bench.journals()), (kind, 0));
        assert_eq!(bench.hosts.world(), before);
    }
}

#[test]
fn yes_does_not_raise_the_restart_level() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/dev.vmx.on", "");
    let before = bench.hosts.world();
    for level in [RestartPolicy::Never, RestartPolicy::Ask] {
        let mut dev = target("dev", "listen:unix:/s");
        dev.restart = level;
        let problem = bench.apply(&[dev]).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
        assert!(problem.hints[0].contains("--restart"), "{problem:?}");
    }
    assert_eq!(bench.hosts.world(), before);
}

#[test]
fn a_plan_is_shown_and_nothing_is_changed() {
    let mut bench = Bench::new();
    let before = bench.hosts.world();
    let mut options = options(bench.locks.path());
    options.consent = Consent::ShowOnly;
    let applied = bench
        .apply_with(&[target("dev", "listen:unix:/s")], &options)
        .unwrap();
    assert!(!applied.plan.is_empty() && bench.front.shown.len() == 1);
    assert_eq!(bench.hosts.world(), before);
}

#[test]
fn a_key_that_is_not_served_is_refused_by_its_name() {
    let mut bench = Bench::new();
    let mut dev = target("dev", "listen:unix:/s");
    dev.unserved = vec!["guest.boot_entry".to_owned()];
    let problem = bench.apply(&[dev]).unwrap_err();
    assert!(
        problem.message.contains("`targets.dev.guest.boot_entry`"),
        "{problem}"
    );
}

#[test]
fn a_file_that_changed_since_the_plan_is_refused() {
    let mut bench = Bench::new();
    bench.hosts.disk().meanwhile = Some(|disk: &mut Disk| {
        disk.files
            .insert("/dev.vmx".to_owned(), b"theirs = \"1\"\n".to_vec());
    });
    let problem = bench.apply(&[target("dev", "listen:unix:/s")]).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), "theirs = \"1\"\n");
    assert_eq!(bench.entry().steps[0].state, StepState::Failed);
    assert!(!bench.entry().is_in_force());
}

#[test]
fn success_is_not_claimed_for_a_change_that_did_not_take() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/two.vmx", VMX);
    // While the second file is written, somebody puts the first one back.
    let targets = [target("dev", "listen:unix:/s"), target("two", "listen:unix:/t")];
    bench.apply(&targets[..1]).unwrap();
    bench.hosts.disk().meanwhile = Some(|disk: &mut Disk| {
        disk.files.insert("/dev.vmx".to_owned(), VMX.into());
    });
    let problem = bench.apply(&targets).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Host);
    assert!(problem.message.contains("still to be changed"), "{problem}");
    assert!(
        problem.hints.iter().any(|hint| hint.contains("vmserial undo")),
        "{problem:?}"
    );
}

#[test]
fn a_failed_target_does_not_stop_the_others() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/two.vmx", VMX);
    bench.hosts.disk().read_only.push("/dev.vmx".to_owned());
    let targets = [target("dev", "listen:unix:/s"), target("two", "listen:unix:/t")];
    let problem = bench.apply(&targets).unwrap_err();
    assert_eq!(problem.kind, FailureKind::SomeTargets);
    assert!(
        problem.message.starts_with("1 of 2 targets failed:\n    dev: "),
        "{problem}"
    );
    assert!(bench.hosts.file("/two.vmx").unwrap().contains("serial0"));
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
}

#[test]
fn without_a_journal_nothing_is_changed() {
    let mut bench = Bench::new();
    bench
        .hosts
        .disk()
        .read_only
        .push(bench.locks.path().to_str().unwrap().to_owned());
    let problem = bench.apply(&[target("dev", "listen:unix:/s")]).unwrap_err();
    assert!(
        problem.message.starts_with("cannot write the journal: "),
        "{problem}"
    );
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
}

#[test]
fn a_host_folder_that_cannot_be_written_is_a_warning() {
    let mut bench = Bench::new();
    bench.hosts.disk().read_only.push("/host".to_owned());
    let mut options = options(bench.locks.path());
    options.host_folder = Some("/host".into());
    bench
        .apply_with(&[target("dev", "listen:unix:/s")], &options)
        .unwrap();
    assert!(
        bench.front.said.iter().any(|line| line.starts_with("warning: ")),
        "{:?}",
        bench.front.said
    );
}

#[test]
fn an_interrupt_starts_nothing_new() {
    let mut bench = Bench::new();
    let options = options(bench.locks.path());
    options.interrupt.soft.cancel();
    let before = bench.hosts.world();
    let problem = bench
        .apply_with(&[target("dev", "listen:unix:/s")], &options)
        .unwrap_err();
    assert_eq!(problem.kind, FailureKind::Interrupted);
    assert_eq!(bench.hosts.world(), before);
}

#[test]
fn a_vm_that_ends_at_once_is_not_waited_for() {
    let mut bench = Bench::new();
    let mut dev = target("dev", "listen:unix:/s");
    bench.apply(std::slice::from_ref(&dev)).unwrap();
    dev.start = Some(StartSpec {
        keep: false,
        kernel: None,
        initrd: None,
        append: None,
        memory_mib: 64,
        disks: Vec::new(),
        program: None,
        extra_arguments: Vec::new(),
    });
    let mut options = options(bench.locks.path());
    options.start_vm = true;
    let applied = bench.apply_with(std::slice::from_ref(&dev), &options).unwrap();
    assert_eq!(applied.started.len(), 1);
    let names = [dev.name.clone()];
    let running = started_targets(&bench.hosts, &options).unwrap();
    assert!(running.contains(&dev.name));
    let ended = end_vms(&names, &bench.hosts, &options, &mut bench.front).unwrap();
    assert_eq!(ended, 1);
    assert!(bench.hosts.disk().processes.is_empty());
    // The hypervisor that starts now says why and ends before its socket is there.
    bench.hosts.disk().dies_at_start = Some("no such kernel\n".to_owned());
    let problem = bench.apply_with(&[dev], &options).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Host);
    assert!(
        problem.message.contains("ended at once") && problem.message.contains("no such kernel"),
        "{problem}"
    );
}
