//! A Windows guest for the stand-ins of PowerShell and of the administration console (SAC): its boot settings, BitLocker and rights,
//! in a file, behind `bcdedit`, `manage-bde`, `reg`, `whoami` that print and refuse as the real ones do.
//!
//! `windows.json` in the state folder is the guest; tests write it ([`Guest`] says what of it). `windows.log` has a line for each
//! program that changed something. Without the file it is a fresh Windows 11 seen by who is elevated.

mod bcdedit;
mod run;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

pub use run::{act, run};

/// The file in the state folder.
pub const FILE: &str = "windows.json";

/// BitLocker's state in which a boot stops and asks for the recovery key.
pub const RECOVERY: &str = "recovery";

/// The entry that runs.
pub const CURRENT: &str = "{5189b25c-0000-4bf2-bca4-289b11bd29e2}";

/// Elements with their values.
pub type Elements = BTreeMap<String, String>;

/// The guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// `en`, `de`, `fr`: headers and sentences.
    pub language: String,
    /// Who asks may.
    pub elevated: bool,
    /// UEFI's; `None`: there is no UEFI.
    pub secure_boot: Option<bool>,
    /// There is no store where bcdedit looks.
    pub no_store: bool,
    /// `on`, `off`, `suspended`, `absent` (no `manage-bde`), [`RECOVERY`].
    pub bitlocker: String,
    /// Boots until a suspension ends.
    pub boots: u64,
    /// `/dbgsettings` takes away what only the old connection had; else it stays. Which it is depends on the version.
    pub forgets: bool,
    /// Objects by their identifier.
    pub objects: BTreeMap<String, Elements>,
    /// A program whose line begins so hangs after it has done its work.
    pub hangs_after: String,
}

