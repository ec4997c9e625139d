//! A look at a guest, as people and programs read it.

use super::facts::LinuxFacts;
use super::verdict::{Kgdb, checks, kgdb};
use crate::model::CheckState;
use serde_json::{Value, json};

/// Writes what was seen, one line a thing, each with what to do about it.
pub fn text(place: &str, facts: &LinuxFacts) -> String {
    let system = facts.os.get("PRETTY_NAME").map_or("Linux", String::as_str);
    let mut text = format!("{system} on {place}:\n");
    for check in checks(facts) {
        let word = match check.state {
            CheckState::Good => "good",
            CheckState::Advice => "advice",
            CheckState::Missing => "MISSING",
            CheckState::NotLookedAt => "-",
        };
        text.push_str(&format!("  {word:<8} {}: {}\n", check.name, check.found));
        for sentence in &check.mend {
            text.push_str(&format!("           {sentence}\n"));
        }
    }
    text
}

/// Returns the same for programs.
pub fn json(place: &str, facts: &LinuxFacts) -> Value {
    let able = match kgdb(facts) {
        Kgdb::Ready => "ready",
        Kgdb::Loadable => "loadable",
        Kgdb::Without(_) => "without",
    };
    json!({ "v": 1, "guest": place, "kgdb": able, "checks": checks(facts), "facts": facts })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn people_read_what_is_missing_with_what_to_do() {
        let facts =
            LinuxFacts::parse(include_str!("../../../tests/data/guest/ubuntu-24.04.observed")).unwrap();
        insta::assert_snapshot!(text("root@guest", &facts), @r"
        Ubuntu 24.04.1 LTS on root@guest:
          good     kernel: 6.8.0-48-generic has kgdb on a serial port (`/boot/config-6.8.0-48-generic`)
          MISSING  lockdown: `integrity`; Secure Boot is on
                   Switch the VM's Secure Boot off: a kernel that is locked down lets no debugger in.
          good     serial ports: ttyS0 (I/O 0x3F8, kernel console, read by agetty), ttyS1 (I/O 0x2F8)
          advice   kgdboc: set to no port
                   `vmserial guest linux --tty ttyS1` sets it, without a reboot.
          advice   SysRq: 176: BREAK and `g` are refused, whatever the mask
                   `vmserial guest linux` sets kernel.sysrq to 1; `echo g > /proc/sysrq-trigger` works with every mask.
          advice   KASLR: on: gdb must be told how far the kernel was moved
                   A boot entry with `nokaslr` leaves it where vmlinux says (`--boot-entry --nokaslr`).
          good     console: ttyS0; messages below level 4
          good     boot loader: GRUB (`/boot/grub/grub.cfg`)
          -        kgdb's boot entries: none
          good     rights: root
        ");
        let value = json("root@guest", &facts);
        assert_eq!(value["kgdb"], "ready");
        assert_eq!(value["facts"]["sysrq"], 176);
    }
}
