//! A Windows guest for the stand-ins of PowerShell and of the administration console (SAC): its boot settings, BitLocker and rights,
//! in a file, behind `bcdedit`, `manage-bde`, `reg`, `whoami` that print and refuse as the real ones do.
//!
//! `windows.json` in the state folder is the guest; tests write it ([`Guest`] says what of it). `windows.log` has a line for each
//! program that changed something. Without the file it is a fresh Windows 11 seen by who is elevated.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The file in the state folder.
pub const FILE: &str = "windows.json";

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
    /// `on`, `off`, `suspended`, `absent` (no `manage-bde`).
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

    fn sentence(&self, english: &str, german: &str, french: &str) -> String {
        match self.language.as_str() {
            "de" => german.to_owned(),
            "fr" => french.to_owned(),
            _ => english.to_owned(),
        }
    }

    fn done(&self) -> Ended {
        let words = self.sentence(
            "The operation completed successfully.",
            "Der Vorgang wurde erfolgreich beendet.",
            "L\u{2019}op\u{e9}ration a r\u{e9}ussi.",
        );
        (0, format!("{words}\r\n"))
    }

    fn not_opened(&self, english: &str, german: &str, french: &str) -> Ended {
        let first = self.sentence(
            "The boot configuration data store could not be opened.",
            "Der Speicher f\u{fc}r die Startkonfigurationsdaten konnte nicht ge\u{f6}ffnet werden.",
            "Le magasin de donn\u{e9}es de configuration de d\u{e9}marrage n\u{2019}a pas pu \u{ea}tre ouvert.",
        );
        (
            1,
            format!("{first}\r\n{}\r\n", self.sentence(english, german, french)),
        )
    }

    fn protected(&self) -> Ended {
        let first = self.sentence(
            "An error has occurred setting the element data.",
            "Fehler beim Festlegen der Elementdaten.",
            "Une erreur s\u{2019}est produite lors de la d\u{e9}finition des donn\u{e9}es de l\u{2019}\u{e9}l\u{e9}ment.",
        );
        let second = self.sentence(
            "The value is protected by Secure Boot policy and cannot be modified or deleted.",
            "Der Wert wird durch die Richtlinie f\u{fc}r den sicheren Start gesch\u{fc}tzt und kann nicht ge\u{e4}ndert oder gel\u{f6}scht werden.",
            "La valeur est prot\u{e9}g\u{e9}e par la strat\u{e9}gie de d\u{e9}marrage s\u{e9}curis\u{e9} et ne peut pas \u{ea}tre modifi\u{e9}e.",
        );
        (1, format!("{first}\r\n{second}\r\n"))
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

    fn id(&self, word: &str) -> Option<String> {
        let id = if word == "{current}" { CURRENT } else { word };
        self.objects.contains_key(id).then(|| id.to_owned())
    }

    fn bcdedit(&mut self, words: &[&str]) -> Ended {
        if !self.elevated {
            return self.not_opened(
                "Access is denied.",
                "Zugriff verweigert",
                "Acc\u{e8}s refus\u{e9}.",
            );
        }
        if self.no_store {
            return self.not_opened(
                "The system cannot find the file specified.",
                "Das System kann die angegebene Datei nicht finden.",
                "Le fichier sp\u{e9}cifi\u{e9} est introuvable.",
            );
        }
        let unknown = || {
            (
                1,
                "The specified entry type is invalid.\r\nThe parameter is incorrect.\r\n".to_owned(),
            )
        };
        match words {
            ["/dbgsettings"] => {
                let text = table(&self.objects["{dbgsettings}"]);
                (0, format!("{text}{}", self.done().1))
            }
            ["/enum", id, rest @ ..] if rest.is_empty() || rest == ["/v"] => match self.id(id) {
                Some(known) => (0, self.shown(id, &known, !rest.is_empty())),
                None => unknown(),
            },
            ["/dbgsettings", kind, options @ ..] => self.dbgsettings(kind, options),
            ["/emssettings", options @ ..] => {
                let ems = self.objects.entry("{emssettings}".to_owned()).or_default();
                for option in options {
                    let Some((name, value)) = option.split_once(':') else {
                        return unknown();
                    };
                    ems.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                self.done()
            }
            [flag @ ("/debug" | "/bootdebug" | "/ems"), rest @ ..] => {
                let (id, value) = match rest {
                    [value] => ("{current}", *value),
                    [id, value] => (*id, *value),
                    _ => return unknown(),
                };
                let value = match value {
                    "on" | "ON" => "Yes",
                    "off" | "OFF" => "No",
                    _ => return unknown(),
                };
                self.set(id, flag.trim_start_matches('/'), value)
            }
            ["/set", id, name, value] => {
                let value = match value.to_ascii_lowercase().as_str() {
                    "on" | "yes" => "Yes".to_owned(),
                    "off" | "no" => "No".to_owned(),
                    _ => (*value).to_owned(),
                };
                self.set(id, name, &value)
            }
            ["/deletevalue", id, name] => {
                if self.secure_boot == Some(true) && is_guarded(name) {
                    return self.protected();
                }
                let object = self.id(id).and_then(|id| self.objects.get_mut(&id));
                match object.and_then(|object| object.remove(*name)) {
                    Some(_) => self.done(),
                    None => (
                        1,
                        "An error occurred while attempting to delete the specified data element.\r\nElement not found.\r\n"
                            .to_owned(),
                    ),
                }
            }
            _ => unknown(),
        }
    }

    fn set(&mut self, id: &str, name: &str, value: &str) -> Ended {
        if self.secure_boot == Some(true) && is_guarded(name) {
            return self.protected();
        }
        match self.id(id).and_then(|id| self.objects.get_mut(&id)) {
            Some(object) => {
                object.insert(name.to_owned(), value.to_owned());
                self.done()
            }
            None => (1, "The specified entry does not exist.\r\n".to_owned()),
        }
    }

    fn dbgsettings(&mut self, kind: &str, options: &[&str]) -> Ended {
        if self.secure_boot == Some(true) {
            return self.protected();
        }
        let (kind, needs): (&str, &[&str]) = match kind.to_ascii_lowercase().as_str() {
            "local" => ("Local", &[]),
            "serial" => ("Serial", &["debugport", "baudrate"]),
            "net" => ("NET", &["hostip", "port"]),
            "usb" => ("USB", &["targetname"]),
            "1394" => ("1394", &["channel"]),
            _ => return (1, "The specified debugger type is not valid.\r\n".to_owned()),
        };
        let mut new = elements(&[("debugtype", kind)]);
        for option in options {
            match option.split_once(':') {
                Some((name, value)) => {
                    new.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                None if *option == "nodhcp" => {
                    new.insert("dhcp".to_owned(), "No".to_owned());
                }
                None => return (1, format!("The option {option} is not valid.\r\n")),
            }
        }
        if needs.iter().any(|name| !new.contains_key(*name)) {
            return (
                1,
                "The set debugger settings command is not valid.\r\n".to_owned(),
            );
        }
        let mut text = String::new();
        if kind == "NET" {
            new.entry("dhcp".to_owned()).or_insert_with(|| "Yes".to_owned());
            if !new.contains_key("key") {
                // As the real one: a key of its own, which it prints.
                new.insert("key".to_owned(), "new.key.of.bcdedit".to_owned());
                text.push_str("Key=new.key.of.bcdedit\r\n");
            }
        }
        let object = self.objects.entry("{dbgsettings}".to_owned()).or_default();
        if self.forgets {
            const OF_CONNECTIONS: [&str; 9] = [
                "baudrate",
                "busparams",
                "channel",
                "debugport",
                "dhcp",
                "hostip",
                "key",
                "port",
                "targetname",
            ];
            object.retain(|name, _| !OF_CONNECTIONS.contains(&name.as_str()));
        }
        object.extend(new);
        (0, format!("{text}{}", self.done().1))
    }

    /// An object under its translated header.
    fn shown(&self, asked: &str, id: &str, whole: bool) -> String {
        let header = match id {
            "{bootmgr}" => self.sentence(
                "Windows Boot Manager",
                "Windows-Start-Manager",
                "Gestionnaire de d\u{e9}marrage Windows",
            ),
            "{dbgsettings}" => self.sentence(
                "Debugger Settings",
                "Debuggereinstellungen",
                "Param\u{e8}tres du d\u{e9}bogueur",
            ),
            "{emssettings}" => self.sentence("EMS Settings", "EMS-Einstellungen", "Param\u{e8}tres EMS"),
            _ => self.sentence(
                "Windows Boot Loader",
                "Windows-Startladeprogramm",
                "Chargeur de d\u{e9}marrage Windows",
            ),
        };
        let name = self.sentence("identifier", "Bezeichner", "identificateur");
        let shown = if whole { id } else { asked };
        let line = "-".repeat(header.chars().count());
        format!(
            "\r\n{header}\r\n{line}\r\n{name:<24}{shown}\r\n{}",
            table(&self.objects[id])
        )
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

/// What Secure Boot's policy protects.
fn is_guarded(name: &str) -> bool {
    ["debug", "bootdebug", "debugtype", "testsigning"].contains(&name)
}

fn table(elements: &Elements) -> String {
    elements
        .iter()
        .map(|(name, value)| format!("{name:<24}{value}\r\n"))
        .collect()
}

/// Tells whether a program's line changes something.
fn changes(name: &str, words: &[&str]) -> bool {
    match name {
        "bcdedit" => !matches!(words, ["/enum", ..] | ["/dbgsettings"]),
        "manage-bde" => words.first() == Some(&"-protectors"),
        _ => false,
    }
}

/// Runs a program on the guest of a state folder.
///
/// # Errors
///
/// The state cannot be read or written.
pub fn run(line: &[String], state: &Path) -> io::Result<Ended> {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    let Some((name, words)) = words.split_first() else {
        return Ok((9009, String::new()));
    };
    let mut guest = Guest::read(state)?;
    let ended = guest.program(name, words);
    if changes(name, words) {
        guest.write(state)?;
        let mut log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(state.join("windows.log"))?;
        log.write_all(format!("{} = {}\n", line.join(" "), ended.0).as_bytes())?;
        hang(&line.join(" "), state);
    }
    Ok(ended)
}

/// Hangs after a program, as long as tests want it and somebody waits for its end.
fn hang(line: &str, state: &Path) {
    #[cfg(unix)]
    let parent = std::os::unix::process::parent_id();
    let wanted = || {
        Guest::read(state)
            .is_ok_and(|guest| !guest.hangs_after.is_empty() && line.starts_with(&guest.hangs_after))
    };
    while wanted() {
        #[cfg(unix)]
        if std::os::unix::process::parent_id() != parent {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

/// Does what `windows/run` does.
///
/// # Errors
///
/// The state cannot be read or written.
pub fn act(runs: &Value, state: &Path) -> io::Result<Value> {
    let mut answers = Vec::new();
    for line in runs.as_array().into_iter().flatten() {
        let words: Vec<String> = line
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| word.as_str().unwrap_or_default().to_owned())
            .collect();
        let (status, said) = run(&words, state)?;
        answers.push(json!({ "status": status, "said": crate::hyperv::files::encode(said.as_bytes()) }));
    }
    Ok(json!({ "answers": answers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(guest: &mut Guest, line: &str) -> Ended {
        let words: Vec<&str> = line.split(' ').collect();
        guest.program(words[0], &words[1..])
    }

    #[test]
    fn it_keeps_what_is_set_and_says_so_in_its_language() {
        let mut guest = Guest::default();
        assert_eq!(said(&mut guest, "bcdedit /debug on").0, 0);
        assert_eq!(guest.get(CURRENT, "debug"), Some("Yes"));
        assert_eq!(
            said(
                &mut guest,
                "bcdedit /dbgsettings serial debugport:1 baudrate:9600"
            )
            .0,
            0
        );
        assert!(
            said(&mut guest, "bcdedit /dbgsettings")
                .1
                .contains("debugport               1\r\n")
        );
        "de".clone_into(&mut guest.language);
        let german = said(&mut guest, "bcdedit /enum {current} /v").1;
        assert!(
            german.contains(&format!("Bezeichner              {CURRENT}\r\n")),
            "{german}"
        );
        assert!(german.contains("debug                   Yes"));
        assert_eq!(said(&mut guest, "bcdedit /deletevalue {current} debug").0, 0);
        assert_eq!(said(&mut guest, "bcdedit /deletevalue {current} debug").0, 1);
    }

    #[test]
    fn it_refuses_what_the_real_ones_refuse() {
        let mut guest = Guest {
            secure_boot: Some(true),
            ..Guest::default()
        };
        assert!(
            said(&mut guest, "bcdedit /debug on")
                .1
                .contains("protected by Secure Boot policy")
        );
        assert_eq!(said(&mut guest, "bcdedit /ems on").0, 0);
        guest.no_store = true;
        assert!(
            said(&mut guest, "bcdedit /enum {current}")
                .1
                .contains("cannot find the file")
        );
        guest.elevated = false;
        assert!(
            said(&mut guest, "bcdedit /enum {current}")
                .1
                .contains("Access is denied.")
        );
        assert!(said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0 < 0);
        assert_eq!(said(&mut guest, "format C:").0, 9009);
    }

    #[test]
    fn a_suspension_is_used_up_by_a_boot() {
        let mut guest = Guest {
            bitlocker: "on".to_owned(),
            ..Guest::default()
        };
        assert_eq!(
            said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0,
            0
        );
        assert_eq!(
            said(&mut guest, "manage-bde -protectors -disable C: -RebootCount 1").0,
            0
        );
        assert_eq!(
            said(&mut guest, "manage-bde -status C: -protectionaserrorlevel").0,
            1
        );
        guest.boot();
        assert_eq!(guest.bitlocker, "on");
    }
}
