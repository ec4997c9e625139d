//! "ttyS0 or ttyS1?": the guest says its name on each of its ports, and we hear which one arrives.

use crate::guest::linux::LinuxFacts;
use crate::guest::linux::live::say_on_ports;
use crate::model::{Deadline, FailureKind, Problem, Wait};
use crate::runner::Runner;
use crate::runner::local::must_succeed;
use crate::session::port_ear::{PortEar, PortToHear};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the words may be on their way after the guest has said them.
const ARRIVES: Duration = Duration::from_secs(10);

/// Finds out which of the guest's serial ports a port of the VM is.
///
/// # Errors
///
/// Not found: none of the guest's words arrives. The port's or the guest's refusal.
pub fn find_tty(
    runner: &dyn Runner,
    facts: &LinuxFacts,
    port: &PortToHear,
    state: &Path,
    wait: &Wait,
) -> Result<String, Problem> {
    let names: Vec<&str> = facts
        .ttys
        .iter()
        .filter(|tty| tty.present)
        .map(|tty| tty.name.as_str())
        .collect();
    let mut ear = PortEar::open(port, state)?;
    let mark = format!(
        "vmserial-{}-{}",
        std::process::id(),
        jiff::Timestamp::now().as_millisecond()
    );
    let say = say_on_ports(&names, &mark);
    let output = runner.run(&say, wait)?;
    must_succeed(runner.host(), &say, output)?;
    let arrives = Wait {
        deadline: Deadline::after(Instant::now(), ARRIVES),
        ..wait.clone()
    };
    let mut heard = Vec::new();
    loop {
        if let Some(name) = named(&heard, &mark, &names) {
            return Ok(name);
        }
        match ear.hear(&arrives) {
            Ok(bytes) => heard.extend(bytes),
            Err(problem) if problem.kind == FailureKind::Deadline => return Err(nothing(&names)),
            Err(problem) => return Err(problem),
        }
    }
}

fn nothing(names: &[&str]) -> Problem {
    let message = format!(
        "nothing of what the guest says on {} arrives at this port",
        names.join(", ")
    );
    Problem::new(FailureKind::NotFound, message)
        .hint("Is it a port of this VM? A guest sees a new one after the VM was powered off and on.")
}

/// Finds `MARK-ttyS1.` in what arrived. Kernel messages may stand in the middle: the guest says it three times.
fn named(heard: &[u8], mark: &str, names: &[&str]) -> Option<String> {
    let text = String::from_utf8_lossy(heard);
    names
        .iter()
        .find(|name| text.contains(&format!("{mark}-{name}.")))
        .map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn the_port_is_known_by_its_whole_name() {
        let names = ["ttyS1", "ttyS10"];
        assert_eq!(
            named(b"x\r\nm-ttyS10.\r\n", "m", &names).as_deref(),
            Some("ttyS10")
        );
        assert_eq!(
            named(b"m-tty[ 1.0] x\r\nS1.\r\nm-ttyS1.", "m", &names).as_deref(),
            Some("ttyS1")
        );
        assert_eq!(named(b"other-ttyS1.", "m", &names), None);
    }
}
