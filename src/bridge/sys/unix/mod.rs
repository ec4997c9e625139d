//! Unix: sockets, pseudo terminals, standard streams, signals.

mod files;
mod holder;
mod owner;
mod pty;
mod pty_master;
mod signal;
mod socket;
mod socket_mark;
mod splice;
mod stream;
mod tty;
mod tty_holder;

pub use files::{create_private_file, read_stdin, survive_file_size_limit, write_stdout};
pub use pty::{PtyServer, open_pty};
pub use signal::StopSignals;
pub use socket::{
    HAS_NAMED_PIPES, LocalListener, check_target_path, dial_local, listen_local, listen_tcp, pipe_path,
};
pub use socket_mark::SocketMark;
pub use splice::Splice;
pub use stream::{NativeStream, keep_urgent_inline, tune_tcp};
pub use tty::{TtyHold, check_tty, tty_is_gone};
