//! What one look at a Linux guest says (`templates/sh/guest/observe.sh`), parsed.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The script that looks. It takes the guest's root folder, or nothing, and prints one fact a line.
pub const OBSERVE: &str = include_str!("../../../templates/sh/guest/observe.sh");

/// Version of the script's words.
const VERSION: &str = "1";

/// The words are not those of a whole look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// It was cut off: not all facts came.
    #[error("the guest's answer is not whole: {0}")]
    NotWhole(String),
    /// A fact has no meaning.
    #[error("the guest's answer has a line that cannot be read: `{0}`")]
    Line(String),
}

/// How an option of the kernel is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// `=y`, or another value.
    Yes,
    /// `=m`.
    Module,
    /// Not set.
    No,
}

/// A kernel's configuration, as far as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelConfig {
    /// Where it stands.
    pub source: String,
    /// By name without `CONFIG_`.
    pub options: BTreeMap<String, Setting>,
    /// `MAGIC_SYSRQ_DEFAULT_ENABLE`, where it is said.
    pub sysrq_default: Option<u32>,
}

impl KernelConfig {
    /// Returns how an option is set: one that is not named is not set.
    pub fn option(&self, name: &str) -> Setting {
        self.options.get(name).copied().unwrap_or(Setting::No)
    }
}

/// A serial port as the guest's kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SerialTty {
    /// `ttyS0`.
    pub name: String,
    /// The kernel found a UART there.
    pub present: bool,
    /// I/O port, in the kernel's spelling: `0x3F8`.
    pub io_port: Option<String>,
    /// Interrupt.
    pub irq: Option<u32>,
    /// It is one of the kernel's consoles.
    pub console: bool,
    /// Programs that read it: `agetty`, `bash`.
    pub readers: Vec<String>,
}

/// A file system that matters for booting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Device or name.
    pub device: String,
    /// Where.
    pub folder: String,
    /// Type.
    pub kind: String,
    /// It cannot be written.
    pub read_only: bool,
}

/// Where `kgdboc` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KgdbocModule {
    /// In the kernel, or loaded.
    There,
    /// A module that can be loaded.
    Loadable,
    /// In the kernel that is installed, which may not be the one that runs.
    BuiltIn,
    /// Not among the modules, and those were looked through.
    Absent,
    /// Not known: nothing tells which modules there are.
    #[default]
    Unknown,
}

/// Everything that one look says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LinuxFacts {
    /// Who looked; 0 may change everything. `None` for a root folder.
    pub uid: Option<u32>,
    /// The kernel that runs.
    pub kernel: Option<String>,
    /// Its machine: `x86_64`.
    pub machine: Option<String>,
    /// Its command line.
    pub command_line: Option<String>,
    /// Its configuration, where it is to be found.
    pub config: Option<KernelConfig>,
    /// Where `kgdboc` is.
    pub kgdboc_module: KgdbocModule,
    /// What `kgdboc` is set to; empty: to nothing. `None`: there is no such parameter.
    pub kgdboc: Option<String>,
    /// The kernel's lockdown in force: `none`, `integrity`, `confidentiality`.
    pub lockdown: Option<String>,
    /// UEFI's Secure Boot.
    pub secure_boot: Option<bool>,
    /// It was booted by UEFI.
    pub efi: bool,
    /// `kernel.sysrq`.
    pub sysrq: Option<u32>,
    /// `kernel.printk`, the line as it is.
    pub printk: Option<String>,
    /// Serial ports.
    pub ttys: Vec<SerialTty>,
    /// Names of all consoles, in the kernel's order; the last one of the command line is `/dev/console`.
    pub consoles: Vec<String>,
    /// systemd is the init.
    pub systemd: bool,
    /// `/etc/os-release`.
    pub os: BTreeMap<String, String>,
    /// `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// Kernels that are installed.
    pub installed: Vec<String>,
    /// Files and folders of boot loaders that are there.
    pub paths: BTreeSet<String>,
    /// Boot entries in files of their own.
    pub entries: Vec<String>,
    /// Files with boot entries for kgdb, with whether they are ours.
    pub kgdb_entries: Vec<(String, bool)>,
    /// Programs that are there.
    pub programs: BTreeSet<String>,
    /// File systems that matter.
    pub mounts: Vec<Mount>,
}

impl LinuxFacts {
    /// Reads what the script printed. Lines of others around it (a login's greeting) are passed over.
    ///
    /// # Errors
    ///
    /// It is not whole, or a line makes no sense.
    pub fn parse(text: &str) -> Result<Self, FactsError> {
        let mut facts = Self::default();
        let mut lines = text.lines().map(str::trim_end);
        let begin = format!("observe {VERSION}");
        if !lines.any(|line| line == begin) {
            return Err(FactsError::NotWhole(format!("there is no `{begin}`")));
        }
        let mut loose = Loose::default();
        for line in lines {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            if name == "end" {
                loose.put_into(&mut facts);
                return Ok(facts);
            }
            facts
                .take(name, value.trim(), &mut loose)
                .ok_or_else(|| FactsError::Line(line.to_owned()))?;
        }
        Err(FactsError::NotWhole("it has no end".to_owned()))
    }

