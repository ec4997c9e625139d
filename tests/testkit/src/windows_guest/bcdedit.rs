//! `bcdedit` of the guest: what it prints, sets and refuses, in three languages.

use super::{CURRENT, Elements, Ended, Guest, elements};

impl Guest {
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

    fn id(&self, word: &str) -> Option<String> {
        let id = if word == "{current}" { CURRENT } else { word };
        self.objects.contains_key(id).then(|| id.to_owned())
    }

    /// Runs `bcdedit`.
    pub(super) fn bcdedit(&mut self, words: &[&str]) -> Ended {
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
