//! A login on a serial port without a password, on request: a drop-in for systemd's getty.

use super::facts::LinuxFacts;
use super::live::{Files, Place, check_port, check_rights};
use crate::model::{FailureKind, HostRef, Invocation, Problem};
use crate::plan::{Action, Effect, Step, Undo};

const DROP_IN: &str = include_str!("../../../templates/guest/autologin.conf");

/// Where systemd's units of this machine's own stand.
const UNITS: &str = "/etc/systemd/system";

/// Returns where the drop-in of a port's getty stands.
pub fn drop_in_path(tty: &str) -> String {
    format!("{}/90-vmserial.conf", folder(tty))
}

fn folder(tty: &str) -> String {
    format!("{UNITS}/serial-getty@{tty}.service.d")
}

/// Plans a login as root without a password on this port.
///
/// # Errors
///
/// The guest has no systemd or no such port, or is not ours to change.
pub fn steps(place: &Place, facts: &LinuxFacts, tty: &str, files: &Files) -> Result<Vec<Step>, Problem> {
    let has_systemd = match place.root {
        Some(_) => facts.has_path(UNITS),
        None => facts.systemd,
    };
    if !has_systemd {
        let message = "the guest has no systemd, whose getty would log in without a password";
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Elsewhere it is a line of /etc/inittab: `ttyS0::respawn:/sbin/getty -n -l /bin/sh 115200 ttyS0` (BusyBox)."));
    }
    if place.root.is_none() {
        check_port(facts, tty)?;
    }
    let path = drop_in_path(tty);
    let summary = format!("log in as root on {tty} without a password, by `{path}`");
    let effect = if place.root.is_none() {
        Effect::Live
    } else {
        Effect::NextBoot
    };
    let Some(mut file) = place.file(summary, &path, Some(DROP_IN), files, effect) else {
        return Ok(Vec::new());
    };
    check_rights(facts)?;
    file.notes.push(format!(
        "whoever reaches {tty} is root in the guest, without a password"
    ));
    if place.root.is_none() && !facts.tty(tty).is_some_and(|found| found.console) {
        file.notes.push(format!(
            "systemd starts a login at boot on the kernel's consoles only, and {tty} is none (`--console {tty}`)"
        ));
    }
    let folder = folder(tty);
    let folder = (!facts.has_path(&folder)).then(|| place.folder(&folder, effect));
    let files = folder.into_iter().chain([file]);
    if place.root.is_some() {
        return Ok(files.collect());
    }
    let reload = || Invocation::changes("systemctl", ["daemon-reload"]);
    let unit = format!("serial-getty@{tty}.service");
    // An undo goes backwards: what is done first is taken back last, when the file is as it was.
    let ready = |undo| {
        place.step(
            "see that systemd takes its units",
            Action::Run(reload()),
            undo,
            Effect::Live,
        )
    };
    if matches!(place.host, HostRef::Serial(_)) {
        // That login is the one through which we speak.
        let mut read = place.step(
            "let systemd read it",
            Action::Run(reload()),
            read_again(),
            Effect::Live,
        );
        read.notes.push(format!("in force when {tty} is logged out of"));
        return Ok([ready(Undo::Run(reload()))]
            .into_iter()
            .chain(files)
            .chain([read])
            .collect());
    }
    let script = "systemctl daemon-reload && systemctl restart \"$1\"";
    let restart = || Invocation::changes("sh", ["-c", script, "sh", &unit]);
    let mut apply = place.step(
        format!("start the login on {tty} anew"),
        Action::Run(restart()),
        read_again(),
        Effect::Live,
    );
    apply
        .notes
        .push(format!("whoever is logged in on {tty} is logged out"));
    Ok([ready(Undo::Run(restart()))]
        .into_iter()
        .chain(files)
        .chain([apply])
        .collect())
}

fn read_again() -> Undo {
    Undo::Nothing {
        reason: "systemd reads its units again when the file is back".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const UBUNTU: &str = include_str!("../../../tests/data/guest/ubuntu-24.04.observed");

    fn place(host: HostRef, root: Option<&str>) -> Place {
        Place {
            host,
            target: None,
            root: root.map(str::to_owned),
        }
    }

    fn facts() -> LinuxFacts {
        LinuxFacts::parse(UBUNTU).unwrap()
    }

    fn planned(place: &Place, facts: &LinuxFacts, tty: &str, files: &Files) -> Vec<String> {
        let steps = steps(place, facts, tty, files).unwrap();
        steps.into_iter().map(|step| step.summary).collect()
    }

    #[test]
    fn the_login_is_started_anew_where_it_is_not_ours() {
        let ssh = place(HostRef::Ssh("root@dev".to_owned()), None);
        assert_eq!(
            planned(&ssh, &facts(), "ttyS0", &Files::new()),
            [
                "see that systemd takes its units",
                "make the folder `/etc/systemd/system/serial-getty@ttyS0.service.d`",
                "log in as root on ttyS0 without a password, by `/etc/systemd/system/serial-getty@ttyS0.service.d/90-vmserial.conf`",
                "start the login on ttyS0 anew",
            ]
        );
        let serial = place(HostRef::Serial("unix:/x".to_owned()), None);
        let all = steps(&serial, &facts(), "ttyS0", &Files::new()).unwrap();
        assert_eq!(all[3].summary, "let systemd read it");
        assert!(all.iter().all(|step| match &step.action {
            Action::Run(run) => !run.arguments.iter().any(|word| word.contains("restart")),
            _ => true,
        }));
    }

    #[test]
    fn a_second_run_has_nothing_to_change_and_a_disk_has_only_the_file() {
        let ssh = place(HostRef::Ssh("root@dev".to_owned()), None);
        let mut files = Files::new();
        files.insert(drop_in_path("ttyS0"), Some(DROP_IN.into()));
        assert_eq!(planned(&ssh, &facts(), "ttyS0", &files), Vec::<String>::new());
        let disk = place(HostRef::Local, Some("/mnt"));
        let layout = format!("observe 1\npath {UNITS}\nend 1\n");
        let seen = LinuxFacts::parse(&layout).unwrap();
        assert_eq!(planned(&disk, &seen, "ttyS0", &Files::new()).len(), 2);
    }

    #[test]
    fn refusals() {
        let ssh = place(HostRef::Ssh("root@dev".to_owned()), None);
        let bare = LinuxFacts::parse(&UBUNTU.replace("systemd yes\n", "")).unwrap();
        let problem = steps(&ssh, &bare, "ttyS0", &Files::new()).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Precondition);
        let problem = steps(&ssh, &facts(), "ttyS9", &Files::new()).unwrap_err();
        assert_eq!(problem.kind, FailureKind::NotFound);
    }
}
