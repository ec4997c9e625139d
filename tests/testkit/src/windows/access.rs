//! What the access list of a pipe says: `pipe-access NAME` prints it as SDDL text, as Windows keeps it.

use super::overlapped::Pipe;
use super::{end, pipe_path, say};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR};
use windows_sys::Win32::Storage::FileSystem::FILE_GENERIC_READ;

/// Prints the access list.
pub fn main(arguments: &[String], _state: &Path) -> ExitCode {
    let [name] = arguments else {
        return ExitCode::from(64);
    };
    end(list(name).map(|text| say(&text)))
}

fn list(name: &str) -> io::Result<String> {
    let pipe = Pipe::open_for(&pipe_path(name), FILE_GENERIC_READ)?;
    let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
    // SAFETY: the handle is open; only the descriptor is asked for, and `descriptor` is a valid place for it.
    let result = unsafe {
        GetSecurityInfo(
            pipe.handle(),
            SE_KERNEL_OBJECT,
            DACL_SECURITY_INFORMATION,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result as i32));
    }
    let mut text: *mut u16 = std::ptr::null_mut();
    let mut length = 0;
    // SAFETY: the descriptor was just given to us; `text` and `length` are valid places for the result.
    let made = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor,
            SDDL_REVISION_1,
            DACL_SECURITY_INFORMATION,
            &raw mut text,
            &raw mut length,
        )
    };
    let said = if made == 0 {
        Err(io::Error::last_os_error())
    } else {
        // SAFETY: the text has so many units.
        let units = unsafe { std::slice::from_raw_parts(text, length as usize) };
        Ok(String::from_utf16_lossy(units).trim_end_matches('\0').to_owned())
    };
    // SAFETY: both came from functions that document LocalFree; null is fine.
    unsafe {
        LocalFree(text.cast());
        LocalFree(descriptor);
    }
    said
}