    /// Takes one fact. `None` if it cannot be read; a name that is not known is of a later version.
    fn take(&mut self, name: &str, value: &str, loose: &mut Loose) -> Option<()> {
        let text = || Some(value.to_owned());
        match name {
            "uid" => self.uid = Some(value.parse().ok()?),
            "kernel" => self.kernel = text(),
            "machine" => self.machine = text(),
            "cmdline" => self.command_line = text(),
            // Old kernels may hold a negative number; only its being 1 or a mask matters.
            "sysrq" => self.sysrq = value.parse().ok(),
            "printk" => self.printk = text(),
            "lockdown" => self.lockdown = in_brackets(value),
            "efi" => self.efi = true,
            "secure-boot" => self.secure_boot = Some(value == "1"),
            "kgdboc" => self.kgdboc = text(),
            "kgdboc-module" => loose.module(value),
            "modules" => loose.modules_known = true,
            "tty" => self.ttys.push(serial_tty(value)?),
            "console" => self
                .consoles
                .extend(value.split_whitespace().next().map(str::to_owned)),
            "reader" => loose.readers.push(pair(value)?),
            "systemd" => self.systemd = true,
            "config" => {
                self.config = Some(KernelConfig {
                    source: value.to_owned(),
                    options: BTreeMap::new(),
                    sysrq_default: None,
                });
            }
            "option" => self.config.as_mut()?.take(value)?,
            "machine-id" => self.machine_id = text(),
            "os" => {
                if let Some((key, value)) = value.split_once('=') {
                    self.os.insert(key.to_owned(), unquoted(value));
                }
            }
            "installed" => self.installed.push(value.to_owned()),
            "path" => self.paths.extend([value.to_owned()]),
            "entry" => self.entries.push(value.to_owned()),
            "kgdb-entry" => {
                let (whose, path) = pair(value)?;
                self.kgdb_entries.push((path, whose == "ours"));
            }
            "program" => self.programs.extend([value.to_owned()]),
            "mount" => self.mounts.push(mount(value)?),
            _ => {}
        }
        Some(())
    }

    /// Returns one serial port.
    pub fn tty(&self, name: &str) -> Option<&SerialTty> {
        self.ttys.iter().find(|tty| tty.name == name)
    }

    /// Tells whether the command line of the running kernel has this word.
    pub fn booted_with(&self, word: &str) -> bool {
        let line = self.command_line.as_deref().unwrap_or_default();
        line.split_whitespace().any(|have| have == word)
    }

