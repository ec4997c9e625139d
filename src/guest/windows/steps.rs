//! The steps that make a Windows guest ready for a kernel debugger, or its console ready for EMS.

use super::bitlocker;
use super::facts::{BOOT_MANAGER, BitLocker, DEBUGGER, EMS, WindowsFacts};
use super::program;
use super::refusal::{Refusal, not_elevated, secure_boot};
use crate::guest::linux::live::Place;
use crate::model::{FailureKind, Problem};
use crate::plan::{Action, BootSettingsUndo, Effect, Step, Undo};
use std::collections::BTreeMap;

/// Said of BitLocker where it will ask.
const RECOVERY_KEY: &str =
    "BitLocker asks for its recovery key at the next boot: have the recovery key ready";

/// What is wanted of a Windows guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsWish {
    /// The debugger's COM port and speed.
    pub debug: Option<(u32, u32)>,
    /// Boot manager and loader can be debugged, too.
    pub boot_debug: bool,
    /// EMS' COM port and speed: the SAC console.
    pub ems: Option<(u32, u32)>,
    /// BitLocker is suspended before anything is changed; else it is left alone, and asks.
    pub suspend_bitlocker: bool,
    /// For so many boots.
    pub boots: u32,
}

impl Default for WindowsWish {
    fn default() -> Self {
        Self {
            debug: None,
            boot_debug: false,
            ems: None,
            suspend_bitlocker: true,
            boots: 1,
        }
    }
}

impl WindowsWish {
    /// Tells whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.debug.is_none() && !self.boot_debug && self.ems.is_none()
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    ///
    /// Usage: EMS and the debugger on one port, a port or speed that no guest has.
    pub fn check(&self) -> Result<(), Problem> {
        let usage = |message: String| Err(Problem::new(FailureKind::Usage, message));
        for (port, baud) in self.debug.into_iter().chain(self.ems) {
            if !(1..=4).contains(&port) {
                return usage(format!("COM{port} is no port of a guest: expected COM1 to COM4"));
            }
            if ![9600, 19200, 38400, 57600, 115_200].contains(&baud) {
                return usage(format!(
                    "{baud} is no speed of a debug port: expected 9600, 19200, 38400, 57600 or 115200"
                ));
            }
        }
        match (self.debug, self.ems) {
            (Some((debug, _)), Some((ems, _))) if debug == ems => usage(format!(
                "COM{debug} is wanted for the debugger and for EMS, and they cannot share a port"
            )),
            _ => Ok(()),
        }
    }
}

/// Plans what is wanted, from what was seen.
///
/// # Errors
///
/// Usage: see [`WindowsWish::check`]. Precondition: not elevated, Secure Boot, a port that EMS has, a store that is not there.
pub fn steps(place: &Place, facts: &WindowsFacts, wish: &WindowsWish) -> Result<Vec<Step>, Problem> {
    wish.check()?;
    let what = match wish.debug {
        Some(_) => "switch the kernel's debugger on",
        None => "change the boot settings",
    };
    let Some(current) = &facts.current else {
        if facts.elevated == Some(false) {
            return Err(not_elevated(what));
        }
        let refused = facts.refused.clone();
        let nothing = || Refusal::Other("it printed no entry for the Windows that runs".to_owned());
        return Err(refused.unwrap_or_else(nothing).problem(what));
    };
    check_ports(facts, wish)?;
    let planner = Planner {
        place,
        facts,
        id: &current.identifier,
    };
    let mut steps = Vec::new();
    if let Some((port, baud)) = wish.debug {
        steps.extend(planner.settings(
            format!("put the debugger on COM{port} at {baud}"),
            DEBUGGER,
            [
                "/dbgsettings",
                "serial",
                &format!("debugport:{port}"),
                &format!("baudrate:{baud}"),
            ],
            &[
                ("debugtype", "Serial"),
                ("debugport", &port.to_string()),
                ("baudrate", &baud.to_string()),
            ],
        ));
        steps.extend(planner.flag("switch the kernel's debugger on", planner.id, "debug", "/debug"));
    }
    if wish.boot_debug {
        steps.extend(planner.flag(
            "let the boot manager be debugged",
            BOOT_MANAGER,
            "bootdebug",
            "/bootdebug",
        ));
        steps.extend(planner.flag(
            "let the boot loader be debugged",
            planner.id,
            "bootdebug",
            "/bootdebug",
        ));
    }
    if let Some((port, baud)) = wish.ems {
        steps.extend(planner.settings(
            format!("put EMS on COM{port} at {baud}"),
            EMS,
            [
                "/emssettings",
                &format!("EMSPORT:{port}"),
                &format!("EMSBAUDRATE:{baud}"),
            ],
            &[("emsport", &port.to_string()), ("emsbaudrate", &baud.to_string())],
        ));
        steps.extend(planner.flag(
            "switch EMS on: its console (SAC) is on that port",
            planner.id,
            "ems",
            "/ems",
        ));
    }
    if steps.is_empty() {
        return Ok(steps);
    }
    if facts.elevated == Some(false) {
        return Err(not_elevated(what));
    }
    let guarded = wish.debug.is_some() || wish.boot_debug;
    if guarded && facts.secure_boot == Some(true) {
        return Err(secure_boot(what));
    }
    if guarded {
        planner.guard(wish, &mut steps);
    }
    Ok(steps)
}

