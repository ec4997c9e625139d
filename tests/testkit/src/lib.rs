//! Fake hypervisor ends, stand-ins and the fault kit of vmserial's tests.
//!
//! One multi-call program: a link to it (or to the integration tests' own binary, which asks [`multi_call`] first) under
//! the name of a stand-in is that stand-in. It keeps its state in a folder beside the link, so that no environment
//! variable has to reach it.

#[cfg(unix)]
pub mod faults;
pub mod hyperv;
pub mod kgdb;
pub mod powershell;
pub mod vmrun;
#[cfg(windows)]
mod windows;
pub mod windows_guest;
#[cfg(unix)]
pub mod xen;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A stand-in: its arguments and where it keeps its state.
type StandIn = fn(&[String], &Path) -> ExitCode;

const STAND_INS: [(&str, StandIn); 4] = [
    ("vmrun", vmrun::main),
    ("powershell", powershell::windows_powershell),
    ("pwsh", powershell::pwsh),
    ("hang-for-ever", powershell::hang_for_ever),
];

/// Those that only Windows has.
#[cfg(windows)]
use windows::STAND_INS as OF_THIS_SYSTEM;
#[cfg(not(windows))]
const OF_THIS_SYSTEM: &[(&str, StandIn)] = &[
    ("xe", xen::xe),
    ("xl", xen::xl),
    ("xenstore-read", xen::xenstore_read),
    ("xen-qemu", xen::qemu),
    ("service", xen::service),
    ("firewall-port", xen::firewall_port),
    ("firewall-cmd", xen::firewall_cmd),
];

/// Runs a stand-in if the program was called by the name of one, or with that name as first argument; `None` if not.
pub fn multi_call(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let link = on_path(PathBuf::from(words.first()?));
    let name = link.file_stem()?.to_str()?.to_owned();
    let found = |name: &str| {
        let mut all = STAND_INS.iter().chain(OF_THIS_SYSTEM);
        // Windows knows no case: `PowerShell.exe`.
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let (stand_in, skipped) = match found(&name) {
        Some(stand_in) => (stand_in, 1),
        None => (found(words.get(1)?.to_str()?)?, 2),
    };
    let arguments: Vec<String> = words[skipped..]
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let state = state_folder(&link, stand_in.0);
    Some(stand_in.1(&arguments, &state))
}

/// Returns the whole path of a program that a shell called by its bare name.
fn on_path(link: PathBuf) -> PathBuf {
    if link.components().count() > 1 {
        return link;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Windows' programs are called without their ending.
    let file = if cfg!(windows) {
        link.with_extension(std::env::consts::EXE_EXTENSION)
    } else {
        link.clone()
    };
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(&file));
    places.find(|place| place.exists()).unwrap_or(link)
}

/// Returns where a stand-in that is called by this link keeps its state.
pub fn state_folder(link: &Path, name: &str) -> PathBuf {
    link.with_file_name(format!("{name}.state"))
}
