//! `vmserial guest linux`: what it tells of a guest, through each way in, and what it changes in a mounted one.

use crate::kit::{Ended, Sandbox};
use crate::sshd::{self, Sshd};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 8] = [
        (
            "a_kernel_without_kgdb_is_told_at_once",
            a_kernel_without_kgdb_is_told_at_once,
        ),
        ("this_machine_is_looked_at", this_machine_is_looked_at),
        (
            "a_mounted_guest_keeps_sysrq_and_gets_it_back",
            a_mounted_guest_keeps_sysrq_and_gets_it_back,
        ),
        (
            "a_boot_entry_is_one_that_grub_takes_and_goes_without_a_trace",
            a_boot_entry_is_one_that_grub_takes_and_goes_without_a_trace,
        ),
        (
            "by_hand_prints_the_lines_and_wants_a_terminal",
            by_hand_prints_the_lines_and_wants_a_terminal,
        ),
        (
            "an_apply_tells_what_is_left_for_the_guest",
            an_apply_tells_what_is_left_for_the_guest,
        ),
        ("what_has_no_way_in_is_refused", what_has_no_way_in_is_refused),
        (
            "a_profile_names_the_way_and_the_port",
            a_profile_names_the_way_and_the_port,
        ),
    ];
    let mut trials: Vec<Trial> = all
        .into_iter()
        .map(|(name, run)| {
            Trial::test(format!("guest_linux::{name}"), move || {
                run();
                Ok::<_, Failed>(())
            })
        })
        .collect();
    trials.push(Trial::ignorable_test(
        "guest_linux::ssh_tells_the_same_as_the_machine_itself",
        || {
            if let Some(reason) = sshd::missing() {
                return Ok(Completion::ignored_with(reason));
            }
            ssh_tells_the_same_as_the_machine_itself();
            Ok::<_, Failed>(Completion::Completed)
        },
    ));
    trials
}

fn guest(sandbox: &Sandbox, words: &str) -> Ended {
    sandbox.run(["guest", "linux"].into_iter().chain(words.split_whitespace()))
}

