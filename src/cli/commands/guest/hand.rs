//! Where there is no way into a guest: somebody types the lines there, and a port shows whether they worked.

use super::port::port_to_hear;
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::quantity::parse_duration;
use crate::cli::target::GuestTarget;
use crate::cli::ui::Ui;
use crate::model::{Deadline, FailureKind, Problem, Wait};
use crate::session::interrupt::Interrupt;
use crate::session::planning::RealHosts;
use crate::session::port_ear::PortEar;
use std::time::{Duration, Instant};

/// What is said of typing by hand.
#[derive(Debug, clap::Args)]
pub struct HandArgs {
    /// By hand: where the guest is heard, an endpoint with our role [default: the profile's port for its debugger]
    #[arg(long, value_name = "ENDPOINT", requires = "by_hand")]
    heard: Option<String>,
    /// By hand: give up when the port has not shown within T that it worked (exit 7)
    #[arg(long, value_name = "T", value_parser = parse_duration, default_value = "30m")]
    wait: Duration,
}

/// The port on which somebody's typing is heard.
#[derive(Debug)]
pub struct Hand {
    is_known: bool,
    ear: Option<PortEar>,
    time: Duration,
}

impl HandArgs {
    /// Listens to the port, before anything is typed: the one that is named, else the target's for its debugger. Without a
    /// terminal, or for a plan, nobody waits, and nothing is opened.
    ///
    /// # Errors
    ///
    /// Usage: it is no endpoint of a VM; the port's refusal, or that of a debugger which has it.
    pub fn listen(
        &self,
        target: Option<&GuestTarget>,
        hosts: &RealHosts,
        waits: bool,
        context: &Context,
    ) -> Result<Hand, Failure> {
        let of_target = target.is_some_and(|target| target.spec.debug_port().is_some());
        let port = match &self.heard {
            Some(word) => Some(port_to_hear(word, target, hosts)?),
            None if of_target => Some(port_to_hear("", target, hosts)?),
            None => None,
        };
        let ear = match &port {
            Some(port) if waits => Some(PortEar::open(port, &context.state)?),
            _ => None,
        };
        Ok(Hand {
            is_known: port.is_some(),
            ear,
            time: self.wait,
        })
    }
}

impl Hand {
    /// Says that it is waited for, and waits by `heard` until the port shows that what was typed worked.
    ///
    /// # Errors
    ///
    /// Precondition: there is no terminal to wait on, or no port. Ctrl-C, the deadline, the port's end.
    pub fn wait(
        &mut self,
        what: &str,
        interrupt: &Interrupt,
        ui: &mut Ui,
        heard: &mut dyn FnMut(&mut PortEar, &mut Ui, &Wait) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let Some(ear) = &mut self.ear else {
            let why = if self.is_known {
                "there is no terminal to wait on for what is typed in the guest"
            } else {
                "no port is known on which the guest's answer could be heard"
            };
            return Err(Problem::new(FailureKind::Precondition, why)
                .hint("The lines above do it. `--heard ENDPOINT` names the port where the guest is heard."));
        };
        ui.status(&format!("Waiting for {what} (Ctrl-C ends this)."));
        let deadline = Deadline::after(Instant::now(), self.time);
        let wait = Wait::new(deadline, interrupt.soft.clone(), what);
        heard(ear, ui, &wait)
    }
}
