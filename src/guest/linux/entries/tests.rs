//! Layouts of Fedora, RHEL 9 and systemd-boot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::guest::linux::boot::{ConsoleWish, EntryWish, files_to_read, steps as boot_steps};
use crate::model::HostRef;
use crate::plan::Action;
use crate::render;

const FEDORA: &str = "title Fedora Linux (6.11.4-301.fc41.x86_64) 41 (Server Edition)\nversion 6.11.4-301.fc41.x86_64\nlinux /vmlinuz-6.11.4-301.fc41.x86_64\ninitrd /initramfs-6.11.4-301.fc41.x86_64.img $tuned_initrd\noptions root=UUID=1234 ro rhgb quiet $tuned_params\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n";
const ARCH: &str = "title   Arch Linux\nsort-key arch\nlinux   /vmlinuz-linux\ninitrd  /initramfs-linux.img\noptions root=PARTUUID=1 rw\n";

fn place() -> Place {
    Place {
        host: HostRef::Local,
        target: None,
        root: None,
    }
}

fn facts(more: &str) -> LinuxFacts {
    LinuxFacts::parse(&format!(
        "observe 1\nuid 0\nkgdboc-module there\nkgdboc \nmachine-id abcd\n{more}end 1\n"
    ))
    .unwrap()
}

fn fedora() -> (LinuxFacts, Files) {
    let entry = "/boot/loader/entries/abcd-6.11.4-301.fc41.x86_64.conf";
    let facts = facts(&format!(
        "kernel 6.11.4-301.fc41.x86_64\ncmdline BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.11.4-301.fc41.x86_64 root=UUID=1234 ro rhgb quiet\n\
         os ID=fedora\npath /boot/grub2/grub.cfg\npath /boot/grub2/grubenv\nentry {entry}\nmount /dev/vda2 /boot ext4 rw 0 0\n\
         program grub2-reboot\nprogram grub2-editenv\nprogram grubby\n"
    ));
    let files = Files::from([
        (entry.to_owned(), Some(FEDORA.as_bytes().to_vec())),
        (
            "/boot/grub2/grubenv".to_owned(),
            Some(b"# GRUB Environment Block\nsaved_entry=abcd-6.11.4-301.fc41.x86_64\n".to_vec()),
        ),
        (
            "/etc/default/grub".to_owned(),
            Some(b"GRUB_CMDLINE_LINUX=\"rhgb quiet\"\nGRUB_ENABLE_BLSCFG=true\n".to_vec()),
        ),
    ]);
    (facts, files)
}

fn wish() -> BootWish {
    BootWish {
        entry: Some(EntryWish {
            kgdb: ("ttyS0".to_owned(), 115_200),
            kgdbwait: false,
            nokaslr: true,
            append: None,
        }),
        ..BootWish::default()
    }
}

fn console() -> BootWish {
    BootWish {
        console: Some(ConsoleWish {
            port: ("ttyS0".to_owned(), 115_200),
            screen_last: true,
        }),
        ..BootWish::default()
    }
}

fn apply(steps: &[Step], files: &Files) -> Files {
    let mut files = files.clone();
    for step in steps {
        if let Action::Edit(edit) = &step.action {
            let path = edit.path.as_str().to_owned();
            let before = files.get(&path).cloned().flatten();
            files.insert(
                path,
                render::edit::apply(edit.format, before.as_deref(), &edit.operations).unwrap(),
            );
        }
    }
    files
}

fn shown(files: &Files, path: &str) -> String {
    String::from_utf8(files[path].clone().unwrap()).unwrap()
}

