//! Boot entries and consoles in the layouts of Fedora, RHEL, openSUSE and systemd-boot, checked by GRUB's and systemd's own tools.

use crate::kit::{Ended, Sandbox};
use crate::namespace;
use libtest_mimic::{Completion, Failed, Trial};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 5] = [
        ("fedora_41", fedora_41),
        ("rhel_9", rhel_9),
        ("rocky_8_keeps_its_variables", rocky_8_keeps_its_variables),
        ("opensuse_shows_its_menu", opensuse_shows_its_menu),
        ("systemd_boot", systemd_boot),
    ];
    let mut trials: Vec<Trial> = all
        .into_iter()
        .map(|(name, run)| {
            Trial::test(format!("guest_trees::{name}"), move || {
                run();
                Ok::<_, Failed>(())
            })
        })
        .collect();
    trials.push(Trial::ignorable_test(
        "guest_trees::systemd_s_own_tool_reads_it",
        || {
            if let Some(reason) = namespace::missing() {
                return Ok(Completion::ignored_with(reason));
            }
            systemd_s_own_tool_reads_it();
            Ok::<_, Failed>(Completion::Completed)
        },
    ));
    trials
}

const WISH: &str = "--tty ttyS1 --boot-entry --kgdbwait --nokaslr --console ttyS0";
const KGDB: &str = "kgdboc=ttyS1,115200 kgdbwait rodata=off nokaslr sysrq_always_enabled";
const CONSOLE: &str = "console=tty0 console=ttyS0,115200";

/// A layout in a sandbox, with the vmserial that changes it.
struct Tree {
    sandbox: Sandbox,
    root: PathBuf,
}

impl Tree {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new();
        let root = sandbox.path("root");
        copy_tree(name, &root);
        Self { sandbox, root }
    }

    /// GRUB's environment, made by GRUB.
    fn with_environment(self, variables: &[&str]) -> Self {
        let file = self.root.join("boot/grub2/grubenv");
        for words in [&["create"][..], &[&["set"][..], variables].concat()] {
            let output = Command::new("grub-editenv").arg(&file).args(words).output();
            assert!(output.expect("grub-common is installed").status.success());
        }
        self
    }

    fn guest(&self, words: &str) -> Ended {
        let root = self.root.display().to_string();
        let all = ["guest", "linux", "--root", &root];
        self.sandbox.run(all.into_iter().chain(words.split_whitespace()))
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Applies a wish; a second time has nothing to change, and the undo leaves every file as it was.
    fn there_and_back(&self, wish: &str, look: impl FnOnce(&Self)) {
        let before = files(&self.root);
        let applied = self.guest(&format!("{wish} --yes"));
        assert_eq!(applied.code, Some(0), "{applied:?}");
        look(self);
        let again = self.guest(&format!("{wish} --yes"));
        assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
        let undone = self.sandbox.run(["undo", "--yes"]);
        assert_eq!(undone.code, Some(0), "{undone:?}");
        let after = files(&self.root);
        assert_eq!(
            before.keys().collect::<Vec<_>>(),
            after.keys().collect::<Vec<_>>(),
            "files that are there"
        );
        for (path, bytes) in &before {
            assert!(after[path] == *bytes, "{} differs", path.display());
        }
    }
}

