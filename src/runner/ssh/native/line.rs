//! One call of a session that does not block, and what came of it.

use ssh2::{BlockDirections, ErrorCode, Session};
use std::io;

/// The host did not open a channel (LIBSSH2_ERROR_CHANNEL_FAILURE).
pub const CHANNEL_FAILURE: i32 = -21;

const EAGAIN: i32 = -37;

/// No code of libssh2's.
const UNKNOWN: i32 = 0;

/// A failed call: libssh2's code and words.
#[derive(Debug)]
pub struct Fault {
    /// libssh2's, 0 if unknown.
    pub code: i32,
    /// Words.
    pub text: String,
}

impl From<ssh2::Error> for Fault {
    fn from(error: ssh2::Error) -> Self {
        let code = match error.code() {
            ErrorCode::Session(code) | ErrorCode::SFTP(code) => code,
        };
        let text = match code {
            // SOCKET_SEND, SOCKET_DISCONNECT, SOCKET_RECV: libssh2 says where in its code that was.
            -7 | -13 | -43 => "the host closed it",
            _ => error.message(),
        };
        Self {
            code,
            text: text.to_owned(),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self {
                code: EAGAIN,
                text: String::new(),
            };
        }
        Self {
            code: UNKNOWN,
            text: error.to_string(),
        }
    }
}

impl Fault {
    /// Tells whether only the channel failed, and the connection goes on (libssh2.h: CHANNEL_OUTOFORDER -20 to
    /// CHANNEL_EOF_SENT -27, INVAL -34).
    pub fn is_the_channels(&self) -> bool {
        (-27..=-20).contains(&self.code) || self.code == -34
    }
}

/// A step of the session.
pub enum Step<T> {
    /// It is through.
    Done(T),
    /// Not yet: the socket is not ready, or another call must be completed first.
    Later,
    /// It failed.
    Failed(Fault),
}

/// The session with the call that must be completed first.
pub struct Line {
    /// The session.
    pub session: Session,
    /// The call that left a packet half sent, by its key.
    pub sticky: Option<u64>,
}

impl Line {
    /// Makes a call, unless another one must be completed first. A call that is to be completed has the same key again.
    pub fn attempt<T, E: Into<Fault>>(
        &mut self,
        key: u64,
        call: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Step<T> {
        if self.sticky.is_some_and(|sticky| sticky != key) {
            return Step::Later;
        }
        self.sticky = None;
        match call(&self.session).map_err(Into::into) {
            Ok(result) => Step::Done(result),
            Err(fault) if fault.code == EAGAIN => {
                if self.is_half_sent() {
                    self.sticky = Some(key);
                }
                Step::Later
            }
            // Reads and writes of `ssh2` lose the code on the way; the session has it.
            Err(fault) if fault.code == UNKNOWN => {
                Step::Failed(match ssh2::Error::last_session_error(&self.session) {
                    Some(error) => error.into(),
                    None => fault,
                })
            }
            Err(fault) => Step::Failed(fault),
        }
    }

    fn is_half_sent(&self) -> bool {
        matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        )
    }
}
