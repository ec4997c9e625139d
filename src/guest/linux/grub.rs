//! GRUB's generated configuration, read: its entries with the lines that load a kernel.

use super::facts::LinuxFacts;

/// One entry of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubEntry {
    /// As the menu shows it.
    pub title: String,
    /// `--id`, or what `$menuentry_id_option` names.
    pub id: Option<String>,
    /// Between the braces, each line as it is.
    pub body: Vec<String>,
    /// The kernel's path, as GRUB sees it.
    pub kernel: Option<String>,
    /// The kernel's arguments.
    pub arguments: Vec<String>,
}

impl GrubEntry {
    /// Tells whether it is one for kgdb.
    pub fn is_for_kgdb(&self) -> bool {
        self.arguments
            .iter()
            .any(|argument| argument.starts_with("kgdboc"))
    }

    fn is_rescue(&self) -> bool {
        let odd = ["single", "recovery", "systemd.unit=rescue.target", "nomodeset"];
        self.arguments
            .iter()
            .any(|argument| odd.contains(&argument.as_str()))
    }
}

/// Commands that load a Linux kernel.
const LOADERS: [&str; 4] = ["linux", "linux16", "linuxefi", "linux32"];

/// Finds all entries, those of submenus too, in their order.
pub fn entries(configuration: &str) -> Vec<GrubEntry> {
    let mut found = Vec::new();
    // Braces open and closed, and the entry that is being read with the depth at which it ends.
    let mut depth = 0_usize;
    let mut current: Option<(usize, GrubEntry)> = None;
    for line in configuration.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') {
            if let Some((_, entry)) = &mut current {
                entry.body.push(line.to_owned());
            }
            continue;
        }
        let opens = trimmed.ends_with('{');
        let closes = trimmed == "}";
        if closes {
            depth = depth.saturating_sub(1);
        }
        match &mut current {
            Some((end, _)) if closes && depth == *end => {
                found.extend(current.take().map(|(_, entry)| entry));
            }
            Some((_, entry)) => {
                entry.body.push(line.to_owned());
                let words = words(trimmed);
                if words.first().is_some_and(|word| LOADERS.contains(&word.as_str()))
                    && entry.kernel.is_none()
                {
                    entry.kernel = words.get(1).cloned();
                    entry.arguments = words.into_iter().skip(2).collect();
                }
            }
            None if opens && trimmed.starts_with("menuentry ") => current = Some((depth, head(trimmed))),
            None => {}
        }
        if opens {
            depth += 1;
        }
    }
    found
}

/// Splits a line into words as GRUB does: blanks separate, both quotes quote. (Variables stay as they are.)
fn words(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| line.split_whitespace().map(str::to_owned).collect())
}

fn head(line: &str) -> GrubEntry {
    let words = words(line.trim_end_matches('{'));
    let after = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(&word.as_str()))?;
        words.get(at + 1).cloned()
    };
    GrubEntry {
        title: words.get(1).cloned().unwrap_or_default(),
        id: after(&["--id", "$menuentry_id_option", "${menuentry_id_option}"]),
        body: Vec::new(),
        kernel: None,
        arguments: Vec::new(),
    }
}

