//! Reads and writes on one pipe at the same time: a handle without `FILE_FLAG_OVERLAPPED` does one after the other.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_PIPE_CONNECTED, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_GENERIC_READ, FILE_GENERIC_WRITE,
    FlushFileBuffers, OPEN_EXISTING, PIPE_ACCESS_DUPLEX, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, DisconnectNamedPipe, PIPE_READMODE_BYTE, PIPE_TYPE_BYTE,
};
use windows_sys::Win32::System::Threading::CreateEventW;

/// What fits into the pipe each way.
const BUFFER: u32 = 4096;

/// An open pipe, which threads share.
#[derive(Debug, Clone)]
pub struct Pipe(Arc<OwnedHandle>);

fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller was just given this handle, and nobody else closes it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

impl Pipe {
    /// Makes a pipe with one instance, as Hyper-V does.
    pub fn create(path: &[u16]) -> io::Result<Self> {
        // SAFETY: the path ends with a zero; no security attributes are given.
        let handle = unsafe {
            CreateNamedPipeW(
                path.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                PIPE_TYPE_BYTE | PIPE_READMODE_BYTE,
                1,
                BUFFER,
                BUFFER,
                0,
                std::ptr::null(),
            )
        };
        Ok(Self(Arc::new(owned(handle)?)))
    }

    /// Goes to a pipe.
    pub fn open(path: &[u16]) -> io::Result<Self> {
        Self::open_for(path, FILE_GENERIC_READ | FILE_GENERIC_WRITE)
    }

    /// Goes to a pipe for these rights only.
    pub fn open_for(path: &[u16], rights: u32) -> io::Result<Self> {
        // SAFETY: the path ends with a zero; no security attributes and no template are given.
        let handle = unsafe {
            CreateFileW(
                path.as_ptr(),
                rights,
                0,
                std::ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                std::ptr::null_mut(),
            )
        };
        Ok(Self(Arc::new(owned(handle)?)))
    }

    pub fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// Begins an operation and waits for its end.
    fn wait(&self, begin: impl FnOnce(HANDLE, *mut OVERLAPPED) -> i32) -> io::Result<usize> {
        // SAFETY: no pointers are given.
        let event = owned(unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) })?;
        let mut state = OVERLAPPED {
            hEvent: event.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        if begin(self.handle(), &raw mut state) == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                return Err(error);
            }
        }
        let mut count = 0;
        // SAFETY: the operation was begun with this state, which lives until it has ended: the call waits for that.
        if unsafe { GetOverlappedResult(self.handle(), &raw const state, &raw mut count, 1) } == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(count as usize)
    }

    /// Waits for a client.
    pub fn accept(&self) -> io::Result<()> {
        // SAFETY: see `wait`.
        match self.wait(|handle, state| unsafe { ConnectNamedPipe(handle, state) }) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_CONNECTED as i32) => Ok(()),
            result => result.map(|_| ()),
        }
    }

    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: see `wait`; the buffer outlives it and has the length that is given.
        self.wait(|handle, state| unsafe {
            ReadFile(
                handle,
                buffer.as_mut_ptr(),
                buffer.len() as u32,
                std::ptr::null_mut(),
                state,
            )
        })
    }

    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // SAFETY: see `wait`; the bytes outlive it and have the length that is given.
            let count = self.wait(|handle, state| unsafe {
                WriteFile(
                    handle,
                    bytes.as_ptr(),
                    bytes.len() as u32,
                    std::ptr::null_mut(),
                    state,
                )
            })?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Waits until the other end has read everything.
    pub fn flush(&self) {
        // SAFETY: the handle is open. An end that is gone reads no more.
        unsafe { FlushFileBuffers(self.handle()) };
    }

    /// Lets go of the client, which is told so by error 233.
    pub fn disconnect(&self) {
        // SAFETY: the handle is open. Nobody there is fine.
        unsafe { DisconnectNamedPipe(self.handle()) };
    }

    /// Ends what any thread waits for here.
    pub fn cancel(&self) {
        // SAFETY: the handle is open; all operations on it are meant.
        unsafe { CancelIoEx(self.handle(), std::ptr::null()) };
    }
}