#[test]
fn fedora_gets_an_entry_that_its_mkconfig_leaves_alone() {
    let (facts, files) = fedora();
    let path = "/boot/loader/entries/abcd-6.11.4-301.fc41.x86_64-debug-vmserial-kgdb.conf";
    assert!(files_to_read(&facts, &wish()).contains(&path.to_owned()));
    let first = boot_steps(&place(), &facts, &wish(), &files).unwrap();
    let after = apply(&first, &files);
    insta::assert_snapshot!(shown(&after, path), @r#"
    # Set by vmserial, taken back by `vmserial undo`.
    title Fedora Linux (6.11.4-301.fc41.x86_64) 41 (Server Edition), kgdb
    version 6.11.4-301.fc41.x86_64
    linux /vmlinuz-6.11.4-301.fc41.x86_64
    initrd /initramfs-6.11.4-301.fc41.x86_64.img $tuned_initrd
    options root=UUID=1234 ro rhgb quiet $tuned_params kgdboc=ttyS0,115200 nokaslr sysrq_always_enabled
    grub_users $grub_users
    grub_arg --unrestricted
    grub_class fedora
    "#);
    assert!(shown(&after, "/etc/default/grub").ends_with(
        "# vmserial begin kgdb\nGRUB_CMDLINE_LINUX_DEBUG=\"$GRUB_CMDLINE_LINUX_DEBUG kgdboc=ttyS0,115200 nokaslr sysrq_always_enabled\"\n# vmserial end kgdb\n"
    ));
    assert_eq!(boot_steps(&place(), &facts, &wish(), &after).unwrap(), []);
    let once = BootWish { once: true, ..wish() };
    let steps = boot_steps(&place(), &facts, &once, &files).unwrap();
    assert_eq!(
        steps[2].summary,
        "boot `abcd-6.11.4-301.fc41.x86_64-debug-vmserial-kgdb` next time, once"
    );
}

#[test]
fn a_new_entry_never_becomes_the_default() {
    let (facts, mut files) = fedora();
    files.insert(
        "/boot/grub2/grubenv".to_owned(),
        Some(b"# GRUB Environment Block\nsaved_entry=\n".to_vec()),
    );
    let problem = boot_steps(&place(), &facts, &wish(), &files).unwrap_err();
    assert!(problem.message.contains("names no default entry"), "{problem}");
    assert!(
        problem.hints[0].contains("grubby --set-default=/boot/vmlinuz-6.11.4-301.fc41.x86_64"),
        "{problem:?}"
    );
}

#[test]
fn a_console_stands_on_every_kernel_and_on_those_to_come() {
    let (facts, files) = fedora();
    let first = boot_steps(&place(), &facts, &console(), &files).unwrap();
    let after = apply(&first, &files);
    let arguments = "console=ttyS0,115200 console=tty0";
    assert!(shown(&after, &facts.entries[0]).contains(&format!(
        "options root=UUID=1234 ro rhgb quiet $tuned_params {arguments}\n"
    )));
    assert_eq!(
        shown(&after, CMDLINE),
        format!("root=UUID=1234 ro rhgb quiet {arguments}\n")
    );
    assert!(
        shown(&after, "/etc/default/grub")
            .contains(&format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {arguments}\""))
    );
    assert_eq!(boot_steps(&place(), &facts, &console(), &after).unwrap(), []);
}

