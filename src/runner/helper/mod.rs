//! The helper: a vmserial on another machine, or on the Windows side of this one, that opens streams there for us and
//! carries them over its standard input and output. `docs/dev/helper-protocol.md` has the protocol.

mod find;
mod greeting;
mod hear;
mod host;
mod life;
mod link;
mod pump;
pub mod server;
mod shared;
mod start;
mod stream;
mod wire;
mod wsl;

pub use find::{FindError, HelperPlaces};
pub use hear::{Heard, hear, hear_program};
pub use host::Helpers;