fn json(ended: &Ended) -> serde_json::Value {
    let line = ended.stdout.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// The root of a guest with one kernel.
fn root(sandbox: &Sandbox, options: &str) -> String {
    let root = sandbox.path("root");
    for folder in ["boot/grub", "etc/sysctl.d"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    write("boot/vmlinuz-6.1.0-28-amd64", "");
    write("boot/config-6.1.0-28-amd64", options);
    write("boot/grub/grub.cfg", "");
    write(
        "etc/os-release",
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
    );
    root.display().to_string()
}

const DEBIAN: &str = "CONFIG_MAGIC_SYSRQ=y\nCONFIG_RANDOMIZE_BASE=y\n# CONFIG_KGDB is not set\n";
const ABLE: &str = "CONFIG_MAGIC_SYSRQ=y\nCONFIG_KGDB=y\nCONFIG_KGDB_SERIAL_CONSOLE=y\n";

fn a_kernel_without_kgdb_is_told_at_once() {
    let sandbox = Sandbox::new();
    let root = root(&sandbox, DEBIAN);
    let shown = guest(&sandbox, &format!("--root {root} --show"));
    assert_eq!(shown.code, Some(5), "{shown:?}");
    assert!(
        shown.stdout.starts_with("Debian GNU/Linux 12 (bookworm) on "),
        "{shown:?}"
    );
    assert!(shown.stdout.contains("MISSING  kernel: "), "{shown:?}");
    for part in [
        "without CONFIG_KGDB (`/boot/config-6.1.0-28-amd64`)",
        "gdb stub",
        "`transport: {gdbstub",
    ] {
        assert!(shown.stderr.contains(part), "{part}: {shown:?}");
    }
    let value = json(&guest(&sandbox, &format!("--root {root} --show --json")));
    assert_eq!(value["kgdb"], "without");
    assert_eq!(value["facts"]["config"]["options"]["KGDB"], "no");
}

fn this_machine_is_looked_at() {
    let sandbox = Sandbox::new();
    let value = json(&guest(&sandbox, "--local --show --json"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(value["facts"]["kernel"], release.trim());
    assert_eq!(value["guest"], "this machine");
}

fn ssh_tells_the_same_as_the_machine_itself() {
    let sandbox = Sandbox::new();
    let _server = Sshd::start_with(&sandbox, "");
    let here = json(&guest(&sandbox, "--local --show --json"));
    let there = json(&guest(&sandbox, "--host lab --show --json"));
    assert_eq!(there["guest"], "lab", "{there}");
    for fact in ["kernel", "config", "ttys", "os", "mounts", "uid", "kgdboc_module"] {
        assert_eq!(here["facts"][fact], there["facts"][fact], "{fact}");
    }
}

fn a_mounted_guest_keeps_sysrq_and_gets_it_back() {
    let sandbox = Sandbox::new();
    let root = root(&sandbox, ABLE);
    let file = Path::new(&root).join("etc/sysctl.d/90-vmserial.conf");
    let words = format!("--root {root} --keep-sysrq");
    let planned = guest(&sandbox, &format!("{words} --plan"));
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(planned.stdout.contains("+kernel.sysrq = 1"), "{planned:?}");
    let unasked = guest(&sandbox, &words);
    assert_eq!((unasked.code, file.exists()), (Some(5), false), "{unasked:?}");
    let applied = guest(&sandbox, &format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .ends_with("\nkernel.sysrq = 1\n")
    );
    let again = guest(&sandbox, &format!("{words} --yes"));
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    let undone = sandbox.run(["undo", "--yes"]);
    assert_eq!((undone.code, file.exists()), (Some(0), false), "{undone:?}");
    // A file of the user's own at that place returns byte for byte.
    fs::write(&file, "kernel.sysrq=0 # mine").unwrap();
    assert_eq!(guest(&sandbox, &format!("{words} --yes")).code, Some(0));
    assert_eq!(sandbox.run(["undo", "--yes"]).code, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "kernel.sysrq=0 # mine");
}

fn what_has_no_way_in_is_refused() {
    let sandbox = Sandbox::new();
    let table = [
        ("--show", 2, "there is no way into the guest"),
        ("--local", 2, "nothing is wanted of the guest"),
        ("--local --host x --show", 2, "cannot be used with"),
        (
            "--root /no/such/folder --show",
            4,
            "there is no folder `/no/such/folder`",
        ),
        ("--local --tty ttyS99 --plan", 5, "serial port"),
        ("--local --log-level 9 --plan", 2, "9"),
    ];
    for (words, code, part) in table {
        let ended = guest(&sandbox, words);
        // A machine whose kernel has kgdb misses the port instead.
        let right = ended.code == Some(code) || (words.contains("ttyS99") && ended.code == Some(4));
        assert!(right && ended.stderr.contains(part), "{words}: {ended:?}");
    }
    let windows = sandbox.run(["guest", "windows"]);
    assert_eq!(windows.code, Some(2), "{windows:?}");
    assert_eq!(sandbox.run(["guest", "plan9"]).code, Some(2));
}

fn a_profile_names_the_way_and_the_port() {
    let sandbox = Sandbox::new();
    let profile = |guest: &str| {
        let text = format!(
            "version: 1\ntargets:\n  dev: {{host: vmware, vm: x.vmx, ports: [{{port: 2, as: gdb}}]{guest}}}\n"
        );
        fs::write(sandbox.path("lab.yaml"), text).unwrap();
        sandbox.path("lab.yaml").display().to_string()
    };
    let none = guest(&sandbox, &format!("{} --show", profile("")));
    assert_eq!(none.code, Some(3), "{none:?}");
    assert!(none.stderr.contains("targets.dev.guest"), "{none:?}");
    let windows = guest(&sandbox, &format!("{} --show", profile(", guest: {os: windows}")));
    assert_eq!(windows.code, Some(3), "{windows:?}");
    let no_way = guest(&sandbox, &format!("{} --show", profile(", guest: {os: linux}")));
    assert_eq!(no_way.code, Some(2), "{no_way:?}");
    // Nobody is at that address: the way of the profile was taken.
    let ssh = guest(
        &sandbox,
        &format!(
            "{} --show",
            profile(", guest: {os: linux, ssh: \"root@127.0.0.1:1\"}")
        ),
    );
    assert!(ssh.code != Some(0) && ssh.stderr.contains("127.0.0.1"), "{ssh:?}");
}

/// The root of a Debian guest with GRUB, whose configuration GRUB's own checker takes.
fn debian(sandbox: &Sandbox) -> String {
    let root = root(sandbox, ABLE);
    let grub = include_str!("../data/guest/debian-12.grub.cfg");
    fs::write(Path::new(&root).join("boot/grub/grub.cfg"), grub).unwrap();
    fs::create_dir_all(Path::new(&root).join("etc/default/grub.d")).unwrap();
    root
}

/// Every file below a folder, with its content.
fn tree(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    all
}

fn a_boot_entry_is_one_that_grub_takes_and_goes_without_a_trace() {
    let sandbox = Sandbox::new();
    let root = debian(&sandbox);
    let custom = Path::new(&root).join("boot/grub/custom.cfg");
    // Somebody's own lines in that file stay, whatever becomes of ours.
    fs::write(&custom, "set color_normal=white/black").unwrap();
    let before = tree(Path::new(&root));
    let words = format!(
        "--root {root} --tty ttyS1 --boot-entry --kgdbwait --nokaslr --append loglevel=8 --console ttyS0 --menu --menu-on-serial 0"
    );
    let applied = guest(&sandbox, &format!("{words} --yes"));
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let checked = std::process::Command::new("grub-script-check")
        .arg(&custom)
        .output()
        .expect("grub-common is installed");
    assert!(checked.status.success(), "{checked:?}");
    let text = fs::read_to_string(&custom).unwrap();
    let line = "\tlinux\t/boot/vmlinuz-6.1.0-28-amd64 root=UUID=4492a93c-91e2-4979-b5b9-71e32901511c ro quiet \
        console=tty0 console=ttyS0,115200 kgdboc=ttyS1,115200 kgdbwait rodata=off nokaslr sysrq_always_enabled loglevel=8\n";
    assert!(
        text.contains(line) && text.contains("--id 'vmserial-kgdb' {"),
        "{text}"
    );
    assert!(
        !text.contains("savedefault"),
        "it would become the default: {text}"
    );
    // What is sourced by a shell is sound for one.
    let settings = Path::new(&root).join("etc/default/grub.d/90-vmserial.cfg");
    let sourced = std::process::Command::new("sh")
        .args([
            "-eu",
            "-c",
            "GRUB_CMDLINE_LINUX=quiet; . \"$0\"; echo \"$GRUB_CMDLINE_LINUX|$GRUB_TIMEOUT|$GRUB_TERMINAL\"",
        ])
        .arg(&settings)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&sourced.stdout),
        "quiet console=tty0 console=ttyS0,115200|5|console serial\n"
    );
    let again = guest(&sandbox, &format!("{words} --yes"));
    assert!(again.stderr.starts_with("Nothing to change."), "{again:?}");
    let shown = guest(&sandbox, &format!("--root {root} --show"));
    for part in [
        "one made by hand in `/boot/grub/grub.cfg`",
        "vmserial's in `/boot/grub/custom.cfg`",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let undone = sandbox.run(["undo", "--yes"]);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!(tree(Path::new(&root)), before);
    // A line of somebody else's that came meanwhile survives an undo.
    assert_eq!(guest(&sandbox, &format!("{words} --yes")).code, Some(0));
    let text = fs::read_to_string(&custom).unwrap();
    fs::write(&custom, format!("{text}set timeout=9\n")).unwrap();
    assert_eq!(sandbox.run(["undo", "--yes"]).code, Some(0));
    assert_eq!(
        fs::read_to_string(&custom).unwrap(),
        "set color_normal=white/black\nset timeout=9\n"
    );
    let once = guest(&sandbox, &format!("{words} --once --yes"));
    assert_eq!(once.code, Some(5), "{once:?}");
}

fn by_hand_prints_the_lines_and_wants_a_terminal() {
    let sandbox = Sandbox::new();
    let heard = sandbox.endpoint("connect:unix", "port");
    let ended = guest(&sandbox, &format!("--by-hand --tty ttyS1 --heard {heard}"));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        lines[1],
        "echo ttyS1,115200 > /sys/module/kgdboc/parameters/kgdboc"
    );
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert!(ended.stderr.contains("no terminal to wait on"), "{ended:?}");
    let planned = guest(&sandbox, "--by-hand --tty ttyS1 --plan");
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(guest(&sandbox, "--by-hand --keep-sysrq").code, Some(2));
}

fn an_apply_tells_what_is_left_for_the_guest() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("x.vmx"), "config.version = \"8\"\n").unwrap();
    fs::write(
        sandbox.path("lab.yaml"),
        "version: 1\ntargets:\n  dev: {host: vmware, vm: x.vmx, ports: [{port: 1, as: gdb}], guest: {os: linux, ssh: g, boot_entry: {nokaslr: true}}}\n",
    )
    .unwrap();
    let profile = sandbox.path("lab.yaml").display().to_string();
    let planned = sandbox.run(["plan", &profile]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned.stdout.contains(
            "the inside of the guest (kgdboc, sysctl, boot entry) is left as it is: the VM does not run."
        ),
        "{planned:?}"
    );
}