#[test]
fn systemd_boot_gets_its_entry_behind_all_others() {
    let entry = "/boot/loader/entries/arch.conf";
    let facts = facts(&format!(
        "kernel linux\nos ID=arch\npath /boot/loader/loader.conf\nentry {entry}\nprogram bootctl\n"
    ));
    let mut files = Files::from([
        (entry.to_owned(), Some(ARCH.as_bytes().to_vec())),
        (
            "/boot/loader/loader.conf".to_owned(),
            Some(b"timeout 3\n".to_vec()),
        ),
    ]);
    assert!(
        boot_steps(&place(), &facts, &wish(), &files).unwrap_err().hints[0]
            .contains("`default *-linux.conf`")
    );
    files.insert(
        "/boot/loader/loader.conf".to_owned(),
        Some(b"default arch.conf\n".to_vec()),
    );
    let once = BootWish { once: true, ..wish() };
    let steps = boot_steps(&place(), &facts, &once, &files).unwrap();
    let after = apply(&steps, &files);
    insta::assert_snapshot!(shown(&after, "/boot/loader/entries/abcd-linux-debug-vmserial-kgdb.conf"), @r#"
    # Set by vmserial, taken back by `vmserial undo`.
    title   Arch Linux, kgdb
    linux   /vmlinuz-linux
    initrd  /initramfs-linux.img
    options root=PARTUUID=1 rw kgdboc=ttyS0,115200 nokaslr sysrq_always_enabled
    sort-key zz-vmserial
    "#);
    assert!(
        steps[1]
            .summary
            .starts_with("boot `abcd-linux-debug-vmserial-kgdb.conf` next time"),
        "{}",
        steps[1].summary
    );
}

#[test]
fn consoles_of_the_same_port_are_replaced() {
    let table = [
        ("a b", "a b console=tty0 console=ttyS0,115200"),
        (
            "a console=ttyS0,9600 b console=tty0",
            "a b console=tty0 console=ttyS0,115200",
        ),
        (
            "console=ttyS1 a",
            "console=ttyS1 a console=tty0 console=ttyS0,115200",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(
            with_arguments(line, "console=tty0 console=ttyS0,115200"),
            expected
        );
    }
}

#[test]
fn a_kernel_without_a_version_in_its_file_s_name_is_known_by_its_arguments() {
    let entry = |name: &str| format!("/boot/loader/entries/{name}.conf");
    let observed = |line: &str| {
        facts(&format!(
            "kernel 6.11.5-arch1-1\ncmdline {line}\nos ID=arch\npath /boot/loader/loader.conf\nentry {}\nentry {}\nprogram bootctl\n",
            entry("arch"),
            entry("lts")
        ))
    };
    let lts = ARCH
        .replace("-linux", "-linux-lts")
        .replace("PARTUUID=1 rw", "PARTUUID=1 rw quiet");
    let files = Files::from([
        (entry("arch"), Some(ARCH.as_bytes().to_vec())),
        (entry("lts"), Some(lts.into_bytes())),
        (
            "/boot/loader/loader.conf".to_owned(),
            Some(b"default arch.conf\n".to_vec()),
        ),
    ]);
    let planned = |line: &str| {
        let facts = observed(line);
        let steps = boot_steps(&place(), &facts, &wish(), &files)?;
        Ok::<_, Problem>(shown(&apply(&steps, &files), &new_entry_path(&facts).unwrap()))
    };
    let of = |line: &str| planned(line).unwrap();
    assert!(of("initrd=\\initramfs-linux.img root=PARTUUID=1 rw").contains("/vmlinuz-linux\n"));
    assert!(of("initrd=\\initramfs-linux-lts.img root=PARTUUID=1 rw quiet").contains("/vmlinuz-linux-lts\n"));
    let problem = planned("root=PARTUUID=1 rw typed by hand").unwrap_err();
    assert!(
        problem
            .message
            .contains("has no entry of the kernel 6.11.5-arch1-1"),
        "{problem}"
    );
}

#[test]
fn a_menu_that_fedora_hides_is_shown_and_hidden_again() {
    let (facts, mut files) = fedora();
    let menu = BootWish {
        menu: true,
        ..BootWish::default()
    };
    assert_eq!(boot_steps(&place(), &facts, &menu, &files).unwrap(), []);
    files.insert(
        "/boot/grub2/grubenv".to_owned(),
        Some(b"# GRUB Environment Block\nsaved_entry=x\nmenu_auto_hide=1\n".to_vec()),
    );
    let steps = boot_steps(&place(), &facts, &menu, &files).unwrap();
    let (Action::Run(run), crate::plan::Undo::Setting(undo)) = (&steps[0].action, &steps[0].undo) else {
        panic!("{steps:?}");
    };
    assert_eq!(run.to_string(), "grub2-editenv - unset menu_auto_hide");
    assert_eq!(undo.restore.to_string(), "grub2-editenv - set 'menu_auto_hide=1'");
    assert_eq!(
        (undo.ours.as_deref(), undo.absent.as_str()),
        (None, "no menu_auto_hide")
    );
}

#[test]
fn later_kernels_are_those_with_the_higher_numbers() {
    let facts = |names: &[&str]| LinuxFacts {
        installed: names.iter().map(|name| format!("/boot/vmlinuz-{name}")).collect(),
        ..LinuxFacts::default()
    };
    let table: [(&[&str], &str); 3] = [
        (
            &["0-rescue-ab", "6.11.10-300.fc41", "6.11.4-301.fc41"],
            "6.11.10-300.fc41",
        ),
        (&["6.8.0-48-generic", "6.8.0-9-generic"], "6.8.0-48-generic"),
        (&["linux"], "linux"),
    ];
    for (names, expected) in table {
        assert_eq!(release(&facts(names)).as_deref(), Some(expected));
    }
}
