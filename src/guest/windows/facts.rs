//! What one look at a Windows guest says: its boot settings, who looks, Secure Boot, BitLocker.

use super::bcd::{Elements, Object, objects, settings};
use super::program::{Said, line};
use super::refusal::Refusal;
use serde::Serialize;

/// The registry's copy of UEFI's variable: read without rights, and the same words in every language.
const SECURE_BOOT: &str = r"HKLM\SYSTEM\CurrentControlSet\Control\SecureBoot\State";

/// Mandatory levels of who is elevated, and of the system itself: `whoami` prints the SIDs beside translated names.
const ELEVATED: [&str; 2] = ["S-1-16-12288", "S-1-16-16384"];

/// The object with the debugger's settings.
pub const DEBUGGER: &str = "{dbgsettings}";

/// The object with those of the Emergency Management Services.
pub const EMS: &str = "{emssettings}";

/// The boot manager.
pub const BOOT_MANAGER: &str = "{bootmgr}";

/// Whether BitLocker guards the system's drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BitLocker {
    /// It does, and would ask for its recovery key.
    On,
    /// There is none, or it is suspended.
    Off,
    /// Nothing tells.
    #[default]
    Unknown,
}

/// Everything that a look says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct WindowsFacts {
    /// Who looks may change the boot settings.
    pub elevated: Option<bool>,
    /// The entry that runs, by its GUID.
    pub current: Option<Object>,
    /// The boot manager.
    pub boot_manager: Option<Object>,
    /// The debugger's settings.
    pub debugger: Elements,
    /// Those of EMS.
    pub ems: Elements,
    /// UEFI's Secure Boot; `None`: no UEFI, or nothing tells.
    pub secure_boot: Option<bool>,
    /// BitLocker on the system's drive.
    pub bitlocker: BitLocker,
    /// Why the boot settings cannot be read.
    pub refused: Option<Refusal>,
}

/// Returns what is run first, in the order in which [`WindowsFacts::read`] takes the answers.
pub fn looks() -> Vec<Vec<String>> {
    vec![
        line("whoami", ["/groups"]),
        line("bcdedit", ["/enum", "{current}", "/v"]),
        line("bcdedit", ["/enum", BOOT_MANAGER]),
        line("bcdedit", ["/dbgsettings"]),
        line("bcdedit", ["/enum", EMS]),
        line("reg", ["query", SECURE_BOOT, "/v", "UEFISecureBootEnabled"]),
    ]
}

/// Returns the look at BitLocker. Its status alone tells, in every language: 0 is protected, 1 is not.
pub fn look_at_bitlocker(drive: &str) -> Vec<String> {
    line("manage-bde", ["-status", drive, "-protectionaserrorlevel"])
}

impl WindowsFacts {
    /// Reads the answers to [`looks`].
    pub fn read(said: &[Said]) -> Self {
        let nothing = Said {
            status: 1,
            text: String::new(),
        };
        let of = |index: usize| said.get(index).unwrap_or(&nothing);
        let first = |index: usize| {
            let said = of(index);
            (said.status == 0).then(|| objects(&said.text).into_iter().next())?
        };
        let groups = &of(0).text;
        Self {
            elevated: (of(0).status == 0).then(|| ELEVATED.iter().any(|sid| groups.contains(sid))),
            current: first(1),
            boot_manager: first(2),
            debugger: match of(3).status {
                0 => settings(&of(3).text),
                _ => Elements::default(),
            },
            ems: first(4).map(|object| object.elements).unwrap_or_default(),
            secure_boot: (of(5).status == 0).then(|| is_one(&of(5).text)).flatten(),
            bitlocker: BitLocker::Unknown,
            refused: (of(1).status != 0).then(|| Refusal::of(of(1))),
        }
    }

    /// Returns the drive that BitLocker would guard: that of the entry that runs.
    pub fn drive(&self) -> Option<&str> {
        let device = self.current.as_ref()?.elements.get("osdevice")?;
        let drive = device.strip_prefix("partition=")?;
        let letter = drive.len() == 2 && drive.ends_with(':') && drive.as_bytes()[0].is_ascii_alphabetic();
        letter.then_some(drive)
    }

    /// Takes what the look at BitLocker said.
    pub fn take_bitlocker(&mut self, said: &Said) {
        self.bitlocker = match said.status {
            0 => BitLocker::On,
            // No such program: an edition without BitLocker.
            1 | super::program::NOT_THERE => BitLocker::Off,
            _ => BitLocker::Unknown,
        };
    }

