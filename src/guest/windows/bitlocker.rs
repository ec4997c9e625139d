//! BitLocker: suspended before boot settings change, so that it does not ask for its recovery key, and let go on.
//!
//! A change of `debug` or `bootdebug` is one of those that BitLocker measures (Microsoft's page on debugging setup says to suspend
//! it first). Suspended for one boot it takes the new settings for its own at that boot, and guards again by itself.

use super::facts::BitLocker;
use super::program::line;

/// The name by which a step is confirmed that may make BitLocker ask.
pub const CONFIRM: &str = "bitlocker";

/// Suspends it for so many boots.
pub fn suspend(drive: &str, boots: u32) -> Vec<String> {
    let count = boots.to_string();
    line(
        "manage-bde",
        ["-protectors", "-disable", drive, "-RebootCount", &count],
    )
}

/// Lets it guard again at once.
pub fn resume(drive: &str) -> Vec<String> {
    line("manage-bde", ["-protectors", "-enable", drive])
}

/// Returns how its suspension is taken back, after the settings. One that was not used up ends. One that was, by a boot with our
/// settings, must be followed by another: the old settings are as new to BitLocker as ours were.
pub fn take_back(drive: &str, now: BitLocker) -> Vec<String> {
    match now {
        BitLocker::On | BitLocker::Unknown => suspend(drive, 1),
        BitLocker::Off => resume(drive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_that_was_used_up_is_followed_by_another() {
        assert_eq!(
            take_back("C:", BitLocker::Off).join(" "),
            "manage-bde -protectors -enable C:"
        );
        assert_eq!(
            take_back("C:", BitLocker::On).join(" "),
            "manage-bde -protectors -disable C: -RebootCount 1"
        );
    }
}