/// Finds the entry that the guest was booted from: the kernel that `BOOT_IMAGE=` names, with the arguments that it has; of
/// several the first. Without a running kernel it is the first entry that loads one. Entries for kgdb are nobody's model.
pub fn running_entry<'a>(entries: &'a [GrubEntry], facts: &LinuxFacts) -> Option<&'a GrubEntry> {
    let plain: Vec<&GrubEntry> = entries
        .iter()
        .filter(|entry| entry.kernel.is_some() && !entry.is_for_kgdb())
        .collect();
    let Some(line) = &facts.command_line else {
        return plain.iter().find(|entry| !entry.is_rescue()).copied();
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let image = words.iter().find_map(|word| word.strip_prefix("BOOT_IMAGE="))?;
    // Newer GRUBs put the device before the path: (hd0,gpt2)/vmlinuz-6.8.
    let image = match image.split_once(')') {
        Some((device, path)) if device.starts_with('(') => path,
        _ => image,
    };
    let arguments: Vec<&str> = words
        .iter()
        .filter(|word| !word.starts_with("BOOT_IMAGE="))
        .copied()
        .collect();
    let of_image: Vec<&&GrubEntry> = plain
        .iter()
        .filter(|entry| entry.kernel.as_deref() == Some(image))
        .collect();
    let same = of_image.iter().find(|entry| {
        let own: Vec<&str> = entry
            .arguments
            .iter()
            .map(String::as_str)
            .filter(|word| !word.starts_with('$'))
            .collect();
        own == arguments
    });
    same.or_else(|| of_image.iter().find(|entry| !entry.is_rescue()))
        .map(|entry| **entry)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = include_str!("../../../tests/data/guest/debian-12.grub.cfg");

    fn facts(command_line: &str) -> LinuxFacts {
        LinuxFacts {
            command_line: Some(command_line.to_owned()),
            ..LinuxFacts::default()
        }
    }

    #[test]
    fn all_entries_are_found_also_in_submenus() {
        let found = entries(DEBIAN);
        let titles: Vec<&str> = found.iter().map(|entry| entry.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "Debian GNU/Linux",
                "Debian GNU/Linux, with Linux 6.1.0-28-amd64",
                "Debian GNU/Linux, with Linux 6.1.0-28-amd64 (recovery mode)",
                "Debian GNU/Linux, with Linux 6.1.0-27-amd64",
                "UEFI Firmware Settings",
                "UbuntuKGDB",
            ]
        );
        assert_eq!(
            found[0].id.as_deref(),
            Some("gnulinux-simple-4492a93c-91e2-4979-b5b9-71e32901511c")
        );
        assert_eq!(found[0].kernel.as_deref(), Some("/boot/vmlinuz-6.1.0-28-amd64"));
        assert_eq!(
            found[0].arguments,
            ["root=UUID=4492a93c-91e2-4979-b5b9-71e32901511c", "ro", "quiet"]
        );
        assert!(found[5].is_for_kgdb() && !found[0].is_for_kgdb());
    }

    #[test]
    fn the_running_kernel_s_entry_is_found() {
        let found = entries(DEBIAN);
        let root = "root=UUID=4492a93c-91e2-4979-b5b9-71e32901511c";
        let table = [
            (
                format!("BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 {root} ro quiet"),
                Some("Debian GNU/Linux"),
            ),
            (
                format!("BOOT_IMAGE=(hd0,gpt2)/boot/vmlinuz-6.1.0-28-amd64 {root} ro quiet"),
                Some("Debian GNU/Linux"),
            ),
            (
                format!("BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 {root} ro single"),
                Some("Debian GNU/Linux, with Linux 6.1.0-28-amd64 (recovery mode)"),
            ),
            (
                format!("BOOT_IMAGE=/boot/vmlinuz-6.1.0-27-amd64 {root} ro typed by hand"),
                Some("Debian GNU/Linux, with Linux 6.1.0-27-amd64"),
            ),
            (format!("BOOT_IMAGE=/boot/vmlinuz-5.10.0 {root}"), None),
            (format!("{root} ro quiet"), None),
        ];
        for (line, expected) in table {
            assert_eq!(
                running_entry(&found, &facts(&line)).map(|entry| entry.title.as_str()),
                expected,
                "{line}"
            );
        }
        assert_eq!(
            running_entry(&found, &LinuxFacts::default()).unwrap().title,
            "Debian GNU/Linux"
        );
    }

    proptest! {
        #[test]
        fn no_configuration_makes_it_panic(text in "(menuentry|submenu|linux|[ '\"{}$#a-z\n]){0,60}") {
            let _ = entries(&text);
        }
    }
}
