//! What a guest can do, from what was seen of it.

use super::boot_loader::BootLoader;
use super::facts::{KgdbocModule, LinuxFacts, Setting};
use crate::model::{Check, CheckState, FailureKind, Problem};

/// What there is instead of kgdb.
const GDB_STUB: &str = "The hypervisor's gdb stub needs nothing of the guest's kernel: `transport: {gdbstub: {port: 1234}}` in the \
     profile (QEMU, VMware), then `vmserial debug`.";

/// Whether the kernel has a debugger on a serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kgdb {
    /// `kgdboc` is in the kernel, or loaded.
    Ready,
    /// `kgdboc` is a module: it is loaded first, and cannot stop the kernel at its boot (`kgdbwait`).
    Loadable,
    /// It has none, for this reason.
    Without(String),
}

/// Tells whether the kernel has kgdb on a serial port. What runs counts more than what a file says.
pub fn kgdb(facts: &LinuxFacts) -> Kgdb {
    let kernel = facts.kernel.as_deref().unwrap_or("that is installed");
    if facts.kgdboc_module == KgdbocModule::There {
        return Kgdb::Ready;
    }
    if let Some(config) = &facts.config {
        let source = &config.source;
        return match (config.option("KGDB"), config.option("KGDB_SERIAL_CONSOLE")) {
            (Setting::No, _) => Kgdb::Without(format!(
                "the kernel {kernel} was built without CONFIG_KGDB (`{source}`)"
            )),
            (_, Setting::No) => Kgdb::Without(format!(
                "the kernel {kernel} was built without CONFIG_KGDB_SERIAL_CONSOLE (`{source}`)"
            )),
            (_, Setting::Module) => Kgdb::Loadable,
            (_, Setting::Yes) => Kgdb::Ready,
        };
    }
    match facts.kgdboc_module {
        KgdbocModule::There | KgdbocModule::BuiltIn => Kgdb::Ready,
        KgdbocModule::Loadable => Kgdb::Loadable,
        KgdbocModule::Absent => Kgdb::Without(format!(
            "the kernel {kernel} has no kgdboc, and no module of that name"
        )),
        KgdbocModule::Unknown => Kgdb::Without(format!(
            "the kernel {kernel} has no kgdboc, and nothing tells how it was configured"
        )),
    }
}

/// Refuses a guest whose kernel cannot be debugged through a serial port, with the way out.
///
/// # Errors
///
/// [`FailureKind::Precondition`]: no kgdb in the kernel, or lockdown.
pub fn check_able(facts: &LinuxFacts) -> Result<(), Problem> {
    if let Kgdb::Without(reason) = kgdb(facts) {
        return Err(Problem::new(FailureKind::Precondition, format!("{reason}: it cannot be debugged through a serial port"))
            .hint(GDB_STUB)
            .hint("Or boot a kernel with CONFIG_KGDB=y and CONFIG_KGDB_SERIAL_CONSOLE=y (Debian's own has neither; those of Ubuntu, Fedora and Arch have both)."));
    }
    if let Some(lockdown) = locked_down(facts) {
        let message = format!("the guest's kernel is locked down (`{lockdown}`): it lets no debugger in");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Switch the VM's Secure Boot off, and take `lockdown=` from the kernel's command line; then boot again.")
            .hint(GDB_STUB));
    }
    Ok(())
}

/// Returns the lockdown in force, if there is one.
fn locked_down(facts: &LinuxFacts) -> Option<&str> {
    facts.lockdown.as_deref().filter(|lockdown| *lockdown != "none")
}

/// Looks at all that matters for debugging, in the order in which people ask for it.
pub fn checks(facts: &LinuxFacts) -> Vec<Check> {
    vec![
        kernel(facts),
        lockdown(facts),
        serial_ports(facts),
        kgdboc(facts),
        sysrq(facts),
        kaslr(facts),
        console(facts),
        boot_loader(facts),
        boot_entries(facts),
        rights(facts),
    ]
}

fn kernel(facts: &LinuxFacts) -> Check {
    let release = facts.kernel.as_deref().unwrap_or("(a root folder, nothing runs)");
    let source = match &facts.config {
        Some(config) => format!("`{}`", config.source),
        None => "what runs; its configuration is nowhere to be found".to_owned(),
    };
    match kgdb(facts) {
        Kgdb::Ready => Check::new(
            "kernel",
            CheckState::Good,
            format!("{release} has kgdb on a serial port ({source})"),
        ),
        Kgdb::Loadable => Check::new(
            "kernel",
            CheckState::Good,
            format!("{release} has kgdboc as a module ({source})"),
        )
        .mend("It cannot stop the kernel at its boot (`kgdbwait`)."),
        Kgdb::Without(reason) => Check::new("kernel", CheckState::Missing, reason).mend(GDB_STUB),
    }
}

