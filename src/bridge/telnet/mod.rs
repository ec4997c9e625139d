//! Telnet (RFC 854 to 858) and COM port control (RFC 2217) around a byte stream, in both roles.
//!
//! | file | what it owns | effects |
//! |---|---|---|
//! | `codec` | the wire: bytes to data, commands, negotiations and subnegotiations, and back | none |
//! | `option` | who does which option: offers, answers, refusals without loops | none |
//! | `com_port` | RFC 2217: what is said, the server's settings, the client's view | none |
//! | `session` | the three together: bytes in, data and requests out, replies owed | none |
//! | `stream` | a session around a channel | the stream |

mod codec;
mod com_port;
mod option;
mod session;
mod stream;

pub use session::{Dialect, Party};
pub use stream::wrap;
