//! Where the helper's program is to be on this machine's Windows side, and which program is put there.

use crate::host_service::helper::{ObservedHelper, install, is_windows_program, remove};
use crate::model::{FailureKind, HostPath, HostRef, Problem, Wait};
use crate::plan::{FileSource, Step};
use crate::runner::Runner;
use crate::runner::helper::HelperPlaces;
use std::path::{Path, PathBuf};

/// Plans the installation of the program `from`, or of the one that is found.
///
/// # Errors
///
/// There is no Windows side here; there is no program to copy, or it is none of Windows.
pub fn plan_install(runner: &dyn Runner, from: Option<&Path>, wait: &Wait) -> Result<Vec<Step>, Problem> {
    let observed = observe(runner, wait)?;
    let path = match from {
        Some(path) => path.to_owned(),
        None => found(runner, &observed, wait)?,
    };
    let place = host_path(&path)?;
    let Some(file) = runner.read(&place, wait)? else {
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
    Ok(install(&HostRef::Local, &observed, source).into_iter().collect())
}

/// Plans the removal of the program that is installed.
///
/// # Errors
///
/// There is no Windows side here.
pub fn plan_removal(runner: &dyn Runner, wait: &Wait) -> Result<Vec<Step>, Problem> {
    let observed = observe(runner, wait)?;
    Ok(remove(&HostRef::Local, &observed).into_iter().collect())
}

fn observe(runner: &dyn Runner, wait: &Wait) -> Result<ObservedHelper, Problem> {
    let refuse = |message: String| {
        Problem::new(FailureKind::Precondition, message)
            .hint("Run this in WSL or on Windows. A helper of another host is copied by hand: `scp vmserial.exe HOST:AppData/Local/vmserial/bin/`.")
    };
    let path = match HelperPlaces::installed_path() {
        Some(Ok(path)) => host_path(&path)?,
        Some(Err(reason)) => return Err(refuse(format!("%LOCALAPPDATA% is not known: {reason}"))),
        None => {
            return Err(refuse(
                "there is no Windows around this machine, so a helper has no place here".to_owned(),
            ));
        }
    };
    let present = runner.read(&path, wait)?.map(|file| file.digest());
    Ok(ObservedHelper { path, present })
}

/// Finds a program to copy: named by VMSERIAL_EXE, this one, or on the PATH. The one that is installed is no source.
fn found(runner: &dyn Runner, observed: &ObservedHelper, wait: &Wait) -> Result<PathBuf, Problem> {
    let own = std::env::current_exe().ok();
    let mut places = HelperPlaces::without_installed();
    let named = places.find().ok();
    places.named = None;
    let on_path = places.find().ok();
    for path in [named, own, on_path].into_iter().flatten() {
        let place = host_path(&path)?;
        let is_other = place != observed.path;
        if is_other
            && runner
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
