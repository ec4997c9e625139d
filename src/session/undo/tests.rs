//! Undo on a host in memory, also after a kill at any moment.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{EditOperation, FileFormat, TargetSpec};
use crate::render::edit;
use crate::session::apply::plan_and_apply;
use crate::session::fake::{FakeFront, FakeHosts, options, target, undo_options};
use crate::session::marks;
use proptest::prelude::*;

const VMX: &str = "disk = \"a.vmdk\"\r\nserial0.present = \"FALSE\"\r\n";

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

    fn apply(&mut self, targets: &[TargetSpec]) -> Result<(), Problem> {
        let mut options = options(self.locks.path());
        options.start_vm = targets.iter().any(|target| target.start.is_some());
        plan_and_apply(&self.hosts, targets, &options, &mut self.front).map(|_| ())
    }

    fn journal(&self) -> Journal {
        marks::journal(&self.hosts, self.locks.path(), None).unwrap()
    }

    fn undo(&mut self, id: Option<&str>) -> Result<bool, Problem> {
        let Some(entry) = find(&self.journal(), id)? else {
            return Ok(false);
        };
        undo(
            entry,
            &self.hosts,
            &undo_options(self.locks.path()),
            &mut self.front,
        )?;
        Ok(true)
    }

    fn edit(&self, key: &str, value: &str) {
        let file = self.hosts.file("/dev.vmx").unwrap();
        let operation = EditOperation::Set {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let new = edit::apply(FileFormat::Vmx, Some(file.as_bytes()), &[operation])
            .unwrap()
            .unwrap();
        self.hosts.disk().files.insert("/dev.vmx".to_owned(), new);
    }
}

fn starting(mut target: TargetSpec) -> TargetSpec {
    target.start = Some(crate::model::StartSpec {
        keep: false,
        kernel: None,
        initrd: None,
        append: None,
        memory_mib: 64,
        disks: Vec::new(),
        program: None,
        extra_arguments: Vec::new(),
    });
    target
}

#[test]
fn undo_brings_back_the_bytes_the_power_and_the_processes() {
    for (running, start) in [(false, false), (true, false), (false, true)] {
        let mut bench = Bench::new();
        if running {
            bench.hosts.set_file("/dev.vmx.on", "");
        }
        let before = bench.hosts.world();
        let dev = target("dev", "listen:unix:/s");
        let dev = if start { starting(dev) } else { dev };
        bench.apply(&[dev]).unwrap();
        assert_ne!(bench.hosts.world(), before);
        assert!(bench.undo(None).unwrap());
        assert_eq!(bench.hosts.world(), before, "running {running}, start {start}");
        assert!(!bench.undo(None).unwrap(), "nothing is left to undo");
    }
}

#[test]
fn undo_after_a_kill_at_any_moment_brings_everything_back() {
    for happens in [false, true] {
        for (running, start) in [(false, false), (true, false), (false, true)] {
            for fuse in 1.. {
                let mut bench = Bench::new();
                if running {
                    bench.hosts.set_file("/dev.vmx.on", "");
                }
                let before = bench.hosts.world();
                bench.hosts.burn_after(Some(fuse));
                bench.hosts.disk().last_effect_happens = happens;
                let dev = target("dev", "listen:unix:/s");
                let dev = if start { starting(dev) } else { dev };
                let result = bench.apply(std::slice::from_ref(&dev));
                if !bench.hosts.burnt() {
                    result.unwrap();
                    assert!(fuse > 5, "a journalled apply has more effects than {fuse}");
                    break;
                }
                bench.hosts.burn_after(None);
                while bench.undo(None).unwrap() {}
                assert_eq!(
                    bench.hosts.world(),
                    before,
                    "killed at {fuse} ({happens}), {running}, {start}"
                );
                // And an apply goes on from anywhere.
                bench.hosts.burn_after(Some(fuse));
                let _ = bench.apply(std::slice::from_ref(&dev));
                bench.hosts.burn_after(None);
                bench.apply(&[dev]).unwrap();
                assert!(bench.hosts.file("/dev.vmx").unwrap().contains("listen:unix:/s"));
            }
        }
    }
}

#[test]
fn an_undo_that_was_killed_is_gone_on_with() {
    for happens in [false, true] {
        for fuse in 1.. {
            let mut bench = Bench::new();
            bench.hosts.set_file("/dev.vmx.on", "");
            let before = bench.hosts.world();
            bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
            bench.hosts.burn_after(Some(fuse));
            bench.hosts.disk().last_effect_happens = happens;
            let result = bench.undo(None);
            if !bench.hosts.burnt() {
                assert!(result.unwrap());
                break;
            }
            bench.hosts.burn_after(None);
            while bench.undo(None).unwrap() {}
            assert_eq!(bench.hosts.world(), before, "killed at {fuse} ({happens})");
        }
    }
}

