//! Which process has something open that we want, as far as the system lets us see (`/proc`).

use crate::model::{FailureKind, Problem};
use std::fs;
use std::path::Path;

/// A process, or what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its name and process identifier, for a message.
    pub(super) text: String,
    /// Its process identifier, if that is known.
    pub(super) pid: Option<u32>,
}

impl Holder {
    /// Describes a process. Of another vmserial the whole command line: it says which port it serves.
    pub(super) fn of_process(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = match name.trim_end() {
            "vmserial" => own_command(pid).unwrap_or_else(|| "vmserial".to_owned()),
            "" => "a process".to_owned(),
            name => name.to_owned(),
        };
        Self {
            text: format!("`{name}` (pid {pid})"),
            pid: Some(pid),
        }
    }

    /// Describes what a user has whose processes we may not look into.
    pub(super) fn of_user(user: u32) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(user)).then_some(name)
        });
        let text = match name {
            Some(name) => format!("a process of the user `{name}`"),
            None => format!("a process of the user {user}"),
        };
        Self { text, pid: None }
    }
}

/// Returns the refusal of what somebody holds, by name where the system tells it: `cannot …: HOLDER does it`.
pub(super) fn held(what: &str, holder: Option<Holder>, does: &str, hint: &str) -> Problem {
    let (text, pid) = match holder {
        Some(holder) => (holder.text, holder.pid),
        None => ("another process".to_owned(), None),
    };
    let problem = Problem::new(FailureKind::Precondition, format!("{what}: {text} {does}"));
    Problem {
        holder: pid,
        ..problem.hint(hint)
    }
}

fn own_command(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let mut words = line.trim_end_matches('\0').split('\0');
    let program = Path::new(words.next()?).file_stem()?.to_str()?;
    shlex::try_join(std::iter::once(program).chain(words)).ok()
}

/// Finds the other process that has a descriptor open which fits (its path in `/proc`, and what it is): the oldest, since
/// whom it started may have inherited the descriptor. Only processes that we may look into are seen.
pub(super) fn holder_of_descriptor(fits: impl Fn(&Path, &Path) -> bool) -> Option<Holder> {
    let (mut own, mut oldest) = (None, None);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|link| fits(&descriptor.path(), &link))
        });
        if holds && pid == std::process::id() {
            own = Some(pid);
        } else if holds {
            let candidate = (start_time(pid), pid);
            oldest = Some(oldest.map_or(candidate, |oldest| candidate.min(oldest)));
        }
    }
    oldest.map(|(_, pid)| pid).or(own).map(Holder::of_process)
}

/// When a process was started, in the system's clock ticks (proc(5): field 22 of `stat`); the latest if it has just ended.
fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name may have anything in it, so the fields are counted behind it.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields
        .split(' ')
        .nth(19)
        .and_then(|field| field.parse().ok())
        .unwrap_or(u64::MAX)
}

/// Finds the process that has the master of `/dev/pts/N` open.
pub(super) fn pty_master_holder(device: &Path) -> Option<Holder> {
    let number = device.strip_prefix("/dev/pts").ok()?.to_str()?;
    holder_of_descriptor(|descriptor, link| {
        link.ends_with("ptmx") && {
            // `/proc/PID/fd/N` has its details in `/proc/PID/fdinfo/N`.
            let details = descriptor
                .parent()
                .and_then(Path::parent)
                .zip(descriptor.file_name())
                .map(|(process, name)| process.join("fdinfo").join(name));
            let details = details.and_then(|path| fs::read_to_string(path).ok());
            details.is_some_and(|text| {
                text.lines()
                    .filter_map(|line| line.strip_prefix("tty-index:"))
                    .any(|index| index.trim() == number)
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_system_does() {
        if Path::new("/etc/passwd").exists() {
            assert_eq!(Holder::of_user(0).text, "a process of the user `root`");
        }
        assert_eq!(
            Holder::of_user(u32::MAX - 7).text,
            "a process of the user 4294967288"
        );
    }
}
