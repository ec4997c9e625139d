//! Who has a terminal device for himself: a lock (flock), a lock file (minicom, cu, mgetty), or the device open exclusively.

use super::holder::{Holder, holder_of_descriptor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where programs put their lock files (FHS 3.0 section 5.9: `LCK..` and the device's base name).
const LOCK_FOLDERS: [&str; 2] = ["/run/lock", "/var/lock"];

/// A busy device is tried again ten times a second, and looking through all processes each time would be seen.
const ANSWER_IS_GOOD_FOR: Duration = Duration::from_secs(2);

/// The answer of the latest look.
static LATEST: Mutex<Option<(PathBuf, Instant, io::ErrorKind, String)>> = Mutex::new(None);

/// Returns the error of a device that somebody has for himself, with his name where the system tells it.
pub(super) fn busy(device: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    let kind = error.kind();
    if !matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy) {
        return error;
    }
    let device = device.canonicalize().unwrap_or_else(|_| device.to_owned());
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, at, was, text)) = &*latest
        && (*of == device && *was == kind && at.elapsed() < ANSWER_IS_GOOD_FOR)
    {
        return io::Error::new(kind, text.clone());
    }
    let locker = (kind == io::ErrorKind::WouldBlock).then(|| lock_holder(&device));
    let holder = locker
        .flatten()
        .or_else(|| holder_of_descriptor(|_, link| link == device));
    let text = match holder {
        Some(holder) => format!("busy: {} has it", holder.text),
        None => "busy".to_owned(),
    };
    *latest = Some((device, Instant::now(), kind, text.clone()));
    io::Error::new(kind, text)
}

/// Finds who holds the lock on a file: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE …` in `/proc/locks`.
fn lock_holder(device: &Path) -> Option<Holder> {
    let found = fs::metadata(device).ok()?;
    let file = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(found.dev()),
        rustix::fs::minor(found.dev()),
        found.ino()
    );
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_lock = fields.nth(1) == Some("FLOCK");
        let pid = fields.nth(2)?;
        (is_lock && fields.next() == Some(&file)).then(|| pid.parse::<u32>().ok())?
    })?;
    // A process of another container has no number here.
    (pid > 0).then(|| Holder::of_process(pid))
}

/// Refuses a device that a program has a lock file for.
pub(super) fn check_lock_files(device: &Path) -> io::Result<()> {
    for folder in LOCK_FOLDERS {
        if let Some((file, pid)) = lock_file(Path::new(folder), device) {
            let holder = Holder::of_process(pid);
            let text = format!("busy: {} has locked it (`{}`)", holder.text, file.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
    }
    Ok(())
}

/// Returns the lock file of a device with the process that it names, if that is another one that lives. One of a process that is gone is
/// nobody's.
fn lock_file(folder: &Path, device: &Path) -> Option<(PathBuf, u32)> {
    let real = device.canonicalize();
    let device = real.as_deref().unwrap_or(device);
    // Pseudo terminals have numbers for base names, and other folders' files no agreed name.
    let name = device
        .strip_prefix("/dev")
        .ok()?
        .to_str()
        .filter(|name| !name.contains('/'))?;
    let file = folder.join(format!("LCK..{name}"));
    let content = fs::read(&file).ok()?;
    // Either text, as the standard has it, or the number itself, as old programs write it.
    let text = std::str::from_utf8(&content).ok().map(str::trim_ascii);
    let number = text
        .and_then(|text| text.split_ascii_whitespace().next()?.parse::<i32>().ok())
        .or_else(|| Some(i32::from_ne_bytes(content.as_slice().try_into().ok()?)))?;
    let pid = Pid::from_raw(number.max(0))?;
    let lives = !matches!(test_kill_process(pid), Err(Errno::SRCH));
    let pid = u32::try_from(number).ok()?;
    (lives && pid != std::process::id()).then_some((file, pid))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_lock_file_counts_while_its_process_lives() {
        let folder = tempfile::tempdir().unwrap();
        let lock = |content: &[u8]| {
            fs::write(folder.path().join("LCK..ttyS77"), content).unwrap();
            lock_file(folder.path(), Path::new("/dev/ttyS77")).map(|(_, pid)| pid)
        };
        assert_eq!(lock_file(folder.path(), Path::new("/dev/ttyS77")), None);
        assert_eq!(lock(b"         1\n"), Some(1));
        assert_eq!(lock(b"1 minicom root\n"), Some(1));
        assert_eq!(lock(&1_i32.to_ne_bytes()), Some(1));
        let own = format!("{:10}\n", std::process::id());
        for nobodys in [&b""[..], b"x\n", b"0\n", b"-1\n", b"2147483647\n", own.as_bytes()] {
            assert_eq!(lock(nobodys), None, "{nobodys:?}");
        }
        fs::write(folder.path().join("LCK..3"), "1").unwrap();
        assert_eq!(lock_file(folder.path(), Path::new("/dev/pts/3")), None);
    }
}