    /// Tells whether an element of the entry that runs says yes.
    pub fn is_on(&self, name: &str) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|object| object.elements.is_on(name))
    }

    /// Returns the COM port of the debugger and its speed, if its settings are for a serial port.
    pub fn serial(&self) -> Option<(u32, u32)> {
        let kind = self.debugger.get("debugtype")?;
        let number = |name: &str| self.debugger.get(name)?.parse().ok();
        kind.eq_ignore_ascii_case("serial")
            .then(|| Some((number("debugport")?, number("baudrate")?)))?
    }

    /// Returns the COM port of EMS, if it is on and has one of its own.
    pub fn ems_port(&self) -> Option<u32> {
        (self.is_on("ems") || self.ems.is_on("bootems"))
            .then(|| self.ems.get("emsport")?.parse().ok())
            .flatten()
    }
}

/// Reads a registry value, `REG_DWORD    0x1`.
fn is_one(text: &str) -> Option<bool> {
    let value = text
        .lines()
        .find(|line| line.contains("UEFISecureBootEnabled"))?
        .split_whitespace()
        .last()?;
    Some(value != "0x0" && value.starts_with("0x"))
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    pub(in crate::guest::windows) fn said(status: i64, text: &str) -> Said {
        Said {
            status,
            text: text.to_owned(),
        }
    }

    /// A Windows 11 on a VM with BIOS, seen by who is elevated.
    pub(in crate::guest::windows) fn plain() -> WindowsFacts {
        let mut facts = WindowsFacts::read(&[
            said(0, "Mandatory Label\\High Mandatory Level  Label  S-1-16-12288"),
            said(0, include_str!("../../../tests/data/windows/enum-current.en.txt")),
            said(
                0,
                "\nWindows Boot Manager\n-----\nidentifier              {bootmgr}\ntimeout                 30\n",
            ),
            said(
                0,
                include_str!("../../../tests/data/windows/dbgsettings-local.en.txt"),
            ),
            said(
                0,
                "\nEMS Settings\n---\nidentifier              {emssettings}\nbootems                 No\n",
            ),
            said(
                1,
                "ERROR: The system was unable to find the specified registry key or value.",
            ),
        ]);
        facts.take_bitlocker(&said(1, ""));
        facts
    }

    #[test]
    fn a_whole_look_is_read() {
        let facts = plain();
        assert_eq!(facts.elevated, Some(true));
        assert_eq!(facts.drive(), Some("C:"));
        assert_eq!(facts.boot_manager.as_ref().unwrap().identifier, "{bootmgr}");
        assert_eq!(facts.serial(), None);
        assert_eq!(facts.ems_port(), None);
        assert_eq!((facts.secure_boot, facts.bitlocker), (None, BitLocker::Off));
        assert_eq!(facts.refused, None);
    }

    #[test]
    fn a_look_in_german_is_the_same() {
        let facts = WindowsFacts::read(&[
            said(
                0,
                "Verbindliche Beschriftung\\Mittlere Verbindlichkeitsstufe S-1-16-8192",
            ),
            said(0, include_str!("../../../tests/data/windows/enum-current.de.txt")),
            said(1, "?"),
            said(
                0,
                include_str!("../../../tests/data/windows/dbgsettings-serial.de.txt"),
            ),
            said(
                0,
                include_str!("../../../tests/data/windows/enum-settings.de.txt"),
            ),
            said(
                0,
                "\r\nHKEY_LOCAL_MACHINE\\X\r\n    UEFISecureBootEnabled    REG_DWORD    0x1\r\n",
            ),
        ]);
        assert_eq!(facts.elevated, Some(false));
        assert_eq!(facts.serial(), Some((1, 115_200)));
        assert_eq!(facts.secure_boot, Some(true));
        assert_eq!(facts.ems.get("bootems"), Some("No"));
        assert_eq!(facts.bitlocker, BitLocker::Unknown);
    }

    #[test]
    fn what_is_refused_is_noted() {
        let denied = include_str!("../../../tests/data/windows/refused-access.en.txt");
        let facts = WindowsFacts::read(&[said(0, "S-1-16-8192"), said(1, denied)]);
        assert_eq!(facts.refused, Some(Refusal::AccessDenied));
        assert_eq!(facts.current, None);
        assert_eq!(WindowsFacts::read(&[]).elevated, None);
    }
}
