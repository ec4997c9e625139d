//! Streams through SSH, for bridges and for helpers on the far side.

use super::link::Far;
use super::sys;
use crate::bridge::{Channel, Facts};
use crate::model::{Address, SshHop};
use std::io;

impl Far {
    /// Returns the far end of an address that a host can connect to; `None` for all other kinds.
    pub fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Tcp { host, port } => Some(Self::Tcp(host.clone(), *port)),
            Address::Unix(path) => path.to_str().map(|path| Self::Unix(path.to_owned())),
            _ => None,
        }
    }
}

/// Opens a stream through hosts by the built-in engine, the last one being where it ends; nobody is asked anything. A
/// connection to a host is shared by all that go there, and made again when it was lost.
///
/// [`Far::Command`] is a command's standard input and output: the end of its output is an error if it failed, with the last
/// line of its standard error. Four of them share a connection with the host's other commands; more get one of their own.
///
/// # Errors
///
/// Why not, as the reason of a target's state.
///
/// # Cancel safety
///
/// Dropping the future gives the attempt up.
pub async fn open(hops: &[SshHop], far: &Far) -> io::Result<Channel> {
    let chain: Vec<String> = hops.iter().map(|hop| hop.0.clone()).collect();
    let stream = sys::open(&chain, far).await?;
    let peer = format!("ssh {}", chain.join(" "));
    let facts = match far {
        Far::Tcp(..) | Far::Unix(_) => Facts::half_closing(peer),
        // A command that reads no more may write no more either.
        Far::Command(_) => Facts::whole(peer),
    };
    Ok(Channel::new(stream, facts))
}