fn lockdown(facts: &LinuxFacts) -> Check {
    let secure_boot = match facts.secure_boot {
        Some(true) => "Secure Boot is on",
        Some(false) => "Secure Boot is off",
        None if facts.efi => "Secure Boot is not known",
        None => "no UEFI, so no Secure Boot",
    };
    match locked_down(facts) {
        Some(lockdown) => Check::new(
            "lockdown",
            CheckState::Missing,
            format!("`{lockdown}`; {secure_boot}"),
        )
        .mend("Switch the VM's Secure Boot off: a kernel that is locked down lets no debugger in."),
        None => Check::new("lockdown", CheckState::Good, format!("none; {secure_boot}")),
    }
}

fn serial_ports(facts: &LinuxFacts) -> Check {
    let ports: Vec<String> = facts
        .ttys
        .iter()
        .filter(|tty| tty.present)
        .map(|tty| {
            let mut said = tty
                .io_port
                .iter()
                .map(|port| format!("I/O {port}"))
                .collect::<Vec<_>>();
            if tty.console {
                said.push("kernel console".to_owned());
            }
            said.extend(tty.readers.iter().map(|program| format!("read by {program}")));
            if said.is_empty() {
                tty.name.clone()
            } else {
                format!("{} ({})", tty.name, said.join(", "))
            }
        })
        .collect();
    if ports.is_empty() {
        return Check::new("serial ports", CheckState::Missing, "the kernel found none")
            .mend("Give the VM a port (`vmserial setup`), and power it off and on.");
    }
    Check::new("serial ports", CheckState::Good, ports.join(", "))
}

fn kgdboc(facts: &LinuxFacts) -> Check {
    match facts.kgdboc.as_deref() {
        Some("") => Check::new("kgdboc", CheckState::Advice, "set to no port")
            .mend("`vmserial guest linux --tty ttyS1` sets it, without a reboot."),
        Some(value) => Check::new("kgdboc", CheckState::Good, format!("`{value}`")),
        None => Check::new(
            "kgdboc",
            CheckState::NotLookedAt,
            "there is no such parameter now",
        ),
    }
}

fn sysrq(facts: &LinuxFacts) -> Check {
    match facts.sysrq {
        _ if facts.booted_with("sysrq_always_enabled") => {
            Check::new("SysRq", CheckState::Good, "always enabled by the command line: BREAK and `g` break in")
        }
        Some(1) => Check::new("SysRq", CheckState::Good, "1: BREAK and `g` break in"),
        // `g` has no bit of its own in the mask (kernel/debug/debug_core.c), so no mask but 1 lets it through.
        Some(mask) => Check::new("SysRq", CheckState::Advice, format!("{mask}: BREAK and `g` are refused, whatever the mask"))
            .mend("`vmserial guest linux` sets kernel.sysrq to 1; `echo g > /proc/sysrq-trigger` works with every mask."),
        None if facts.kernel.is_none() => Check::new("SysRq", CheckState::NotLookedAt, "nothing runs"),
        None => Check::new("SysRq", CheckState::Missing, "the kernel has none (CONFIG_MAGIC_SYSRQ): only gdb's own breakpoints and `kgdbwait` stop it"),
    }
}

fn kaslr(facts: &LinuxFacts) -> Check {
    if facts.booted_with("nokaslr") {
        return Check::new("KASLR", CheckState::Good, "off by the command line");
    }
    match &facts.config {
        Some(config) if config.option("RANDOMIZE_BASE") == Setting::No => {
            Check::new("KASLR", CheckState::Good, "not in this kernel")
        }
        Some(_) => Check::new(
            "KASLR",
            CheckState::Advice,
            "on: gdb must be told how far the kernel was moved",
        )
        .mend("A boot entry with `nokaslr` leaves it where vmlinux says (`--boot-entry --nokaslr`)."),
        None => Check::new(
            "KASLR",
            CheckState::NotLookedAt,
            "the kernel's configuration is not known",
        ),
    }
}

fn console(facts: &LinuxFacts) -> Check {
    let level = facts
        .printk
        .as_deref()
        .and_then(|line| line.split_whitespace().next());
    let level = level
        .map(|level| format!("; messages below level {level}"))
        .unwrap_or_default();
    let serial: Vec<&str> = facts
        .ttys
        .iter()
        .filter(|tty| tty.console)
        .map(|tty| tty.name.as_str())
        .collect();
    if serial.is_empty() {
        return Check::new(
            "console",
            CheckState::Advice,
            "no serial port is a console of the kernel: BREAK needs one that is",
        )
        .mend("`vmserial guest linux --console persistent` makes one, from the next boot on.");
    }
    Check::new(
        "console",
        CheckState::Good,
        format!("{}{level}", serial.join(", ")),
    )
}