#[test]
fn a_snapshot_taken_meanwhile_survives() {
    let mut bench = Bench::new();
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    bench.edit("disk", "a-000001.vmdk");
    bench.undo(None).unwrap();
    let expected = VMX.replace("a.vmdk", "a-000001.vmdk");
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), expected);
}

#[test]
fn a_key_that_somebody_else_changed_is_refused_with_three_versions() {
    let mut bench = Bench::new();
    bench.edit("serial0.fileName", "old");
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    bench.edit("serial0.fileName", "theirs");
    let before = bench.hosts.world();
    let problem = bench.undo(None).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert!(
        problem
            .message
            .contains("serial0.fileName: before `old`, ours `listen:unix:/s`, now `theirs`"),
        "{problem}"
    );
    assert_eq!(bench.hosts.world(), before);
}

#[test]
fn a_file_is_not_edited_under_a_running_vm() {
    let mut bench = Bench::new();
    bench.hosts.disk().cannot_power_off = true;
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    bench.hosts.set_file("/dev.vmx.on", "");
    let problem = bench.undo(None).unwrap_err();
    assert!(
        problem.message.contains("while the VM of `dev` is off"),
        "{problem}"
    );
}

#[test]
fn what_was_set_while_the_vm_was_off_is_undone_with_a_power_cycle() {
    let mut bench = Bench::new();
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    bench.hosts.set_file("/dev.vmx.on", "");
    let before = bench.hosts.world();
    let entry = find(&bench.journal(), None).unwrap().unwrap();
    let mut options = undo_options(bench.locks.path());
    options.restart = Some(RestartPolicy::Never);
    let problem = undo(entry, &bench.hosts, &options, &mut bench.front).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert_eq!(bench.hosts.world(), before);
    assert!(bench.undo(None).unwrap());
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
    assert!(bench.hosts.file("/dev.vmx.on").is_some(), "left as it was found");
    assert!(!bench.undo(None).unwrap(), "nothing is left to undo");
    let shown = bench.front.shown.concat();
    let order = [
        "  first: power off\n",
        "take back: attach port 1",
        "  last: take back: power off\n",
    ];
    let places: Vec<_> = order.iter().map(|part| shown.rfind(part).unwrap()).collect();
    assert!(places.is_sorted(), "{shown}");
}

#[test]
fn an_undo_with_a_power_cycle_that_was_killed_is_gone_on_with() {
    for happens in [false, true] {
        for fuse in 1.. {
            let mut bench = Bench::new();
            bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
            bench.hosts.set_file("/dev.vmx.on", "");
            bench.hosts.burn_after(Some(fuse));
            bench.hosts.disk().last_effect_happens = happens;
            let result = bench.undo(None);
            if !bench.hosts.burnt() {
                assert!(result.unwrap());
                assert!(fuse > 5, "a journalled undo has more effects than {fuse}");
                break;
            }
            bench.hosts.burn_after(None);
            while bench.undo(None).unwrap() {}
            assert_eq!(
                bench.hosts.file("/dev.vmx").unwrap(),
                VMX,
                "killed at {fuse} ({happens})"
            );
            assert!(
                bench.hosts.file("/dev.vmx.on").is_some(),
                "killed at {fuse} ({happens})"
            );
        }
    }
}

#[test]
fn undo_obeys_the_restart_policy() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/dev.vmx.on", "");
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    let entry = find(&bench.journal(), None).unwrap().unwrap();
    let mut options = undo_options(bench.locks.path());
    options.restart = Some(RestartPolicy::Never);
    let before = bench.hosts.world();
    let problem = undo(entry, &bench.hosts, &options, &mut bench.front).unwrap_err();
    assert_eq!(problem.kind, FailureKind::Precondition);
    assert_eq!(bench.hosts.world(), before);
}

#[test]
fn a_vm_that_was_powered_off_since_is_left_off() {
    let mut bench = Bench::new();
    bench.hosts.set_file("/dev.vmx.on", "");
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    bench.hosts.disk().files.remove("/dev.vmx.on");
    bench.undo(None).unwrap();
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
    assert_eq!(bench.hosts.file("/dev.vmx.on"), None);
}