/// Copies a layout.
pub fn copy_tree(name: &str, root: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/guest/trees")
        .join(name);
    for (path, bytes) in files(&from) {
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = below.join(path.file_name().unwrap());
            if path.is_dir() {
                walk(&path, &below, found);
            } else {
                found.insert(below, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, Path::new(""), &mut found);
    found
}

/// What a shell makes of a file of settings.
fn sourced(tree: &Tree, path: &str, variable: &str) -> String {
    // Fedora's asks for a file that this machine lacks, and goes on.
    let script = format!(". \"$0\"; printf %s \"${variable}\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(tree.root.join(path))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const MACHINE: &str = "6b3f2a1c9d8e4f5a0b1c2d3e4f5a6b7c";

fn fedora_41() {
    let newest = format!("{MACHINE}-6.11.10-300.fc41.x86_64");
    let saved = format!("saved_entry={newest}");
    let tree = Tree::new("fedora-41").with_environment(&[&saved]);
    tree.there_and_back(WISH, |tree| {
        // The newest kernel's, though an older one and the rescue entry stand before it.
        let ours = tree.text(&format!("boot/loader/entries/{newest}-debug-vmserial-kgdb.conf"));
        for line in [
            "linux /vmlinuz-6.11.10-300.fc41.x86_64\n",
            &format!("ro rhgb quiet $tuned_params {CONSOLE} {KGDB}\n"),
            "grub_arg --unrestricted\n",
        ] {
            assert!(ours.contains(line), "{line}: {ours}");
        }
        for entry in [
            newest.clone(),
            format!("{MACHINE}-6.11.4-301.fc41.x86_64"),
            format!("{MACHINE}-0-rescue"),
        ] {
            let text = tree.text(&format!("boot/loader/entries/{entry}.conf"));
            assert!(
                text.contains(&format!(" {CONSOLE}\n")) && !text.contains("kgdboc"),
                "{text}"
            );
        }
        assert_eq!(
            sourced(tree, "etc/default/grub", "GRUB_CMDLINE_LINUX"),
            format!("rhgb quiet {CONSOLE}")
        );
        // grub2-mkconfig gives these to entries with `debug` in their names.
        assert_eq!(
            sourced(tree, "etc/default/grub", "GRUB_CMDLINE_LINUX_DEBUG").trim(),
            KGDB
        );
    });
    // A menu that is not hidden is shown already; one that is hidden is the guest's own tool's.
    assert!(
        tree.guest("--menu --yes")
            .stderr
            .starts_with("Nothing to change.")
    );
    let hidden = Tree::new("fedora-41").with_environment(&[&saved, "menu_auto_hide=1"]);
    let refused = hidden.guest("--menu --yes");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused.stderr.contains("grub2-editenv - unset menu_auto_hide"),
        "{refused:?}"
    );
    let nameless = Tree::new("fedora-41").with_environment(&["x=y"]);
    let refused = nameless.guest(&format!("{WISH} --yes"));
    assert!(
        refused.code == Some(5) && refused.stderr.contains("grubby --set-default"),
        "{refused:?}"
    );
}

fn rhel_9() {
    let kernel = format!("{MACHINE}-5.14.0-427.13.1.el9_4.x86_64");
    let tree = Tree::new("rhel-9").with_environment(&[&format!("saved_entry={kernel}")]);
    tree.there_and_back(WISH, |tree| {
        let ours = tree.text(&format!("boot/loader/entries/{kernel}-debug-vmserial-kgdb.conf"));
        assert!(
            ours.contains(&format!("rd.lvm.lv=vg0/root {CONSOLE} {KGDB}\n")),
            "{ours}"
        );
        // The port was a console already, and is one once.
        let expected = format!(
            "root=/dev/mapper/vg0-root ro crashkernel=1G-4G:192M,4G-64G:256M rd.lvm.lv=vg0/root {CONSOLE}\n"
        );
        let theirs = tree.text(&format!("boot/loader/entries/{kernel}.conf"));
        assert!(theirs.contains(&format!("options {expected}")), "{theirs}");
        assert_eq!(tree.text("etc/kernel/cmdline"), expected);
    });
}

fn rocky_8_keeps_its_variables() {
    let kernel = "f620e5ae41694b8499fd1f338b4f2d03-4.18.0-147.el8.x86_64";
    let tree = Tree::new("rocky-8").with_environment(&[
        &format!("saved_entry={kernel}"),
        "kernelopts=root=UUID=80c961de ro crashkernel=auto rhgb quiet",
    ]);
    tree.there_and_back(WISH, |tree| {
        let ours = tree.text(&format!("boot/loader/entries/{kernel}-debug-vmserial-kgdb.conf"));
        assert!(
            ours.contains(&format!("options $kernelopts $tuned_params {CONSOLE} {KGDB}\n")),
            "{ours}"
        );
        assert!(!ours.contains("\nid "), "that name is the model's: {ours}");
        let theirs = tree.text(&format!("boot/loader/entries/{kernel}.conf"));
        assert!(
            theirs.contains(&format!("options $kernelopts $tuned_params {CONSOLE}\n")),
            "{theirs}"
        );
        assert!(theirs.contains("\nid rocky-"), "{theirs}");
    });
}

fn opensuse_shows_its_menu() {
    let tree = Tree::new("opensuse-leap-15.6").with_environment(&["saved_entry="]);
    let wish = format!("{WISH} --menu --menu-on-serial 0");
    tree.there_and_back(&wish, |tree| {
        let path = tree.root.join("boot/grub2/custom.cfg");
        let checked = Command::new("grub-script-check").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let ours = tree.text("boot/grub2/custom.cfg");
        for line in [
            &format!("${{extra_cmdline}} splash=silent quiet showopts {CONSOLE} {KGDB}\n"),
            "\tinitrd\t/boot/initrd-6.4.0-150600.21-default\n",
            "--id 'vmserial-kgdb' {\n",
        ] {
            assert!(ours.contains(line), "{line}: {ours}");
        }
        let settings = "etc/default/grub";
        assert_eq!(sourced(tree, settings, "GRUB_CMDLINE_LINUX").trim(), CONSOLE);
        assert_eq!(sourced(tree, settings, "GRUB_TIMEOUT_STYLE"), "menu");
        // The old way of hiding it would win.
        assert_eq!(sourced(tree, settings, "GRUB_HIDDEN_TIMEOUT"), "");
        assert_eq!(sourced(tree, settings, "GRUB_TERMINAL"), "console serial");
    });
}

const ARCH_ENTRY: &str = "0123456789abcdef0123456789abcdef-linux-debug-vmserial-kgdb.conf";

fn systemd_boot() {
    let tree = Tree::new("arch-systemd-boot");
    tree.there_and_back(&format!("{WISH} --menu"), |tree| {
        let ours = tree.text(&format!("boot/loader/entries/{ARCH_ENTRY}"));
        // The default's, not the fallback's.
        assert!(ours.contains("initrd  /initramfs-linux.img\n"), "{ours}");
        assert!(ours.contains(&format!("rw {CONSOLE} {KGDB}\n")), "{ours}");
        assert!(tree.text("boot/loader/loader.conf").contains("\ntimeout 5\n"));
        for entry in ["arch.conf", "arch-fallback.conf"] {
            let text = tree.text(&format!("boot/loader/entries/{entry}"));
            assert!(text.contains(&format!("rw {CONSOLE}\n")), "{text}");
        }
    });
    let refused = tree.guest("--menu-on-serial 0 --yes");
    assert_eq!(refused.code, Some(5), "{refused:?}");
}

fn systemd_s_own_tool_reads_it() {
    let tree = Tree::new("arch-systemd-boot");
    let applied = tree.guest(&format!("{WISH} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let script = "mount -t tmpfs none /mnt && cp -r \"$0\"/. /mnt && mkdir /mnt/EFI && \
        SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --no-pager --esp-path=/mnt list";
    let output = namespace::way()
        .unshare()
        .args(["sh", "-e", "-c", script])
        .arg(tree.root.join("boot"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let of = |id: &str| {
        let all = text.split("\n\n");
        let mut ours = all.filter(|entry| entry.contains(&format!("id: {id}\n")));
        ours.next().unwrap_or_else(|| panic!("{id}: {text}")).to_owned()
    };
    assert!(of("arch.conf").contains("(default)"), "{text}");
    let ours = of(ARCH_ENTRY);
    assert!(
        !ours.contains("(default)") && ours.contains("title: Arch Linux, kgdb"),
        "{ours}"
    );
    assert!(ours.contains(KGDB), "{ours}");
}
