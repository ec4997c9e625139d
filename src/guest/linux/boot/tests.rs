//! Entries and consoles on the layouts of distributions, each step again, and taken back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::guest::linux::live::Files;
use crate::model::{HostRef, Invocation};
use crate::render;

const DEBIAN: &str = include_str!("../../../../tests/data/guest/debian-12.grub.cfg");
const LINE: &str =
    "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=UUID=4492a93c-91e2-4979-b5b9-71e32901511c ro quiet";

fn place() -> Place {
    Place {
        host: HostRef::Local,
        target: None,
        root: None,
    }
}

fn facts(more: &str) -> LinuxFacts {
    let text = format!(
        "observe 1\nuid 0\nkernel 6.1.0-28-amd64\ncmdline {LINE}\nkgdboc-module there\nkgdboc \nmachine-id 0123\n{more}end 1\n"
    );
    LinuxFacts::parse(&text).unwrap()
}

const GRUB: &str = "path /boot/grub/grub.cfg\npath /etc/default/grub\npath /etc/default/grub.d\nos ID=debian\n\
    program update-grub\nprogram grub-mkconfig\nprogram grub-reboot\nprogram grub-editenv\nprogram grub-script-check\nmount /dev/vda1 / ext4 rw 0 0\n";

fn entry() -> EntryWish {
    EntryWish {
        kgdb: ("ttyS1".to_owned(), 115_200),
        kgdbwait: true,
        nokaslr: true,
        append: Some("loglevel=8".to_owned()),
    }
}

fn wish() -> BootWish {
    BootWish {
        entry: Some(entry()),
        ..BootWish::default()
    }
}

fn debian() -> Files {
    let mut files = Files::new();
    files.insert("/boot/grub/grub.cfg".to_owned(), Some(DEBIAN.as_bytes().to_vec()));
    files
}

/// Applies the edits of steps to files.
fn apply(steps: &[Step], files: &Files) -> Files {
    let mut files = files.clone();
    for step in steps {
        if let Action::Edit(edit) = &step.action {
            let path = edit.path.as_str().to_owned();
            let before = files.get(&path).cloned().flatten();
            let after = render::edit::apply(edit.format, before.as_deref(), &edit.operations).unwrap();
            files.insert(path, after);
        }
    }
    files
}

fn shown(files: &Files, path: &str) -> String {
    String::from_utf8(files[path].clone().unwrap()).unwrap()
}

