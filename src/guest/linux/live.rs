//! What is set in a running guest without a reboot: `kgdboc`, `kernel.sysrq`, the console's log level, a port's echo.

use super::facts::LinuxFacts;
use super::verdict::{Kgdb, check_able, kgdb};
use crate::model::{
    Digest, EditOperation, FailureKind, FileEdit, FileFormat, HostPath, HostRef, Invocation, Problem,
    TargetName,
};
use crate::plan::{Action, Effect, SettingUndo, Step, Undo};
use std::collections::BTreeMap;

const SET_KGDBOC: &str = include_str!("../../../templates/sh/guest/set-kgdboc.sh");
const SET_VALUE: &str = include_str!("../../../templates/sh/guest/set-value.sh");
const ECHO: &str = include_str!("../../../templates/sh/guest/echo-of-tty.sh");

const SAY: &str = include_str!("../../../templates/sh/guest/say-on-ports.sh");

const KGDBOC: &str = "/sys/module/kgdboc/parameters/kgdboc";
const SYSRQ: &str = "/proc/sys/kernel/sysrq";
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Read at boot, after the distribution's own.
pub const SYSCTL: &str = "/etc/sysctl.d/90-vmserial.conf";

/// What `cat` says where there is no such file.
const NO_FILE: &str = "No such file";

/// The longest value of `kgdboc` (MAX_CONFIG_LEN of drivers/tty/serial/kgdboc.c, with its end).
const KGDBOC_LENGTH: usize = 39;

/// Files as they are, by path on the guest; `None`: there is none.
pub type Files = BTreeMap<String, Option<Vec<u8>>>;

/// What is wanted of the running guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveWish {
    /// kgdb's port and line speed: `("ttyS1", 115200)`.
    pub kgdb: Option<(String, u32)>,
    /// BREAK and `g` break in.
    pub sysrq: bool,
    /// Also after a reboot, by a file in `/etc/sysctl.d`.
    pub keep_sysrq: bool,
    /// Messages below this level reach the console.
    pub log_level: Option<u8>,
    /// This port does not send back what it gets.
    pub no_echo: Option<String>,
}

/// Where steps happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// How the guest is reached.
    pub host: HostRef,
    /// For which target.
    pub target: Option<TargetName>,
    /// The folder that is the guest's root, where nothing of it runs.
    pub root: Option<String>,
}

impl Place {
    /// Returns a path of the guest as the host has it.
    pub fn path(&self, path: &str) -> HostPath {
        match &self.root {
            Some(root) => HostPath::new(format!("{}{path}", root.trim_end_matches('/'))),
            None => HostPath::new(path),
        }
    }

    /// Makes a step of this place.
    pub fn step(&self, summary: impl Into<String>, action: Action, undo: Undo, effect: Effect) -> Step {
        Step {
            summary: summary.into(),
            host: self.host.clone(),
            target: self.target.clone(),
            action,
            undo,
            effect,
            power: None,
            notes: Vec::new(),
            confirm: None,
        }
    }

    /// Makes the step that makes a folder; its undo takes it away if nobody has put anything there.
    pub fn folder(&self, path: &str, effect: Effect) -> Step {
        let run = |text| {
            let there = self.path(path);
            Invocation::changes("sh", script(text, &[there.as_str()]))
        };
        self.step(
            format!("make the folder `{path}`"),
            Action::Run(run("[ -d \"$1\" ] || mkdir -- \"$1\"")),
            Undo::Run(run("rmdir -- \"$1\" 2>/dev/null || :")),
            effect,
        )
    }

