//! Windows: PowerShell by the crate `powershell_script`, in a job that ends with the process that made it.

use crate::runner::powershell::helper::Said;
use powershell_script::{PsError, PsScriptBuilder};
use std::io;
use std::ptr::null;
use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Whether scripts go through the helper.
pub const HAS_HELPER: bool = true;

/// Runs a script, one line of ours, by `powershell_script`.
///
/// # Errors
///
/// PowerShell could not be started or spoken to.
pub fn by_crate(script: &str) -> io::Result<Said> {
    // The crate unwraps it.
    if std::env::var("PATH").is_err() {
        return Ok(Said::nothing());
    }
    match PsScriptBuilder::new().build().run(script) {
        Ok(output) | Err(PsError::Powershell(output)) => {
            let output = output.into_inner();
            Ok(Said::new(
                output.status.code().unwrap_or(-1),
                &output.stdout,
                &output.stderr,
            ))
        }
        Err(PsError::PowershellNotFound) => Ok(Said::nothing()),
        Err(PsError::Io(error)) => Err(error),
        Err(error @ PsError::ChildStdinNotFound) => Err(io::Error::other(error.to_string())),
    }
}

/// From now on every process that this one starts ends with it, however it ends, and theirs, too.
///
/// # Errors
///
/// The system's refusal.
pub fn end_children_with_us() -> io::Result<()> {
    let failed = |answer: i32| {
        if answer == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // SAFETY: no pointers but a limit structure of the size that is told, all zero but its flags, which is valid for it. The
    // handle of the job is kept open on purpose: the system closes it when this process has ended, and that ends the job.
    unsafe {
        let job = CreateJobObjectW(null(), null());
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = std::mem::zeroed();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let size = u32::try_from(size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>()).unwrap_or(0);
        let set = failed(SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size,
        ))
        .and_then(|()| failed(AssignProcessToJobObject(job, GetCurrentProcess())));
        if set.is_err() {
            CloseHandle(job);
        }
        set
    }
}
