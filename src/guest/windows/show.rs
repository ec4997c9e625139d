//! A look at a guest, as people and programs read it. Secrets are masked.

use super::facts::WindowsFacts;
use super::verdict::checks;
use crate::model::CheckState;
use serde_json::{Value, json};

/// Writes what was seen, one line a thing, each with what to do about it.
pub fn text(place: &str, facts: &WindowsFacts) -> String {
    let mut text = format!("Windows on {place}:\n");
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
pub fn json(place: &str, facts: &WindowsFacts) -> Value {
    json!({ "v": 1, "guest": place, "checks": checks(facts), "facts": facts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::windows::bcd::settings;
    use crate::guest::windows::facts::tests::plain;

    #[test]
    fn people_read_what_is_missing_with_what_to_do() {
        let mut facts = plain();
        facts.debugger = settings(include_str!("../../../tests/data/windows/dbgsettings-net.en.txt"));
        insta::assert_snapshot!(text("admin@win", &facts), @r#"
        Windows on admin@win:
          good     rights: elevated
          good     boot entry: Windows 11 {5189b25c-0000-4bf2-bca4-289b11bd29e2}
          good     Secure Boot: none: the guest has no UEFI, or no such switch
          good     BitLocker: does not guard C:, or is suspended
          advice   debugger: off; settings are for `NET`, not for a serial port
                   `vmserial guest windows --port COM1` switches it on, for the next boot.
          -        boot debugging: off
          -        EMS: off: no console (SAC) on a serial port
        "#);
        let value = json("admin@win", &facts);
        assert_eq!(value["facts"]["debugger"]["hostip"], "192.168.2.10");
        assert_eq!(value["facts"]["debugger"]["key"], "***");
    }
}
