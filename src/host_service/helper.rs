//! The helper's program where Windows can start it: `%LOCALAPPDATA%\vmserial\bin\vmserial.exe`, copied there and taken
//! away again.

use crate::model::{Digest, HostPath, HostRef};
use crate::plan::{Action, Effect, FileInstall, FileSource, Step, Undo};

/// What every Windows program begins with.
const MARK: &[u8] = b"MZ";

/// What was seen of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedHelper {
    /// Where the program is to be, in the spelling of the machine that plans.
    pub path: HostPath,
    /// What is there; `None` if nothing is.
    pub present: Option<Digest>,
    /// What the helper that is there said of itself: "vmserial 0.1.0 answers there".
    pub answer: Option<String>,
}

/// Tells whether this is a program of Windows: one of Linux would be copied and never start.
pub fn is_windows_program(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

/// Plans the installation of a program; nothing if it is there already.
pub fn install(host: &HostRef, observed: &ObservedHelper, source: FileSource) -> Option<Step> {
    if observed.present.as_ref() == Some(&source.digest) {
        return None;
    }
    let mut notes: Vec<String> = observed.answer.iter().cloned().collect();
    let verb = match observed.present {
        None => "install",
        Some(_) => {
            notes.push("a helper that runs holds its file: end the bridges that use it first".to_owned());
            "replace"
        }
    };
    Some(step(
        host,
        observed,
        format!("{verb} the helper at `{}`", observed.path),
        Some(source),
        notes,
    ))
}

/// Plans the removal of the program; nothing if there is none.
pub fn remove(host: &HostRef, observed: &ObservedHelper) -> Option<Step> {
    observed.present.as_ref()?;
    let note = "bridges of WSL and of other hosts need another one, or VMSERIAL_EXE, for named pipes";
    Some(step(
        host,
        observed,
        format!("remove the helper at `{}`", observed.path),
        None,
        vec![note.to_owned()],
    ))
}

fn step(
    host: &HostRef,
    observed: &ObservedHelper,
    summary: String,
    new: Option<FileSource>,
    notes: Vec<String>,
) -> Step {
    Step {
        summary,
        host: host.clone(),
        target: None,
        action: Action::Install(FileInstall {
            path: observed.path.clone(),
            planned_on: observed.present.clone(),
            new,
        }),
        undo: Undo::File,
        effect: Effect::Live,
        power: None,
        notes,
        confirm: None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn observed(present: Option<&[u8]>) -> ObservedHelper {
        ObservedHelper {
            path: HostPath::new("/mnt/c/Users/me/AppData/Local/vmserial/bin/vmserial.exe"),
            present: present.map(Digest::of),
            answer: None,
        }
    }

    fn source(bytes: &[u8]) -> FileSource {
        FileSource {
            path: HostPath::new("/x/vmserial.exe"),
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
        }
    }

    #[test]
    fn the_same_program_is_not_copied_again() {
        let host = HostRef::Local;
        assert_eq!(install(&host, &observed(Some(b"MZ1")), source(b"MZ1")), None);
        let fresh = install(&host, &observed(None), source(b"MZ1")).unwrap();
        assert!(fresh.summary.starts_with("install") && fresh.notes.is_empty());
        let newer = install(&host, &observed(Some(b"MZ1")), source(b"MZ2")).unwrap();
        assert!(newer.summary.starts_with("replace") && newer.notes[0].contains("end the bridges"));
        let known = ObservedHelper {
            answer: Some("vmserial 0.0.1 answers there now".to_owned()),
            ..observed(Some(b"MZ1"))
        };
        let step = install(&host, &known, source(b"MZ2")).unwrap();
        assert_eq!(step.notes[0], "vmserial 0.0.1 answers there now");
        let Action::Install(FileInstall { planned_on, new, .. }) = newer.action else {
            panic!("{newer:?}");
        };
        assert_eq!(planned_on, Some(Digest::of(b"MZ1")));
        assert_eq!(new, Some(source(b"MZ2")));
    }

    #[test]
    fn what_is_not_there_is_not_removed() {
        assert_eq!(remove(&HostRef::Local, &observed(None)), None);
        let step = remove(&HostRef::Local, &observed(Some(b"MZ1"))).unwrap();
        assert_eq!(step.undo, Undo::File);
    }

    #[test]
    fn a_program_of_linux_is_none_of_windows() {
        assert!(is_windows_program(b"MZ\x90\0"));
        assert!(!is_windows_program(b"\x7fELF"));
    }
}
