//! Windows: WSAPoll, TCP sockets of the loopback as a pair, the console.

mod place;
mod socket;
mod terminal;

pub use place::{HAS_USUAL_AGENT, home, known_hosts_of_all, random, spelled_out, user};
pub use socket::{Carrier, PairEnd, Socket, carry, pair, poll};
pub use terminal::Device;