#[test]
fn debian_gets_an_entry_made_from_the_running_kernel_s() {
    let steps_of = |files: &Files| steps(&place(), &facts(GRUB), &wish(), files).unwrap();
    let first = steps_of(&debian());
    let checked = Invocation::reads("grub-script-check", ["/boot/grub/custom.cfg"]);
    assert_eq!((first.len(), &first[1].action), (2, &Action::Run(checked)));
    assert_eq!(
        first[0].summary,
        "add the boot entry `vmserial-kgdb` to `/boot/grub/custom.cfg`, made from `Debian GNU/Linux`"
    );
    let after = apply(&first, &debian());
    let custom = shown(&after, "/boot/grub/custom.cfg");
    insta::assert_snapshot!(custom, @r#"
    # vmserial begin kgdb
    # Set by vmserial, taken back by `vmserial undo`.
    menuentry 'Debian GNU/Linux, kgdb' --id 'vmserial-kgdb' {
    	load_video
    	insmod gzio
    	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
    	insmod part_msdos
    	insmod ext2
    	set root='hd0,msdos1'
    	if [ x$feature_platform_search_hint = xy ]; then
    	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 --hint-baremetal=ahci0,msdos1  4492a93c-91e2-4979-b5b9-71e32901511c
    	else
    	  search --no-floppy --fs-uuid --set=root 4492a93c-91e2-4979-b5b9-71e32901511c
    	fi
    	echo	'Loading Linux 6.1.0-28-amd64 ...'
    	linux	/boot/vmlinuz-6.1.0-28-amd64 root=UUID=4492a93c-91e2-4979-b5b9-71e32901511c ro  quiet kgdboc=ttyS1,115200 kgdbwait rodata=off nokaslr sysrq_always_enabled loglevel=8
    	echo	'Loading initial ramdisk ...'
    	initrd	/boot/initrd.img-6.1.0-28-amd64
    }
    # vmserial end kgdb
    "#);
    assert_eq!(steps_of(&after).len(), 0, "it is there already");
    // What the user has in that file stays.
    let mut own = debian();
    own.insert(
        "/boot/grub/custom.cfg".to_owned(),
        Some(b"set color_normal=white/black\n".to_vec()),
    );
    let custom = shown(&apply(&steps_of(&own), &own), "/boot/grub/custom.cfg");
    assert!(
        custom.starts_with("set color_normal=white/black\n# vmserial begin kgdb\n"),
        "{custom}"
    );
}

#[test]
fn a_console_on_every_kernel_is_generated_by_grub_s_own_tool() {
    let wish = BootWish {
        console: Some(ConsoleWish {
            port: ("ttyS0".to_owned(), 115_200),
            screen_last: false,
        }),
        menu: true,
        menu_on: Some((0, 115_200)),
        ..BootWish::default()
    };
    let steps = super::steps(&place(), &facts(GRUB), &wish, &debian()).unwrap();
    let summaries: Vec<&str> = steps.iter().map(|step| step.summary.as_str()).collect();
    assert_eq!(
        summaries,
        [
            "check that GRUB's configuration can be generated",
            "set `console=tty0 console=ttyS0,115200` on every kernel, the menu for 5 s, the menu on ttyS0 in `/etc/default/grub.d/90-vmserial.cfg`",
            "generate `/boot/grub/grub.cfg`",
        ]
    );
    // Taken back last, when the settings are as they were.
    assert_eq!(
        steps[0].undo,
        Undo::Run(Invocation::changes("update-grub", Vec::<String>::new()))
    );
    let settings = shown(&apply(&steps, &debian()), "/etc/default/grub.d/90-vmserial.cfg");
    insta::assert_snapshot!(settings, @r#"
    # vmserial begin settings
    GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty0 console=ttyS0,115200"
    unset GRUB_HIDDEN_TIMEOUT GRUB_HIDDEN_TIMEOUT_QUIET
    GRUB_TIMEOUT_STYLE=menu
    GRUB_TIMEOUT=5
    GRUB_TERMINAL="console serial"
    GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200 --word=8 --parity=no --stop=1"
    # vmserial end settings
    "#);
    // Without that folder, which only Debian's GRUB reads, it is the one file, and grub2-mkconfig.
    let suse = GRUB
        .replace("path /etc/default/grub.d\n", "")
        .replace("/boot/grub/", "/boot/grub2/")
        .replace(
            "program update-grub\nprogram grub-mkconfig",
            "program grub2-mkconfig",
        );
    let steps = super::steps(&place(), &facts(&suse), &wish, &Files::new()).unwrap();
    assert!(
        steps[1].summary.ends_with("in `/etc/default/grub`"),
        "{}",
        steps[1].summary
    );
    assert_eq!(
        steps[2].action,
        Action::Run(Invocation::changes(
            "grub2-mkconfig",
            ["-o", "/boot/grub2/grub.cfg"]
        ))
    );
}

#[test]
fn once_is_refused_where_grub_could_not_take_it_back() {
    let once = BootWish { once: true, ..wish() };
    let good = steps(&place(), &facts(GRUB), &once, &debian()).unwrap();
    assert_eq!(
        good[2].action,
        Action::Run(Invocation::changes("grub-reboot", [ENTRY_ID]))
    );
    let table = [
        ("/dev/mapper/vg-root / ext4 rw", "LVM or RAID"),
        ("/dev/md0 / ext4 rw", "LVM or RAID"),
        ("/dev/vda1 / btrfs rw", "it lies on btrfs"),
        ("/dev/vda1 / ext4 ro", "read-only"),
    ];
    for (mount, reason) in table {
        let facts = facts(&GRUB.replace("/dev/vda1 / ext4 rw", mount));
        let problem = steps(&place(), &facts, &once, &debian()).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
        assert!(
            problem.message.contains(reason) && problem.message.contains("hang in kgdbwait"),
            "{problem}"
        );
    }
}

#[test]
fn what_cannot_be_is_told() {
    let table: [(&str, BootWish, Files, &str); 5] = [
        ("os ID=alpine\n", wish(), Files::new(), "no boot loader"),
        (
            GRUB,
            wish(),
            Files::from([(
                "/boot/grub/grub.cfg".to_owned(),
                Some(b"menuentry 'x' {\n}\n".to_vec()),
            )]),
            "does not read `/boot/grub/custom.cfg`",
        ),
        (
            GRUB,
            wish(),
            Files::from([(
                "/boot/grub/grub.cfg".to_owned(),
                Some(b"source custom.cfg\n".to_vec()),
            )]),
            "no entry of the kernel 6.1.0-28-amd64",
        ),
        (
            GRUB,
            BootWish {
                entry: Some(EntryWish {
                    append: Some("$(reboot)".to_owned()),
                    ..entry()
                }),
                ..BootWish::default()
            },
            debian(),
            "cannot hold",
        ),
        (
            GRUB,
            BootWish {
                entry: Some(EntryWish {
                    append: Some("a;b".to_owned()),
                    ..entry()
                }),
                ..BootWish::default()
            },
            debian(),
            "cannot hold",
        ),
    ];
    for (more, wish, files, expected) in table {
        let problem = steps(&place(), &facts(more), &wish, &files).unwrap_err();
        assert!(problem.message.contains(expected), "{expected}: {problem}");
    }
    let module = facts(GRUB);
    let module = LinuxFacts {
        kgdboc_module: crate::guest::linux::facts::KgdbocModule::Loadable,
        ..module
    };
    let problem = steps(&place(), &module, &wish(), &debian()).unwrap_err();
    assert!(
        problem.message.contains("cannot stop it at its boot"),
        "{problem}"
    );
}
