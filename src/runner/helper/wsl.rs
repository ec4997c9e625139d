//! What WSL tells of the Windows that it runs on.
#![expect(clippy::disallowed_methods, reason = "the runner starts processes")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Windows' drives lie here unless `/etc/wsl.conf` says otherwise; then `cmd.exe` is on the PATH all the same.
const SYSTEM: &str = "/mnt/c/Windows/System32";

/// Tells whether this is WSL: its kernel says so, and each distribution has the interpreter of Windows programs.
pub fn is_here() -> bool {
    // Set in every process of WSL, containers left out.
    if std::env::var_os("WSL_DISTRO_NAME").is_some() {
        return true;
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel.to_ascii_lowercase().contains("microsoft")
        || Path::new("/proc/sys/fs/binfmt_misc/WSLInterop").exists()
}

/// Asks for the user's `%LOCALAPPDATA%`, as WSL reaches it.
///
/// # Errors
///
/// Why it is not known, as a fragment.
pub fn local_app_data() -> Result<PathBuf, String> {
    // `/u`: UTF-16 instead of the console's code page, which has not every name.
    let told = said(
        Command::new(program("cmd.exe"))
            .args(["/d", "/u", "/c", "echo", "%LOCALAPPDATA%"])
            // From a folder of Linux it would complain.
            .current_dir(if Path::new(SYSTEM).is_dir() { SYSTEM } else { "/" }),
        "cmd.exe",
    )?;
    let windows = from_utf16(&told.stdout);
    if windows.is_empty() || windows.contains('%') {
        return Err("Windows has no such variable".to_owned());
    }
    let told = said(Command::new("wslpath").args(["-u", &windows]), "wslpath")?;
    let path = String::from_utf8(told.stdout).map_err(|_| "its path is no UTF-8".to_owned())?;
    Ok(PathBuf::from(path.trim_end_matches(['\r', '\n'])))
}

fn program(name: &str) -> PathBuf {
    which::which(name).unwrap_or_else(|_| Path::new(SYSTEM).join(name))
}

fn said(command: &mut Command, name: &str) -> Result<Output, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("`{name}` ended with {}", output.status))
    }
}

fn from_utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]))
        .collect();
    String::from_utf16_lossy(&units).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_code_page_has_are_read() {
        let line = "C:\\Users\\Żółć 漢\\AppData\\Local\r\n";
        let bytes: Vec<u8> = line.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(from_utf16(&bytes), line.trim());
    }
}
