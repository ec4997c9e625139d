//! Standard streams and files. A console is read and written as UTF-8 bytes, whatever they are: Rust's own streams refuse
//! what is no UTF-8 and swallow Ctrl-Z.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::windows::io::FromRawHandle;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Console::{
    ENABLE_LINE_INPUT, GetConsoleMode, GetStdHandle, ReadConsoleW, STD_HANDLE, STD_INPUT_HANDLE,
    STD_OUTPUT_HANDLE,
};

/// Opens a file to append to. It takes the folder's access list.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The file behind a standard handle; it is not ours to close.
fn standard(which: STD_HANDLE) -> io::Result<(HANDLE, ManuallyDrop<File>)> {
    // SAFETY: no pointers; the answer is checked.
    let handle = unsafe { GetStdHandle(which) };
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::ErrorKind::NotConnected.into());
    }
    // SAFETY: the handle is open for the life of the process, and never closed through this file.
    Ok((
        handle,
        ManuallyDrop::new(unsafe { File::from_raw_handle(handle) }),
    ))
}

fn is_console(handle: HANDLE) -> bool {
    let mut mode = 0;
    // SAFETY: `mode` is a valid place for the result.
    unsafe { GetConsoleMode(handle, &raw mut mode) != 0 }
}

/// Tells whether the console hands out lines.
fn is_cooked(handle: HANDLE) -> bool {
    let mut mode = 0;
    // SAFETY: `mode` is a valid place for the result.
    unsafe { GetConsoleMode(handle, &raw mut mode) != 0 && mode & ENABLE_LINE_INPUT != 0 }
}

/// The end of input in a console that makes lines.
const CTRL_Z: u16 = 0x1a;

/// What a console gave and nobody took yet.
#[derive(Debug)]
struct Typed {
    bytes: Vec<u8>,
    taken: usize,
    /// The first half of a character outside the basic plane.
    half: Option<u16>,
}

static TYPED: Mutex<Typed> = Mutex::new(Typed {
    bytes: Vec::new(),
    taken: 0,
    half: None,
});

/// Turns what was typed into UTF-8. The first half of a pair is kept for the next call.
fn to_utf8(half: &mut Option<u16>, typed: &[u16]) -> Vec<u8> {
    let mut units: Vec<u16> = half.take().into_iter().chain(typed.iter().copied()).collect();
    if let Some(last @ 0xd800..=0xdbff) = units.last().copied() {
        units.pop();
        *half = Some(last);
    }
    String::from_utf16_lossy(&units).into_bytes()
}

fn read_console(handle: HANDLE, buffer: &mut [u8]) -> io::Result<usize> {
    let mut typed = TYPED.lock().unwrap_or_else(PoisonError::into_inner);
    while typed.taken == typed.bytes.len() {
        let mut units = [0_u16; 1024];
        let mut count = 0;
        // SAFETY: the buffer has room for as many units as are asked for; `count` is a valid place for the result.
        let read = unsafe {
            ReadConsoleW(
                handle,
                units.as_mut_ptr().cast(),
                units.len() as u32,
                &raw mut count,
                std::ptr::null(),
            )
        };
        if read == 0 {
            return Err(io::Error::last_os_error());
        }
        // Ctrl-Z at the start of a line is the end where the console makes lines.
        if units[0] == CTRL_Z && count > 0 && is_cooked(handle) {
            return Ok(0);
        }
        // Ctrl-C in a cooked console ends the read with nothing; its event says the rest.
        let bytes = to_utf8(&mut typed.half, &units[..(count as usize).min(units.len())]);
        typed.bytes = bytes;
        typed.taken = 0;
    }
    let count = buffer.len().min(typed.bytes.len() - typed.taken);
    let from = typed.taken;
    buffer[..count].copy_from_slice(&typed.bytes[from..from + count]);
    typed.taken += count;
    Ok(count)
}

/// Windows has no limit of a file's size that ends a process.
pub fn survive_file_size_limit() {}

/// Reads from standard input; blocks. 0 is its end.
pub fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    let (handle, file) = standard(STD_INPUT_HANDLE)?;
    if is_console(handle) {
        return read_console(handle, buffer);
    }
    match (&*file).read(buffer) {
        // The writer of a pipe closed it.
        Err(error) if error.raw_os_error() == Some(ERROR_BROKEN_PIPE as i32) => Ok(0),
        result => result,
    }
}

/// Writes all of `bytes` to standard output; blocks.
pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let (_, file) = standard(STD_OUTPUT_HANDLE)?;
    (&*file).write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_split_between_two_reads_is_one_character() {
        let mut half = None;
        assert_eq!(to_utf8(&mut half, &[0x61, 0xd83d]), b"a");
        assert_eq!(to_utf8(&mut half, &[0xde00, 0x1a]), "\u{1f600}\u{1a}".as_bytes());
        assert_eq!(half, None);
        assert_eq!(to_utf8(&mut half, &[0xde00]), "\u{fffd}".as_bytes());
    }
}
