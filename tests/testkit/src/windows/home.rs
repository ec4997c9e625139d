//! `at-home FOLDER PROGRAM ARGUMENT…` runs a program whose user's folder is this one, and ends as it does. (Wine sets
//! `USERPROFILE` for every program that is started from outside, whatever it was told.) The end of the one ends the other.

use super::say;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::ptr::null;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Runs the program to its end.
pub fn main(arguments: &[String], _state: &Path) -> ExitCode {
    let [folder, program, rest @ ..] = arguments else {
        return ExitCode::from(64);
    };
    match run(folder, program, rest) {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &str, program: &str, arguments: &[String]) -> io::Result<i32> {
    end_children_with_us()?;
    #[expect(clippy::disallowed_methods, reason = "the test kit starts what is tested")]
    let status = Command::new(program)
        .args(arguments)
        .env("USERPROFILE", folder)
        .status()?;
    Ok(status.code().unwrap_or(-1))
}

fn end_children_with_us() -> io::Result<()> {
    let size = u32::try_from(size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>()).map_err(io::Error::other)?;
    // SAFETY: no pointers but a limit structure of the size that is told, all zero but its flags, which is valid for it. The job's
    // handle stays open until this process ends, which ends the job.
    let done = unsafe {
        let job = CreateJobObjectW(null(), null());
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = std::mem::zeroed();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        !job.is_null()
            && SetInformationJobObject(
                job,
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size,
            ) != 0
            && AssignProcessToJobObject(job, GetCurrentProcess()) != 0
    };
    match done {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}
