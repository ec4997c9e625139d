//! Unix: poll(2), Unix sockets as a pair, the terminal by termios.

mod place;
mod socket;
mod terminal;

pub use place::{HAS_USUAL_AGENT, home, known_hosts_of_all, random, spelled_out, user};
pub use socket::{Carrier, PairEnd, Socket, carry, pair, poll};
pub use terminal::Device;
