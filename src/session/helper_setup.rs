//! Where the helper's program is to be, on this machine's Windows side or on another host, and which program is put there.

use crate::host_service::helper::{ObservedHelper, install, is_windows_program, remove};
use crate::model::{Digest, FailureKind, HostPath, HostRef, Problem, ScriptCall, SshHop, Wait};
use crate::plan::{FileSource, Step};
use crate::runner::helper::{Heard, HelperPlaces, hear, hear_program};
use crate::runner::local::Local;
use crate::runner::{RunError, Runner};
use std::io;
use std::path::{Path, PathBuf};

/// Plans the installation of the program `from`, or of the one that is found.
///
/// # Errors
///
/// There is no Windows side here; there is no program to copy, or it is none of Windows.
pub fn plan_install(runner: &dyn Runner, from: Option<&Path>, wait: &Wait) -> Result<Vec<Step>, Problem> {
    let mut observed = observe(runner, wait)?;
    let here = Local::new();
    let path = match from {
        Some(path) => path.to_owned(),
        None => found(&here, runner.host(), &observed, wait)?,
    };
    let place = host_path(&path)?;
    let Some(file) = here.read(&place, wait)? else {
        return Err(
            Problem::new(FailureKind::NotFound, format!("there is no file `{place}`"))
                .hint("Name the program of Windows: `vmserial setup helper --from /mnt/c/…/vmserial.exe`."),
        );
    };
    if !is_windows_program(&file.bytes) {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!("`{place}` is no program of Windows"),
        )
        .hint(where_to_get_it()));
    }
    let source = FileSource {
        path: place,
        digest: file.digest(),
        bytes: file.bytes.len() as u64,
    };
    if observed
        .present
        .as_ref()
        .is_some_and(|there| *there != source.digest)
    {
        observed.answer = Some(match answer(runner.host()) {
            Ok(heard) => format!(
                "vmserial {} answers as the helper now (`{}`)",
                heard.version, heard.name
            ),
            Err(error) => format!("what is there does not answer: {error}"),
        });
    }
    Ok(install(runner.host(), &observed, source).into_iter().collect())
}

/// Starts the helper of a host, hears who it is, and ends it.
///
/// # Errors
///
/// What was tried and what was said to it; both versions, if they do not work together.
pub fn answer(host: &HostRef) -> io::Result<Heard> {
    match host {
        HostRef::Ssh(destination) => hear(&[SshHop(destination.clone())]),
        // A guest behind its console has none: this machine's is meant.
        HostRef::Serial(_) | HostRef::Sac(_) | HostRef::Direct { .. } => hear(&[]),
        HostRef::Local => match HelperPlaces::installed_path() {
            // Windows itself: it is there for WSL and for other machines.
            Some(Ok(path)) if crate::runner::sys::HAS_NAMED_PIPES => hear_program(&path),
            _ => hear(&[]),
        },
    }
}

/// Plans the removal of the program that is installed.
///
/// # Errors
///
/// There is no Windows side here.
pub fn plan_removal(runner: &dyn Runner, wait: &Wait) -> Result<Vec<Step>, Problem> {
    let observed = observe(runner, wait)?;
    Ok(remove(runner.host(), &observed).into_iter().collect())
}

fn observe(runner: &dyn Runner, wait: &Wait) -> Result<ObservedHelper, Problem> {
    let (path, present) = match runner.host() {
        HostRef::Local => {
            let path = local_place()?;
            let present = runner.digest(&path, wait)?;
            (path, present)
        }
        _ => far_place(runner, wait)?,
    };
    Ok(ObservedHelper {
        path,
        present,
        answer: None,
    })
}

fn local_place() -> Result<HostPath, Problem> {
    let refuse = |message: String| {
        Problem::new(FailureKind::Precondition, message)
            .hint("Run this in WSL or on Windows, or name the Windows host: `--host [user@]HOST`.")
    };
    match HelperPlaces::installed_path() {
        Some(Ok(path)) => host_path(&path),
        Some(Err(reason)) => Err(refuse(format!("%LOCALAPPDATA% is not known: {reason}"))),
        None => Err(refuse(
            "there is no Windows around this machine, so a helper has no place here".to_owned(),
        )),
    }
}

/// Asks the host's PowerShell, which has the same environment there as `cmd.exe`, the helper's starter.
fn far_place(runner: &dyn Runner, wait: &Wait) -> Result<(HostPath, Option<Digest>), Problem> {
    let host = runner.host();
    let no_windows = |message: String| {
        Problem::new(FailureKind::Precondition, message).hint(
            "A Linux host needs no such program: its devices are opened by a vmserial on its PATH, its sockets and ports by SSH alone.",
        )
    };
    let answer = match runner.powershell(&ScriptCall::new("host/helper"), wait) {
        Err(RunError::NoPowerShell { .. }) => {
            let message =
                format!("{host} has no PowerShell, so it is no Windows that a helper could be put on");
            return Err(no_windows(message));
        }
        answer => answer?,
    };
    let path = answer["path"].as_str().unwrap_or_default();
    if path.is_empty() {
        return Err(no_windows(format!(
            "{host} has no %LOCALAPPDATA%, so it is no Windows"
        )));
    }
    let present = answer["sha256"].as_str().and_then(Digest::read);
    Ok((HostPath::new(path), present))
}

/// Finds a program to copy: named by VMSERIAL_EXE, this one, or on the PATH; for another host also the one that is
/// installed here.
fn found(here: &Local, host: &HostRef, observed: &ObservedHelper, wait: &Wait) -> Result<PathBuf, Problem> {
    let own = std::env::current_exe().ok();
    let mut places = HelperPlaces::without_installed();
    let named = places.find().ok();
    places.named = None;
    let on_path = places.find().ok();
    let installed = match host {
        HostRef::Local => None,
        _ => HelperPlaces::installed_path().and_then(Result::ok),
    };
    for path in [named, own, on_path, installed].into_iter().flatten() {
        let place = host_path(&path)?;
        let is_other = *host != HostRef::Local || place != observed.path;
        if is_other
            && here
                .read(&place, wait)?
                .is_some_and(|file| is_windows_program(&file.bytes))
        {
            return Ok(path);
        }
    }
    Err(Problem::new(
        FailureKind::NotFound,
        "there is no vmserial.exe to copy: VMSERIAL_EXE names none, this program is none, and none is on the PATH",
    )
    .hint(where_to_get_it()))
}

fn where_to_get_it() -> String {
    format!(
        "Take the vmserial.exe of version {} from its release, or build it (`cargo build --release --target x86_64-pc-windows-gnu`), and name it with `--from`.",
        env!("CARGO_PKG_VERSION")
    )
}

fn host_path(path: &Path) -> Result<HostPath, Problem> {
    let text = path.to_str().ok_or_else(|| {
        Problem::new(
            FailureKind::Configuration,
            format!("`{}` has a name that is no UTF-8", path.display()),
        )
    })?;
    Ok(HostPath::new(text))
}
