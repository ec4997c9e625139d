//! What is wanted of a Windows guest: flags before the profile.

use crate::cli::target::GuestTarget;
use crate::guest::windows::steps::WindowsWish;
use crate::model::profile::Bitlocker;
use crate::model::{FailureKind, Policy, PortIndex, Problem};
use crate::session::guest::BAUD;
use crate::session::windows_guest::wish_of;

/// What becomes of BitLocker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BitlockerWord {
    /// Suspended before boot settings change; it resumes by itself
    Suspend,
    /// Left alone: it asks for its recovery key, and the step is confirmed by its name
    Keep,
}

/// What is wanted.
#[derive(Debug, clap::Args)]
pub struct WishArgs {
    /// The debugger's port, as the guest calls it [default: that of the profile's port with `as: kd`]
    #[arg(long, value_name = "COM1|1|…", value_parser = com)]
    pub port: Option<PortIndex>,
    /// Speed of the lines
    #[arg(long, value_name = "N", default_value_t = BAUD)]
    pub baud: u32,
    /// Let boot manager and boot loader be debugged, too
    #[arg(long)]
    pub bootdebug: bool,
    /// Switch EMS on, with its console (SAC) on this port: another one than the debugger's
    #[arg(long, value_name = "COM2|2|…", value_parser = com)]
    pub ems: Option<PortIndex>,
    /// What becomes of BitLocker [default: suspend]
    #[arg(long, value_enum)]
    pub bitlocker: Option<BitlockerWord>,
    /// For how many boots BitLocker is suspended
    #[arg(long, value_name = "1..15", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=15))]
    pub boots: u32,
}

/// Reads a port as Windows or a number says it.
fn com(text: &str) -> Result<PortIndex, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_prefix("com").unwrap_or(&lower);
    number
        .parse()
        .map_err(|_| format!("`{text}` is no port: expected COM1 or 1"))
}

impl WishArgs {
    /// Returns what is wanted, as flags and profile say.
    ///
    /// # Errors
    ///
    /// The profile's port is not for KD.
    pub fn wish(&self, target: Option<&GuestTarget>) -> Result<WindowsWish, Problem> {
        let guest = target.map(|target| &target.guest);
        let ports = target
            .map(|target| target.spec.ports.as_slice())
            .unwrap_or_default();
        let kd = ports.iter().find(|port| port.policy == Policy::Kd);
        if let (None, None, Some(other)) = (self.port, kd, ports.iter().find(|port| port.policy.is_debug())) {
            let message = format!("port {} is not for a Windows kernel", other.port);
            return Err(Problem::new(FailureKind::Configuration, message)
                .hint("Give it `as: kd`: Windows speaks KD, not gdb's protocol."));
        }
        let of_profile = target
            .and_then(|target| wish_of(&target.spec))
            .unwrap_or_default();
        let keep = match (self.bitlocker, guest.and_then(|guest| guest.bitlocker)) {
            (Some(word), _) => word == BitlockerWord::Keep,
            (None, said) => said == Some(Bitlocker::Keep),
        };
        let port = |own: Option<PortIndex>, profile: Option<(u32, u32)>| {
            let number = own.map(PortIndex::number).or(profile.map(|(port, _)| port));
            number.map(|number| (number, self.baud))
        };
        Ok(WindowsWish {
            debug: port(self.port, of_profile.debug),
            boot_debug: self.bootdebug || of_profile.boot_debug,
            ems: port(self.ems, of_profile.ems),
            suspend_bitlocker: !keep,
            boots: self.boots,
        })
    }
}
