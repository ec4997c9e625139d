//! Waits for what somebody types in a guest, and tells by what the wire shows whether it worked.

use crate::guest::dialogue::shows_sac;
use crate::guest::linux::by_hand::verify;
use crate::guest::linux::live::LiveWish;
use crate::guest::windows::by_hand::is_kd;
use crate::model::{Problem, Wait};
use crate::session::port_ear::PortEar;

/// How much of what came is kept: the last lines.
const KEPT: usize = 4096;

/// Waits until the port shows that the lines of [`crate::guest::linux::by_hand::lines`] worked. `told` hears of what did not.
///
/// # Errors
///
/// Ctrl-C, the deadline, or the port's end.
pub fn wait_for_hand(
    ear: &mut PortEar,
    wish: &LiveWish,
    mark: &str,
    told: &mut dyn FnMut(&Problem),
    wait: &Wait,
) -> Result<(), Problem> {
    let mut heard = Vec::new();
    loop {
        heard.extend(ear.hear(wait)?);
        let too_much = heard.len().saturating_sub(KEPT);
        heard.drain(..too_much);
        match verify(wish, mark, &heard) {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(problem)) => {
                told(&problem);
                heard.clear();
            }
        }
    }
}

/// Waits until a kernel speaks KD on the port: it was booted with its debugger on.
///
/// # Errors
///
/// Ctrl-C, the deadline, or the port's end.
pub fn wait_for_kd(ear: &mut PortEar, wait: &Wait) -> Result<(), Problem> {
    wait_until(ear, &is_kd, wait)
}

/// Waits until the console of EMS shows its prompt on the port.
///
/// # Errors
///
/// Ctrl-C, the deadline, or the port's end.
pub fn wait_for_sac(ear: &mut PortEar, wait: &Wait) -> Result<(), Problem> {
    wait_until(ear, &shows_sac, wait)
}

fn wait_until(ear: &mut PortEar, is_shown: &dyn Fn(&[u8]) -> bool, wait: &Wait) -> Result<(), Problem> {
    let mut heard = Vec::new();
    loop {
        heard.extend(ear.hear(wait)?);
        if is_shown(&heard) {
            return Ok(());
        }
        // The longest packet, and what stands before it.
        let too_much = heard.len().saturating_sub(2 * KEPT);
        heard.drain(..too_much);
    }
}
