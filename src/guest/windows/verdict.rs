//! What a guest can do and how it is set, from what was seen of it.

use super::facts::{BitLocker, WindowsFacts};
use crate::model::{Check, CheckState};

/// Looks at all that matters for debugging, in the order in which people ask for it.
pub fn checks(facts: &WindowsFacts) -> Vec<Check> {
    vec![
        rights(facts),
        store(facts),
        secure_boot(facts),
        bitlocker(facts),
        debugger(facts),
        boot_debug(facts),
        ems(facts),
    ]
}

fn rights(facts: &WindowsFacts) -> Check {
    match facts.elevated {
        Some(true) => Check::new("rights", CheckState::Good, "elevated"),
        Some(false) => Check::new("rights", CheckState::Missing, "not elevated: boot settings are neither shown nor changed")
            .mend("Log in as an administrator: through SSH and PowerShell Direct such a login is elevated; with `--local` start the terminal by \"Run as administrator\"."),
        None => Check::new("rights", CheckState::NotLookedAt, "not known (`whoami` said nothing)"),
    }
}

fn store(facts: &WindowsFacts) -> Check {
    match (&facts.current, &facts.refused) {
        (Some(current), _) => {
            let name = current.elements.get("description").unwrap_or("Windows");
            Check::new(
                "boot entry",
                CheckState::Good,
                format!("{name} {}", current.identifier),
            )
        }
        (None, refused) => {
            let problem = refused
                .as_ref()
                .map(|refused| refused.problem("read the boot settings"));
            let found = problem
                .as_ref()
                .map_or("none is shown", |problem| problem.message.as_str());
            let mut check = Check::new("boot entry", CheckState::Missing, found);
            check.mend = problem.map(|problem| problem.hints).unwrap_or_default();
            check
        }
    }
}

fn secure_boot(facts: &WindowsFacts) -> Check {
    match facts.secure_boot {
        Some(true) => Check::new(
            "Secure Boot",
            CheckState::Missing,
            "on: its policy protects the debugger's settings",
        )
        .mend("Switch the VM's Secure Boot off while the VM is off (`vmserial setup hyperv` does it)."),
        Some(false) => Check::new("Secure Boot", CheckState::Good, "off"),
        None => Check::new(
            "Secure Boot",
            CheckState::Good,
            "none: the guest has no UEFI, or no such switch",
        ),
    }
}

fn bitlocker(facts: &WindowsFacts) -> Check {
    let drive = facts.drive().unwrap_or("the system's drive");
    match facts.bitlocker {
        BitLocker::On => Check::new(
            "BitLocker",
            CheckState::Advice,
            format!("guards {drive}, and would ask for its recovery key"),
        )
        .mend("It is suspended for one boot before the debugger's settings change."),
        BitLocker::Off => Check::new(
            "BitLocker",
            CheckState::Good,
            format!("does not guard {drive}, or is suspended"),
        ),
        BitLocker::Unknown => Check::new(
            "BitLocker",
            CheckState::NotLookedAt,
            "not known (only who is elevated is told)",
        ),
    }
}

fn debugger(facts: &WindowsFacts) -> Check {
    let settings = match (facts.serial(), facts.debugger.get("debugtype")) {
        (Some((port, baud)), _) => format!("COM{port} at {baud}"),
        (None, Some(kind)) => format!("settings are for `{kind}`, not for a serial port"),
        (None, None) => "its settings are not shown".to_owned(),
    };
    match (facts.is_on("debug"), facts.serial()) {
        (true, Some(_)) => Check::new("debugger", CheckState::Good, format!("on, {settings}")),
        (true, None) => Check::new("debugger", CheckState::Advice, format!("on, {settings}"))
            .mend("`vmserial guest windows --port COM1` puts it on a serial port, and keeps what is there for the way back."),
        (false, _) => Check::new("debugger", CheckState::Advice, format!("off; {settings}"))
            .mend("`vmserial guest windows --port COM1` switches it on, for the next boot."),
    }
}

fn boot_debug(facts: &WindowsFacts) -> Check {
    let manager = facts
        .boot_manager
        .as_ref()
        .is_some_and(|object| object.elements.is_on("bootdebug"));
    let said = match (manager, facts.is_on("bootdebug")) {
        (true, true) => "boot manager and boot loader",
        (true, false) => "boot manager",
        (false, true) => "boot loader",
        (false, false) => return Check::new("boot debugging", CheckState::NotLookedAt, "off"),
    };
    Check::new("boot debugging", CheckState::Good, said)
}

fn ems(facts: &WindowsFacts) -> Check {
    if !facts.is_on("ems") && !facts.ems.is_on("bootems") {
        return Check::new(
            "EMS",
            CheckState::NotLookedAt,
            "off: no console (SAC) on a serial port",
        );
    }
    match (facts.ems_port(), facts.serial()) {
        (Some(port), Some((debug, _))) if port == debug && facts.is_on("debug") => Check::new(
            "EMS",
            CheckState::Missing,
            format!("on COM{port}, which is the debugger's: they cannot share a port"),
        )
        .mend("`--ems` or `--port` moves one of them."),
        (Some(port), _) => Check::new("EMS", CheckState::Good, format!("on, COM{port}")),
        (None, _) => Check::new("EMS", CheckState::Good, "on, on the port that the firmware names"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::guest::windows::bcd::settings;
    use crate::guest::windows::facts::tests::plain;

    fn of(facts: &WindowsFacts, name: &str) -> (CheckState, String) {
        let check = checks(facts)
            .into_iter()
            .find(|check| check.name == name)
            .unwrap();
        (check.state, check.found)
    }

    #[test]
    fn a_port_that_both_have_is_told() {
        let mut facts = plain();
        facts.ems = settings("emsport                 2\r\nbootems                 Yes\r\n");
        assert_eq!(of(&facts, "EMS"), (CheckState::Good, "on, COM2".to_owned()));
        facts.debugger = settings(
            "debugtype               Serial\r\ndebugport               2\r\nbaudrate                9600\r\n",
        );
        let current = facts.current.as_mut().unwrap();
        current.elements = current.elements.iter().chain([("debug", "Yes")]).collect();
        assert_eq!(of(&facts, "EMS").0, CheckState::Missing);
        assert_eq!(
            of(&facts, "debugger"),
            (CheckState::Good, "on, COM2 at 9600".to_owned())
        );
    }

    #[test]
    fn what_stands_against_it_is_missing() {
        let mut facts = plain();
        facts.secure_boot = Some(true);
        facts.elevated = Some(false);
        facts.bitlocker = BitLocker::On;
        assert_eq!(of(&facts, "Secure Boot").0, CheckState::Missing);
        assert_eq!(of(&facts, "rights").0, CheckState::Missing);
        assert_eq!(of(&facts, "BitLocker").0, CheckState::Advice);
        facts.current = None;
        assert_eq!(of(&facts, "boot entry").0, CheckState::Missing);
    }
}
