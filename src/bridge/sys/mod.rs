//! Streams of the operating system, with equal signatures per platform. A system's types never leave its module.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{
    HAS_NAMED_PIPES, LocalListener, NativeStream, PtyServer, SocketMark, Splice, StopSignals, TtyHold,
    check_target_path, check_tty, create_private_file, dial_local, keep_urgent_inline, listen_local,
    listen_tcp, open_pty, pipe_path, read_stdin, survive_file_size_limit, tty_is_gone, tune_tcp,
    write_stdout,
};
#[cfg(windows)]
pub use windows::{
    HAS_NAMED_PIPES, LocalListener, NativeStream, PtyServer, SocketMark, Splice, StopSignals, TtyHold,
    check_target_path, check_tty, create_private_file, dial_local, keep_urgent_inline, listen_local,
    listen_tcp, open_pty, pipe_path, read_stdin, survive_file_size_limit, tty_is_gone, tune_tcp,
    write_stdout,
};