/// Refuses a port that EMS and the debugger would share.
fn check_ports(facts: &WindowsFacts, wish: &WindowsWish) -> Result<(), Problem> {
    let refuse =
        |message: String, hint: &str| Err(Problem::new(FailureKind::Precondition, message).hint(hint));
    if let (Some((port, _)), None) = (wish.debug, wish.ems)
        && facts.ems_port() == Some(port)
    {
        return refuse(
            format!("COM{port} has the guest's EMS, and a debugger cannot share its port"),
            "Take the other port for the debugger, or move EMS (`--ems 2`), or switch it off in the guest: `bcdedit /ems off`.",
        );
    }
    if let (Some((port, _)), None) = (wish.ems, wish.debug)
        && facts.is_on("debug")
        && facts.serial().is_some_and(|(debug, _)| debug == port)
    {
        return refuse(
            format!("COM{port} has the guest's debugger, and EMS cannot share its port"),
            "Take the other port for EMS, or move the debugger: `--port`.",
        );
    }
    Ok(())
}

/// What BitLocker does about a change that it measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: it is off, or suspended already.
    Off,
    /// This step keeps it quiet for the next boots.
    Suspend(Box<Step>),
    /// It asks for its recovery key, or may: it is left alone, or nothing is known of it.
    Asks(BitLocker),
}

/// Tells what is to be done about BitLocker before anything that it measures is changed.
pub fn guard(place: &Place, facts: &WindowsFacts, wish: &WindowsWish) -> Guard {
    let drive = match (facts.bitlocker, facts.drive()) {
        (BitLocker::Off, _) => return Guard::Off,
        (BitLocker::On, Some(drive)) if wish.suspend_bitlocker => drive,
        (known, _) => return Guard::Asks(known),
    };
    let boots = match wish.boots {
        1 => "the next boot".to_owned(),
        boots => format!("{boots} boots"),
    };
    Guard::Suspend(Box::new(place.step(
        format!("suspend BitLocker of {drive} for {boots}: it resumes by itself"),
        Action::PowerShell(program::run(&[bitlocker::suspend(drive, wish.boots)])),
        Undo::BitLocker {
            drive: drive.to_owned(),
            look: program::run(&[super::facts::look_at_bitlocker(drive)]),
        },
        Effect::Live,
    )))
}

struct Planner<'a> {
    place: &'a Place,
    facts: &'a WindowsFacts,
    /// The entry that runs. By its GUID, since `{current}` is another one when another one was booted.
    id: &'a str,
}

impl Planner<'_> {
    fn now(&self, object: &str, name: &str) -> Option<String> {
        let elements = match object {
            DEBUGGER => Some(&self.facts.debugger),
            EMS => Some(&self.facts.ems),
            BOOT_MANAGER => self.facts.boot_manager.as_ref().map(|object| &object.elements),
            _ => self.facts.current.as_ref().map(|object| &object.elements),
        };
        elements?.get(name).map(ToOwned::to_owned)
    }

    /// Makes the step that gives some elements these values; nothing if they have them.
    fn settings<'w>(
        &self,
        summary: String,
        object: &str,
        words: impl IntoIterator<Item = &'w str>,
        ours: &[(&str, &str)],
    ) -> Option<Step> {
        let before: BTreeMap<String, Option<String>> = ours
            .iter()
            .map(|(name, _)| ((*name).to_owned(), self.now(object, name)))
            .collect();
        let is_there = ours.iter().all(|(name, value)| {
            let now = before.get(*name).and_then(Option::as_deref);
            now.is_some_and(|now| now.eq_ignore_ascii_case(value))
        });
        if is_there {
            return None;
        }
        let look = match object {
            DEBUGGER => program::one("bcdedit", ["/dbgsettings"]),
            object => program::one("bcdedit", ["/enum", object]),
        };
        let undo = BootSettingsUndo {
            name: summary.clone(),
            object: object.to_owned(),
            look,
            before,
            ours: ours
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let was = match object {
            DEBUGGER => self
                .facts
                .debugger
                .get("debugtype")
                .map(|kind| format!("they are `{kind}` now, and are kept whole")),
            _ => None,
        };
        let mut step = self.place.step(
            summary,
            Action::PowerShell(program::one("bcdedit", words)),
            Undo::BootSettings(undo),
            Effect::NextBoot,
        );
        step.notes.extend(was);
        Some(step)
    }

    fn flag(&self, summary: &str, object: &str, element: &str, command: &str) -> Option<Step> {
        self.settings(
            summary.to_owned(),
            object,
            [command, object, "on"],
            &[(element, "Yes")],
        )
    }

    /// Puts BitLocker's suspension before the steps, or says that it will ask.
    fn guard(&self, wish: &WindowsWish, steps: &mut Vec<Step>) {
        let Some(first) = steps.first_mut() else {
            return;
        };
        match guard(self.place, self.facts, wish) {
            Guard::Off => {}
            Guard::Suspend(step) => steps.insert(0, *step),
            Guard::Asks(known) => {
                first.confirm = Some(bitlocker::CONFIRM.to_owned());
                first.notes.push(match known {
                    BitLocker::On => RECOVERY_KEY.to_owned(),
                    _ => format!(
                        "nothing tells whether BitLocker guards this guest; if it does, {RECOVERY_KEY}"
                    ),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