    /// Tells whether a path is there.
    pub fn has_path(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Tells whether a program is there.
    pub fn has_program(&self, program: &str) -> bool {
        self.programs.contains(program)
    }

    /// Returns the file system that a path is on, of those that were told.
    pub fn mount_of(&self, path: &str) -> Option<&Mount> {
        let holds = |mount: &&Mount| {
            let folder = mount.folder.trim_end_matches('/');
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // What was mounted later hides what was there before.
        self.mounts
            .iter()
            .filter(holds)
            .enumerate()
            .max_by_key(|(index, mount)| (mount.folder.len(), *index))
            .map(|(_, mount)| mount)
    }
}

/// What has its meaning only beside other facts.
#[derive(Default)]
struct Loose {
    readers: Vec<(String, String)>,
    modules: BTreeSet<String>,
    modules_known: bool,
}

impl Loose {
    fn module(&mut self, place: &str) {
        self.modules.insert(place.to_owned());
    }

    fn put_into(self, facts: &mut LinuxFacts) {
        let has = |place: &str| self.modules.contains(place);
        facts.kgdboc_module = if has("there") {
            KgdbocModule::There
        } else if has("modules.builtin") {
            KgdbocModule::BuiltIn
        } else if has("modules.dep") {
            KgdbocModule::Loadable
        } else if self.modules_known {
            KgdbocModule::Absent
        } else {
            KgdbocModule::Unknown
        };
        for tty in &mut facts.ttys {
            tty.console = facts.consoles.contains(&tty.name);
            let mut readers: Vec<String> = self
                .readers
                .iter()
                .filter(|(name, _)| *name == tty.name)
                .map(|(_, program)| program.clone())
                .collect();
            readers.sort();
            readers.dedup();
            tty.readers = readers;
        }
    }
}

impl KernelConfig {
    fn take(&mut self, line: &str) -> Option<()> {
        let (name, setting) = match line.strip_prefix("# ") {
            Some(rest) => (rest.strip_suffix(" is not set")?, Setting::No),
            None => {
                let (name, value) = line.split_once('=')?;
                if name == "CONFIG_MAGIC_SYSRQ_DEFAULT_ENABLE" {
                    self.sysrq_default = number(value);
                }
                let setting = match value {
                    "m" => Setting::Module,
                    "n" => Setting::No,
                    _ => Setting::Yes,
                };
                (name, setting)
            }
        };
        self.options
            .insert(name.strip_prefix("CONFIG_")?.to_owned(), setting);
        Some(())
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The word in brackets of `[none] integrity confidentiality`.
fn in_brackets(value: &str) -> Option<String> {
    let begin = value.find('[')? + 1;
    let end = value[begin..].find(']')? + begin;
    Some(value[begin..end].to_owned())
}

fn pair(value: &str) -> Option<(String, String)> {
    let (first, second) = value.split_once(' ').unwrap_or((value, ""));
    (!first.is_empty()).then(|| (first.to_owned(), second.to_owned()))
}

fn serial_tty(value: &str) -> Option<SerialTty> {
    let mut words = value.split_whitespace();
    let name = words.next()?.to_owned();
    // 0 is PORT_UNKNOWN: a name without a UART behind it.
    let present = words.next()? != "0";
    let told = |word: &str| (word != "-" && word != "0x0").then(|| word.to_owned());
    Some(SerialTty {
        name,
        present,
        io_port: words.next().and_then(told),
        irq: words.next().and_then(|word| word.parse().ok()),
        console: false,
        readers: Vec::new(),
    })
}

fn mount(value: &str) -> Option<Mount> {
    let mut words = value.split_whitespace();
    let mut next = || words.next().map(str::to_owned);
    Some(Mount {
        device: next()?,
        folder: next()?,
        kind: next()?,
        read_only: next()?.split(',').any(|option| option == "ro"),
    })
}

/// Takes the quotes of a shell's assignment away, as `/etc/os-release` has them.
fn unquoted(value: &str) -> String {
    shlex::split(value).unwrap_or_default().join(" ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const UBUNTU: &str = include_str!("../../../tests/data/guest/ubuntu-24.04.observed");
    const SMALL: &str = include_str!("../../../tests/data/guest/small-kgdb.observed");

    #[test]
    fn a_distribution_s_answer_is_read() {
        let facts = LinuxFacts::parse(UBUNTU).unwrap();
        assert_eq!(facts.kernel.as_deref(), Some("6.8.0-48-generic"));
        let config = facts.config.as_ref().unwrap();
        assert_eq!(config.option("KGDB"), Setting::Yes);
        assert_eq!(config.option("FRAME_POINTER"), Setting::No);
        assert_eq!(config.sysrq_default, Some(0x1b6));
        assert_eq!(facts.lockdown.as_deref(), Some("integrity"));
        assert_eq!(facts.secure_boot, Some(true));
        assert_eq!(facts.os["PRETTY_NAME"], "Ubuntu 24.04.1 LTS");
        let first = facts.tty("ttyS0").unwrap();
        assert!(first.present && first.console);
        assert_eq!(first.readers, ["agetty"]);
        assert!(!facts.tty("ttyS4").unwrap().present);
        assert_eq!(facts.mount_of("/boot/grub/grubenv").unwrap().device, "/dev/sda2");
        assert_eq!(
            facts.mount_of("/bootx").unwrap().device,
            "/dev/mapper/ubuntu--vg-ubuntu--lv"
        );
    }

    #[test]
    fn a_small_kernel_without_any_configuration_is_read() {
        let facts = LinuxFacts::parse(SMALL).unwrap();
        assert_eq!(facts.config, None);
        assert_eq!(facts.kgdboc_module, KgdbocModule::There);
        assert_eq!(facts.kgdboc.as_deref(), Some("ttyS1,115200"));
        assert_eq!(facts.sysrq, Some(1));
    }

    #[test]
    fn greetings_around_the_answer_are_passed_over_and_a_part_of_it_is_refused() {
        let around = format!("Welcome!\r\n{SMALL}bye\n");
        assert_eq!(
            LinuxFacts::parse(&around).unwrap(),
            LinuxFacts::parse(SMALL).unwrap()
        );
        let cut = &SMALL[..SMALL.len() / 2];
        assert!(matches!(
            LinuxFacts::parse(cut),
            Err(FactsError::NotWhole(_)) | Err(FactsError::Line(_))
        ));
        assert!(matches!(
            LinuxFacts::parse("sh: not found\n"),
            Err(FactsError::NotWhole(_))
        ));
        let broken = SMALL.replace("tty ttyS0 4 0x3F8 4", "tty");
        assert_eq!(
            LinuxFacts::parse(&broken),
            Err(FactsError::Line("tty".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(lines in proptest::collection::vec("[a-z-]{1,12} [ -~]{0,30}", 0..12)) {
            let text = format!("observe 1\n{}\nend 1\n", lines.join("\n"));
            let _ = LinuxFacts::parse(&text);
        }
    }
}