#[test]
fn the_newest_entry_is_undone_first_and_older_ones_by_name() {
    let mut bench = Bench::new();
    bench.apply(&[target("dev", "listen:unix:/one")]).unwrap();
    let one = bench.hosts.file("/dev.vmx");
    bench.apply(&[target("dev", "listen:unix:/two")]).unwrap();
    let oldest = bench.journal().entries().unwrap().pop().unwrap().id().to_owned();
    // The older one's value is no longer there.
    let problem = bench.undo(Some(&oldest)).unwrap_err();
    assert!(
        problem
            .message
            .contains("ours `listen:unix:/one`, now `listen:unix:/two`"),
        "{problem}"
    );
    bench.undo(None).unwrap();
    assert_eq!(bench.hosts.file("/dev.vmx"), one);
    bench.undo(Some(&oldest)).unwrap();
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
    assert_eq!(
        bench.undo(Some("nonsense")).unwrap_err().kind,
        FailureKind::NotFound
    );
    assert_eq!(bench.undo(Some("2")).unwrap_err().kind, FailureKind::Usage);
}

#[test]
fn an_unknown_format_is_listed_and_not_undone() {
    let mut bench = Bench::new();
    bench.apply(&[target("dev", "listen:unix:/s")]).unwrap();
    let path = {
        let disk = bench.hosts.disk();
        let mut files = disk.files.keys();
        files.find(|file| file.ends_with("/entry.json")).unwrap().clone()
    };
    let newer = bench
        .hosts
        .file(&path)
        .unwrap()
        .replace("\"format\": 1", "\"format\": 2");
    bench.hosts.set_file(&path, &newer);
    let entries = bench.journal().entries().unwrap();
    assert!(matches!(&entries[0], Found::Unknown { reason, .. } if reason.contains("format is 2")));
    assert_eq!(bench.undo(None).unwrap_err().kind, FailureKind::Configuration);
    let id = entries[0].id().to_owned();
    assert_eq!(
        bench.undo(Some(&id)).unwrap_err().kind,
        FailureKind::Configuration
    );
}

#[test]
fn a_host_is_undone_without_the_journal() {
    let mut bench = Bench::new();
    let mut with_copies = options(bench.locks.path());
    with_copies.host_folder = Some("/host".into());
    plan_and_apply(
        &bench.hosts,
        &[target("dev", "listen:unix:/s")],
        &with_copies,
        &mut bench.front,
    )
    .unwrap();
    // The machine with the journal is gone.
    let state = bench.locks.path().to_str().unwrap().to_owned();
    bench
        .hosts
        .disk()
        .files
        .retain(|path, _| !path.starts_with(&state));
    let local = crate::model::HostRef::Local;
    let journal = marks::host_journal(&bench.hosts, &local, Some(std::path::Path::new("/host"))).unwrap();
    let entry = find(&journal, None).unwrap().unwrap();
    undo(
        entry,
        &bench.hosts,
        &undo_options(bench.locks.path()),
        &mut bench.front,
    )
    .unwrap();
    assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), VMX);
    assert!(find(&journal, None).unwrap().is_none());
}

#[derive(Debug, Clone)]
enum Deed {
    Apply(u8),
    Undo,
    Foreign(u8),
    Kill(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Whatever applies, undos, kills and foreign edits of other keys happened: in the end undo leaves what would be
    /// there without us.
    #[test]
    fn undo_after_any_interleaving_restores(
        running: bool,
        deeds in proptest::collection::vec(
            prop_oneof![
                (0..3u8).prop_map(Deed::Apply),
                Just(Deed::Undo),
                (0..3u8).prop_map(Deed::Foreign),
                (1..30usize).prop_map(Deed::Kill),
            ],
            1..10,
        ),
    ) {
        let mut bench = Bench::new();
        let mut expected = VMX.to_owned();
        if running {
            bench.hosts.set_file("/dev.vmx.on", "");
        }
        for deed in deeds {
            match deed {
                Deed::Apply(number) => bench.apply(&[target("dev", &format!("listen:unix:/{number}"))]).unwrap(),
                Deed::Undo => {
                    bench.undo(None).unwrap();
                }
                Deed::Foreign(number) => {
                    bench.edit("disk", &format!("a-{number}.vmdk"));
                    let rest = expected.split_once("\r\n").unwrap().1.to_owned();
                    expected = format!("disk = \"a-{number}.vmdk\"\r\n{rest}");
                }
                Deed::Kill(fuse) => {
                    bench.hosts.burn_after(Some(fuse));
                    let _ = bench.apply(&[target("dev", "listen:unix:/killed")]);
                    bench.hosts.burn_after(None);
                }
            }
        }
        while bench.undo(None).unwrap() {}
        prop_assert_eq!(bench.hosts.file("/dev.vmx").unwrap(), expected);
        prop_assert_eq!(bench.hosts.file("/dev.vmx.on").is_some(), running);
    }
}
