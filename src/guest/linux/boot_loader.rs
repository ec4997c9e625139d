//! Which boot loader a guest has, and where its files are.

use super::facts::LinuxFacts;
use std::fmt;

/// A boot loader with its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootLoader {
    /// GRUB that reads its entries from one generated file.
    Grub {
        /// `/boot/grub` or `/boot/grub2`.
        folder: String,
    },
    /// GRUB with an entry a file, as Fedora and RHEL have it (`blscfg`).
    GrubBls {
        /// `/boot/grub2`.
        folder: String,
        /// `/boot/loader/entries`.
        entries: String,
    },
    /// systemd-boot.
    SystemdBoot {
        /// `…/loader/entries`.
        entries: String,
    },
}

impl BootLoader {
    /// Finds it. GRUB's own configuration counts more than entries that lie beside it.
    pub fn of(facts: &LinuxFacts) -> Option<Self> {
        let folder = ["/boot/grub2", "/boot/grub"]
            .into_iter()
            .find(|folder| facts.has_path(&format!("{folder}/grub.cfg")));
        let entries = |folder: &str| facts.entries.iter().any(|entry| entry.starts_with(folder));
        if let Some(folder) = folder {
            // openSUSE's and Debian's GRUB read no such entries, even where a folder of systemd's lies there.
            let family = |name: &str| {
                ["ID", "ID_LIKE"].iter().any(|key| {
                    facts
                        .os
                        .get(*key)
                        .is_some_and(|ids| ids.split_whitespace().any(|id| id == name))
                })
            };
            let reads_entries = family("fedora") || family("rhel");
            if reads_entries && entries("/boot/loader/entries/") {
                return Some(Self::GrubBls {
                    folder: folder.to_owned(),
                    entries: "/boot/loader/entries".to_owned(),
                });
            }
            return Some(Self::Grub {
                folder: folder.to_owned(),
            });
        }
        ["/efi", "/boot/efi", "/boot"]
            .into_iter()
            .find(|place| {
                facts.has_path(&format!("{place}/loader/loader.conf"))
                    || entries(&format!("{place}/loader/entries/"))
            })
            .map(|place| Self::SystemdBoot {
                entries: format!("{place}/loader/entries"),
            })
    }
}

impl fmt::Display for BootLoader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grub { folder } => write!(formatter, "GRUB (`{folder}/grub.cfg`)"),
            Self::GrubBls { entries, .. } => write!(formatter, "GRUB with an entry a file (`{entries}`)"),
            Self::SystemdBoot { entries } => write!(formatter, "systemd-boot (`{entries}`)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn each_layout_is_known() {
        let facts = |lines: &str| LinuxFacts::parse(&format!("observe 1\n{lines}end 1\n")).unwrap();
        let table = [
            (
                "path /boot/grub/grub.cfg\nos ID=debian\n",
                "GRUB (`/boot/grub/grub.cfg`)",
            ),
            (
                "path /boot/grub2/grub.cfg\nos ID=fedora\nentry /boot/loader/entries/a.conf\n",
                "GRUB with an entry a file (`/boot/loader/entries`)",
            ),
            (
                "path /boot/grub2/grub.cfg\nos ID=\"rocky\"\nos ID_LIKE=\"rhel centos fedora\"\nentry /boot/loader/entries/a.conf\n",
                "GRUB with an entry a file (`/boot/loader/entries`)",
            ),
            (
                "path /boot/grub2/grub.cfg\nos ID=\"opensuse-leap\"\nos ID_LIKE=\"suse opensuse\"\n",
                "GRUB (`/boot/grub2/grub.cfg`)",
            ),
            (
                "path /boot/loader/loader.conf\nentry /boot/loader/entries/arch.conf\n",
                "systemd-boot (`/boot/loader/entries`)",
            ),
            (
                "path /efi/loader/loader.conf\n",
                "systemd-boot (`/efi/loader/entries`)",
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(BootLoader::of(&facts(lines)).unwrap().to_string(), expected);
        }
        assert_eq!(BootLoader::of(&facts("")), None);
    }
}
