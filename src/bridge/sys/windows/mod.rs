//! Windows: named pipes, TCP, standard streams, console events. What Windows does not have is refused by name.

mod absent;
mod pipe;
mod pipe_error;
mod pipe_server;
mod security;
mod signal;
mod standard;
mod stream;
mod tcp;
mod tty;

pub use absent::{PtyServer, SocketMark, Splice, open_pty};
pub use pipe::{HAS_NAMED_PIPES, check_target_path, dial_local, pipe_path};
pub use pipe_server::{LocalListener, listen_local};
pub use signal::StopSignals;
pub use standard::{create_private_file, read_stdin, survive_file_size_limit, write_stdout};
pub use stream::NativeStream;
pub use tcp::{keep_urgent_inline, listen_tcp, tune_tcp};
pub use tty::{TtyHold, check_tty, tty_is_gone};
