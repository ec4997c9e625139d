//! microcom and tio on a `pty`, each on a terminal of its own.

use super::{Place, come_and_go};
use crate::kit::{Running, kill};
use std::process::Command;
use vmserial_testkit::faults::Action;

/// A terminal program.
struct Program {
    command: &'static str,
    /// What it shows when it has made its settings.
    is_ready: &'static [u8],
    /// What ends it: keys, each with what is shown before the next ones.
    quit: &'static [(&'static [u8], &'static [u8])],
}

pub(super) fn microcom(place: Place) {
    let program = Program {
        command: "microcom -p",
        is_ready: b"Type the escape character",
        quit: &[(b"\x1c", b"-> "), (b"quit\r", b"exiting")],
    };
    hundred(place, &program);
}

pub(super) fn tio(place: Place) {
    let program = Program {
        command: "tio",
        is_ready: b"Connected",
        quit: &[(b"\x14q", b"Disconnected")],
    };
    hundred(place, &program);
}

/// Every second one is quit as its manual says; the others lose their terminal, as when a window is closed.
fn hundred(place: Place, program: &Program) {
    come_and_go(place, |served, vm, number| {
        let words = format!(
            "EXEC:{} {},pty,setsid,ctty,rawer,stderr",
            program.command, served.address
        );
        let mut user = Running::start(
            Command::new("socat")
                .args(["-", &words])
                .env("TERM", "xterm")
                .env("HOME", served.sandbox.path("")),
        );
        user.wait_output(program.is_ready);
        served.bridge.wait_line("client 1 attached");
        let (said, answer) = (format!("client {number};"), format!("login {number}: "));
        user.type_bytes(said.as_bytes());
        vm.play(&[
            Action::Expect(said.into_bytes()),
            Action::Send(answer.clone().into_bytes()),
        ])
        .unwrap();
        user.wait_output(answer.as_bytes());
        if number % 2 == 0 {
            for (keys, shown) in program.quit {
                user.type_bytes(keys);
                user.wait_output(shown);
            }
        } else {
            kill(user.pid(), "TERM");
        }
        user.wait_end();
        served.bridge.wait_line("client 1 detached");
    });
}
