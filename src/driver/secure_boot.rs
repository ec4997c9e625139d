//! What every hypervisor's Secure Boot step says and wants: on a Windows guest BitLocker may measure it.

use crate::model::PowerState;

/// The name by which a Windows guest's Secure Boot step is confirmed.
pub const CONFIRM: &str = "secure-boot";

/// Typed in the guest, it keeps BitLocker from asking: once for the start without Secure Boot, once for the one with it.
const SUSPEND: &str = "Suspend-BitLocker -MountPoint C: -RebootCount 2";

/// Says what only a person in the guest can do, since the host has no way to it. `measured` is what the host knows of BitLocker
/// there, and ends so that "asks" follows.
pub(super) fn recovery_key(measured: &str, power: PowerState) -> String {
    let running = match power {
        PowerState::Running => "",
        _ => "start it and ",
    };
    format!(
        "{measured} asks for its recovery key at the next start: have the recovery key ready, or first {running}type in the guest, elevated, `{SUSPEND}` (it resumes by itself after two starts)"
    )
}
