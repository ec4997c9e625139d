//! Who may open our pipes: the user who runs us and Administrators, nobody else. Windows' default lets Everyone read.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// Memory of `LocalAlloc`, which the security functions give.
#[derive(Debug)]
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a function that documents LocalFree, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// The access list of the pipes that we make.
#[derive(Debug)]
pub(super) struct PipeAccess {
    descriptor: Local,
}

// SAFETY: the descriptor is only read after it was made, and `LocalFree` may be called on any thread.
unsafe impl Send for PipeAccess {}
// SAFETY: as above; there is no way to change it.
unsafe impl Sync for PipeAccess {}

impl PipeAccess {
    /// Makes the list: full access for the user of this process and for Administrators, nothing inherited.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    pub fn of_user() -> io::Result<Self> {
        let text = format!("D:P(A;;GA;;;{})(A;;GA;;;BA)", user_sid()?);
        let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
        // SAFETY: `wide` ends with a zero and outlives the call; `descriptor` is a valid place for the result.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                std::ptr::null_mut(),
            )
        };
        if made == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            descriptor: Local(descriptor),
        })
    }

    /// Gives the list in the form that `CreateNamedPipe` takes. It points into `self`.
    pub fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.descriptor.0,
            bInheritHandle: 0,
        }
    }
}

/// Returns the SID of the user of this process as text: `S-1-5-21-…`.
fn user_sid() -> io::Result<String> {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: the pseudo handle of this process needs no closing; `token` is a valid place for the result.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above gave us this handle, and nobody else closes it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // Of pointers, because a TOKEN_USER begins with one and must be aligned so. 256 bytes hold the longest SID.
    let mut buffer = [std::ptr::null_mut::<c_void>(); 32];
    let mut length = 0;
    // SAFETY: the buffer has the length that is given, and is aligned for a TOKEN_USER.
    let got = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &raw mut length,
        )
    };
    if got == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut text: *mut u16 = std::ptr::null_mut();
    // SAFETY: the call above filled in a TOKEN_USER, whose SID lies in the same buffer.
    let made = unsafe {
        let user: *const TOKEN_USER = buffer.as_ptr().cast();
        ConvertSidToStringSidW((*user).User.Sid, &raw mut text)
    };
    if made == 0 {
        return Err(io::Error::last_os_error());
    }
    let freed = Local(text.cast());
    let mut length = 0;
    // SAFETY: the text ends with a zero.
    while unsafe { *text.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: so many units were just read.
    let sid = String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(text, length) });
    drop(freed);
    Ok(sid)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_list_is_made_for_whoever_runs_us() {
        assert!(user_sid().unwrap().starts_with("S-1-5-"));
        let access = PipeAccess::of_user().unwrap();
        assert!(!access.attributes().lpSecurityDescriptor.is_null());
    }
}