fn elements(all: &[(&str, &str)]) -> Elements {
    all.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Default for Guest {
    fn default() -> Self {
        let objects = [
            (
                CURRENT,
                elements(&[
                    ("bootmenupolicy", "Standard"),
                    ("description", "Windows 11"),
                    ("device", "partition=C:"),
                    ("nx", "OptIn"),
                    ("osdevice", "partition=C:"),
                    ("path", r"\Windows\system32\winload.efi"),
                    ("recoveryenabled", "Yes"),
                ]),
            ),
            (
                "{bootmgr}",
                elements(&[("description", "Windows Boot Manager"), ("timeout", "30")]),
            ),
            ("{dbgsettings}", elements(&[("debugtype", "Local")])),
            ("{emssettings}", elements(&[("bootems", "No")])),
        ];
        Self {
            language: "en".to_owned(),
            elevated: true,
            secure_boot: None,
            no_store: false,
            bitlocker: "off".to_owned(),
            boots: 0,
            forgets: false,
            objects: objects
                .into_iter()
                .map(|(id, elements)| (id.to_owned(), elements))
                .collect(),
            hangs_after: String::new(),
        }
    }
}

/// What a program ends with.
pub type Ended = (i64, String);

impl Guest {
    /// Reads the guest of a state folder.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(state: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(state.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let value: Value = serde_json::from_str(&text)?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let object = |elements: &Value| -> Elements {
            let elements = elements.as_object().into_iter().flatten();
            elements
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect()
        };
        Ok(Self {
            language: text("language"),
            elevated: value["elevated"] == json!(true),
            secure_boot: value["secure_boot"].as_bool(),
            no_store: value["no_store"] == json!(true),
            bitlocker: text("bitlocker"),
            boots: value["boots"].as_u64().unwrap_or_default(),
            forgets: value["forgets"] == json!(true),
            objects: value["objects"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(id, elements)| (id.clone(), object(elements)))
                .collect(),
            hangs_after: text("hangs_after"),
        })
    }

    /// Writes the guest into a state folder.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let objects: Map<String, Value> = self
            .objects
            .iter()
            .map(|(id, elements)| (id.clone(), json!(elements)))
            .collect();
        let value = json!({
            "language": self.language, "elevated": self.elevated, "secure_boot": self.secure_boot, "no_store": self.no_store,
            "bitlocker": self.bitlocker, "boots": self.boots, "forgets": self.forgets, "objects": objects,
            "hangs_after": self.hangs_after,
        });
        fs::create_dir_all(state)?;
        let new = state.join(format!("{FILE}.{}", std::process::id()));
        fs::write(&new, format!("{value:#}\n"))?;
        fs::rename(new, state.join(FILE))
    }

    /// Returns one element.
    pub fn get(&self, object: &str, name: &str) -> Option<&str> {
        self.objects.get(object)?.get(name).map(String::as_str)
    }

    /// Boots it again: a suspension of BitLocker is used up.
    pub fn boot(&mut self) {
        if self.bitlocker == "suspended" && self.boots > 0 {
            self.boots -= 1;
            if self.boots == 0 {
                "on".clone_into(&mut self.bitlocker);
            }
        }
    }

    /// Boots it with the firmware's Secure Boot, which BitLocker measures.
    pub fn boot_with(&mut self, secure_boot: Option<bool>) {
        if self.bitlocker == "on" && self.secure_boot != secure_boot {
            RECOVERY.clone_into(&mut self.bitlocker);
        }
        self.secure_boot = secure_boot;
        self.boot();
    }

    fn sentence(&self, english: &str, german: &str, french: &str) -> String {
        match self.language.as_str() {
            "de" => german.to_owned(),
            "fr" => french.to_owned(),
            _ => english.to_owned(),
        }
    }

    /// Runs a program.
    pub fn program(&mut self, name: &str, words: &[&str]) -> Ended {
        match name {
            "bcdedit" => self.bcdedit(words),
            "manage-bde" => self.manage_bde(words),
            "whoami" if words == ["/groups"] => {
                let level = if self.elevated {
                    "High  S-1-16-12288"
                } else {
                    "Mittel  S-1-16-8192"
                };
                (
                    0,
                    format!("\r\nEveryone  S-1-1-0\r\nMandatory Label\\{level}\r\n"),
                )
            }
            "reg" => match self.secure_boot {
                Some(on) => {
                    let value = u8::from(on);
                    (
                        0,
                        format!(
                            "\r\nHKEY_LOCAL_MACHINE\\SYSTEM\\…\\State\r\n    UEFISecureBootEnabled    REG_DWORD    0x{value}\r\n\r\n"
                        ),
                    )
                }
                None => (
                    1,
                    "ERROR: The system was unable to find the specified registry key or value.\r\n"
                        .to_owned(),
                ),
            },
            _ => (9009, String::new()),
        }
    }

    fn manage_bde(&mut self, words: &[&str]) -> Ended {
        if self.bitlocker == "absent" {
            return (9009, String::new());
        }
        if !self.elevated {
            return (
                -2_147_024_891,
                "ERROR: An attempt to access a required resource was denied.\r\n".to_owned(),
            );
        }
        match words {
            ["-status", "C:", "-protectionaserrorlevel"] => {
                let status = i64::from(self.bitlocker != "on");
                (
                    status,
                    "BitLocker Drive Encryption: Configuration Tool\r\n".to_owned(),
                )
            }
            ["-protectors", "-disable", "C:", "-RebootCount", count] if self.bitlocker != "off" => {
                "suspended".clone_into(&mut self.bitlocker);
                self.boots = count.parse().unwrap_or_default();
                (0, "Key protectors are disabled for volume C:.\r\n".to_owned())
            }
            ["-protectors", "-enable", "C:"] if self.bitlocker != "off" => {
                "on".clone_into(&mut self.bitlocker);
                self.boots = 0;
                (0, "Key protectors are enabled for volume C:.\r\n".to_owned())
            }
            _ => (
                -1,
                "ERROR: An error occurred (code 0x80310008):\r\nBitLocker is not enabled.\r\n".to_owned(),
            ),
        }
    }
}