fn boot_loader(facts: &LinuxFacts) -> Check {
    match BootLoader::of(facts) {
        Some(loader) => Check::new("boot loader", CheckState::Good, loader.to_string()),
        None => Check::new(
            "boot loader",
            CheckState::Advice,
            "none that vmserial knows (GRUB, systemd-boot)",
        )
        .mend("Entries for debugging are made by hand; what is set without a reboot works all the same."),
    }
}

fn boot_entries(facts: &LinuxFacts) -> Check {
    if facts.kgdb_entries.is_empty() {
        return Check::new("kgdb's boot entries", CheckState::NotLookedAt, "none");
    }
    let said: Vec<String> = facts
        .kgdb_entries
        .iter()
        .map(|(path, ours)| match ours {
            true => format!("vmserial's in `{path}`"),
            false => format!("one made by hand in `{path}`, which is left alone"),
        })
        .collect();
    Check::new("kgdb's boot entries", CheckState::Good, said.join(", "))
}

fn rights(facts: &LinuxFacts) -> Check {
    match facts.uid {
        Some(0) => Check::new("rights", CheckState::Good, "root"),
        Some(uid) => Check::new(
            "rights",
            CheckState::Missing,
            format!("user {uid} changes nothing here"),
        )
        .mend("Log in as root, or give `sudo: true` in the profile (`--sudo`)."),
        None => Check::new("rights", CheckState::NotLookedAt, "not known"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const UBUNTU: &str = include_str!("../../../tests/data/guest/ubuntu-24.04.observed");
    const SMALL: &str = include_str!("../../../tests/data/guest/small-kgdb.observed");

    fn facts(text: &str) -> LinuxFacts {
        LinuxFacts::parse(text).unwrap()
    }

    #[test]
    fn who_can_be_debugged() {
        let module = UBUNTU
            .replace("KGDB_SERIAL_CONSOLE=y", "KGDB_SERIAL_CONSOLE=m")
            .replace("kgdboc-module there\n", "");
        let debian = UBUNTU
            .replace("option CONFIG_KGDB=y", "option # CONFIG_KGDB is not set")
            .replace("kgdboc-module there\n", "");
        let no_serial = module.replace("option CONFIG_KGDB_SERIAL_CONSOLE=m\n", "");
        let unknown = SMALL.replace("kgdboc-module there\n", "");
        let no_module = unknown.replace("end 1", "modules modules.dep\nend 1");
        let loadable = unknown.replace("end 1", "kgdboc-module modules.dep\nend 1");
        let table = [
            (UBUNTU.to_owned(), "Ready"),
            (SMALL.to_owned(), "Ready"),
            (module, "Loadable"),
            (loadable, "Loadable"),
            (debian, "without CONFIG_KGDB (`/boot/config-6.8.0-48-generic`)"),
            (no_serial, "without CONFIG_KGDB_SERIAL_CONSOLE"),
            (unknown, "nothing tells how it was configured"),
            (no_module, "no module of that name"),
        ];
        for (text, expected) in table {
            let found = format!("{:?}", kgdb(&facts(&text)));
            assert!(found.contains(expected), "{found} has no {expected}");
        }
    }

    #[test]
    fn a_kernel_without_kgdb_is_told_with_the_way_out() {
        let debian = UBUNTU
            .replace("option CONFIG_KGDB=y", "option # CONFIG_KGDB is not set")
            .replace("kgdboc-module there\n", "");
        let problem = check_able(&facts(&debian)).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
        assert!(problem.hints[0].contains("gdb stub"), "{problem:?}");
    }

    #[test]
    fn a_kernel_that_is_locked_down_is_told() {
        let problem = check_able(&facts(UBUNTU)).unwrap_err();
        assert!(problem.message.contains("locked down (`integrity`)"), "{problem}");
        let free = UBUNTU.replace("none [integrity]", "[none] integrity");
        assert_eq!(check_able(&facts(&free)), Ok(()));
    }

    #[test]
    fn only_one_mask_lets_a_break_in_through() {
        for (mask, state) in [
            ("1", CheckState::Good),
            ("0", CheckState::Advice),
            ("438", CheckState::Advice),
            ("176", CheckState::Advice),
        ] {
            let text = SMALL.replace("sysrq 1", &format!("sysrq {mask}"));
            assert_eq!(sysrq(&facts(&text)).state, state, "{mask}");
        }
        let always = SMALL
            .replace("sysrq 1", "sysrq 0")
            .replace("panic=1", "sysrq_always_enabled");
        assert_eq!(sysrq(&facts(&always)).state, CheckState::Good);
        assert_eq!(
            sysrq(&facts(&SMALL.replace("sysrq 1\n", ""))).state,
            CheckState::Missing
        );
    }
}