    /// Makes the step that gives a file this content (`None` takes it away); nothing if it has it.
    pub fn file(
        &self,
        summary: impl Into<String>,
        path: &str,
        content: Option<&str>,
        files: &Files,
        effect: Effect,
    ) -> Option<Step> {
        let before = files.get(path).cloned().flatten();
        if before.as_deref() == content.map(str::as_bytes) {
            return None;
        }
        let operation = match content {
            Some(text) => EditOperation::Set {
                key: String::new(),
                value: text.to_owned(),
            },
            None => EditOperation::Remove { key: String::new() },
        };
        let edit = FileEdit {
            path: self.path(path),
            format: FileFormat::Whole,
            planned_on: before.as_deref().map(Digest::of),
            operations: vec![operation],
            before,
        };
        Some(self.step(summary, Action::Edit(edit), Undo::Keys, effect))
    }
}

fn script(text: &str, arguments: &[&str]) -> Vec<String> {
    let front = ["-c", text, "sh"].into_iter();
    front
        .chain(arguments.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// Returns the look at whether a port echoes: `on` or `off`.
pub fn look_at_echo(tty: &str) -> Invocation {
    Invocation::reads("sh", script(ECHO, &[&format!("/dev/{tty}")]))
}

/// Returns the command that says `MARK-ttyS0.` on ttyS0, and so on each of these ports.
pub fn say_on_ports(names: &[&str], mark: &str) -> Invocation {
    let arguments: Vec<&str> = std::iter::once(mark).chain(names.iter().copied()).collect();
    Invocation::reads("sh", script(SAY, &arguments))
}

/// Plans what is set in the running guest. `echoes`: what [`look_at_echo`] said of the port of [`LiveWish::no_echo`].
///
/// # Errors
///
/// The kernel cannot be debugged, there is no such port, or who looked may not change anything.
pub fn steps(
    place: &Place,
    facts: &LinuxFacts,
    wish: &LiveWish,
    echoes: Option<bool>,
    files: &Files,
) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    if let Some((tty, baud)) = wish.kgdb.as_ref().filter(|_| place.root.is_none()) {
        check_able(facts)?;
        check_port(facts, tty)?;
        steps.extend(kgdboc(place, facts, &format!("{tty},{baud}"))?);
    }
    if wish.sysrq
        && let Some(mask) = facts.sysrq
        && mask != 1
    {
        let summary = "allow BREAK and `g` (kernel.sysrq = 1)";
        steps.push(setting(place, summary, SYSRQ, &mask.to_string(), "1", "1"));
    }
    if let (Some(level), Some(printk)) = (wish.log_level, &facts.printk) {
        let mut words = printk.split('\t');
        let before = words.next().unwrap_or_default();
        if before != level.to_string() {
            let rest: Vec<&str> = words.collect();
            let ours = [
                vec![level.to_string()],
                rest.iter().map(|word| (*word).to_owned()).collect(),
            ]
            .concat();
            let summary = format!("show messages below level {level} on the consoles");
            steps.push(setting(
                place,
                &summary,
                PRINTK,
                printk,
                &ours.join("\t"),
                &level.to_string(),
            ));
        }
    }
    if let (Some(tty), Some(true)) = (&wish.no_echo, echoes) {
        check_port(facts, tty)?;
        steps.push(no_echo(place, tty));
    }
    if wish.keep_sysrq {
        let text = "# Set by vmserial: BREAK and g on a serial console break into the kernel's debugger.\nkernel.sysrq = 1\n";
        let summary = format!("keep kernel.sysrq = 1 by `{SYSCTL}`");
        steps.extend(place.file(summary, SYSCTL, Some(text), files, Effect::NextBoot));
    }
    if !steps.is_empty() {
        check_rights(facts)?;
    }
    Ok(steps)
}

/// Refuses what only root may do.
///
/// # Errors
///
/// Precondition: another user looked.
pub fn check_rights(facts: &LinuxFacts) -> Result<(), Problem> {
    match facts.uid {
        Some(uid) if uid != 0 => Err(Problem::new(
            FailureKind::Precondition,
            format!("this changes the guest's system, and the user {uid} may not"),
        )
        .hint("Log in as root, or give `--sudo` (`guest: {sudo: true}` in the profile).")),
        _ => Ok(()),
    }
}

/// Refuses a port that the guest does not have.
///
/// # Errors
///
/// Not found, with those that it has.
pub fn check_port(facts: &LinuxFacts, tty: &str) -> Result<(), Problem> {
    if facts.tty(tty).is_some_and(|found| found.present) {
        return Ok(());
    }
    let has: Vec<&str> = facts
        .ttys
        .iter()
        .filter(|tty| tty.present)
        .map(|tty| tty.name.as_str())
        .collect();
    let has = if has.is_empty() {
        "none".to_owned()
    } else {
        has.join(", ")
    };
    Err(
        Problem::new(FailureKind::NotFound, format!("the guest has no serial port `{tty}`; it has: {has}"))
            .hint("Give the VM the port (`vmserial setup`), and power it off and on: a guest sees a new one when it boots."),
    )
}

fn kgdboc(place: &Place, facts: &LinuxFacts, value: &str) -> Result<Vec<Step>, Problem> {
    if value.len() > KGDBOC_LENGTH {
        let message = format!("`{value}` is longer than the {KGDBOC_LENGTH} characters that kgdboc takes");
        return Err(Problem::new(FailureKind::Usage, message));
    }
    let mut steps = Vec::new();
    let before = match &facts.kgdboc {
        Some(before) => before.as_str(),
        None => {
            if kgdb(facts) == Kgdb::Loadable {
                let load = Action::Run(Invocation::changes("modprobe", ["kgdboc"]));
                let unload = Undo::Run(Invocation::changes("modprobe", ["-r", "kgdboc"]));
                steps.push(place.step("load the module kgdboc", load, unload, Effect::Live));
            }
            ""
        }
    };
    if before == value {
        return Ok(steps);
    }
    let set = |value: &str| Invocation::changes("sh", script(SET_KGDBOC, &[KGDBOC, value]));
    let undo = SettingUndo {
        name: "kgdboc".to_owned(),
        look: Invocation::reads("cat", [KGDBOC]),
        absent: NO_FILE.to_owned(),
        ours: Some(value.to_owned()),
        before: Some(before.to_owned()),
        restore: set(before),
    };
    let mut step = place.step(
        format!("point kgdb at {value} (kgdboc)"),
        Action::Run(set(value)),
        Undo::Setting(undo),
        Effect::Live,
    );
    if !before.is_empty() {
        step.notes.push(format!(
            "it was `{before}`, which is put back if the kernel refuses the new one"
        ));
    }
    steps.push(step);
    Ok(steps)
}

fn setting(place: &Place, summary: &str, path: &str, before: &str, ours: &str, write: &str) -> Step {
    let set = |value: &str| Invocation::changes("sh", script(SET_VALUE, &[path, value]));
    let undo = SettingUndo {
        name: path.to_owned(),
        look: Invocation::reads("cat", [path]),
        absent: NO_FILE.to_owned(),
        ours: Some(ours.to_owned()),
        before: Some(before.to_owned()),
        restore: set(before),
    };
    place.step(
        summary,
        Action::Run(set(write)),
        Undo::Setting(undo),
        Effect::Live,
    )
}

fn no_echo(place: &Place, tty: &str) -> Step {
    let device = format!("/dev/{tty}");
    let undo = SettingUndo {
        name: format!("echo of {tty}"),
        look: look_at_echo(tty),
        absent: NO_FILE.to_owned(),
        ours: Some("off".to_owned()),
        before: Some("on".to_owned()),
        restore: Invocation::changes("stty", ["-F", &device, "echo"]),
    };
    let action = Action::Run(Invocation::changes("stty", ["-F", &device, "-echo"]));
    place.step(
        format!("switch the echo of {tty} off"),
        action,
        Undo::Setting(undo),
        Effect::Live,
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const SMALL: &str = include_str!("../../../tests/data/guest/small-kgdb.observed");

    fn place() -> Place {
        Place {
            host: HostRef::Local,
            target: None,
            root: None,
        }
    }

    fn plan(text: &str, wish: &LiveWish, echoes: Option<bool>) -> Result<Vec<String>, Problem> {
        let facts = LinuxFacts::parse(text).unwrap();
        let steps = steps(&place(), &facts, wish, echoes, &Files::new())?;
        Ok(steps.into_iter().map(|step| step.summary).collect())
    }

    fn wish(tty: &str) -> LiveWish {
        LiveWish {
            kgdb: Some((tty.to_owned(), 115_200)),
            sysrq: true,
            ..LiveWish::default()
        }
    }

    #[test]
    fn only_what_is_not_so_yet_is_set() {
        assert_eq!(plan(SMALL, &wish("ttyS1"), None).unwrap(), Vec::<String>::new());
        let bare = SMALL
            .replace("sysrq 1", "sysrq 438")
            .replace("kgdboc ttyS1,115200", "kgdboc ");
        assert_eq!(
            plan(&bare, &wish("ttyS1"), None).unwrap(),
            [
                "point kgdb at ttyS1,115200 (kgdboc)",
                "allow BREAK and `g` (kernel.sysrq = 1)"
            ]
        );
        let module = bare.replace("kgdboc-module there\nkgdboc \n", "kgdboc-module modules.dep\n");
        assert_eq!(
            plan(&module, &wish("ttyS1"), None).unwrap()[0],
            "load the module kgdboc"
        );
        let more = LiveWish {
            log_level: Some(8),
            no_echo: Some("ttyS0".to_owned()),
            keep_sysrq: true,
            ..LiveWish::default()
        };
        let all = plan(SMALL, &more, Some(true)).unwrap();
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(
            plan(
                SMALL,
                &LiveWish {
                    keep_sysrq: false,
                    log_level: Some(7),
                    ..more
                },
                Some(false)
            )
            .unwrap()
            .len(),
            0
        );
    }

    #[test]
    fn a_port_that_is_not_there_is_told_with_those_that_are() {
        for port in ["ttyS2", "ttyS9", "ttyUSB0"] {
            let problem = plan(SMALL, &wish(port), None).unwrap_err();
            assert_eq!(problem.kind, FailureKind::NotFound);
            assert!(problem.message.ends_with("it has: ttyS0, ttyS1"), "{problem}");
        }
    }

    #[test]
    fn another_user_than_root_is_told_before_anything_is_tried() {
        let user = SMALL.replace("observe 1\n", "observe 1\nuid 1000\n");
        assert_eq!(plan(&user, &wish("ttyS1"), None).unwrap(), Vec::<String>::new());
        let problem = plan(&user, &wish("ttyS0"), None).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
    }

    #[test]
    fn the_log_level_s_undo_knows_the_whole_line() {
        let facts = LinuxFacts::parse(SMALL).unwrap();
        let wish = LiveWish {
            log_level: Some(8),
            ..LiveWish::default()
        };
        let steps = steps(&place(), &facts, &wish, None, &Files::new()).unwrap();
        let Undo::Setting(undo) = &steps[0].undo else {
            panic!("{steps:?}");
        };
        assert_eq!(undo.ours.as_deref(), Some("8\t4\t1\t7"));
        assert_eq!(undo.before.as_deref(), Some("7\t4\t1\t7"));
        assert_eq!(undo.restore.arguments.last().unwrap(), "7\t4\t1\t7");
    }

    #[test]
    fn a_root_folder_has_nothing_that_runs() {
        let place = Place {
            root: Some("/mnt".to_owned()),
            ..place()
        };
        let facts = LinuxFacts::parse("observe 1\nend 1\n").unwrap();
        assert_eq!(
            steps(&place, &facts, &wish("ttyS1"), None, &Files::new()),
            Ok(Vec::new())
        );
    }

    #[test]
    fn a_root_folder_s_files_are_below_it() {
        let place = Place {
            root: Some("/mnt/".to_owned()),
            ..place()
        };
        assert_eq!(place.path("/etc/x").as_str(), "/mnt/etc/x");
    }
}
