//! Programs that people attach with, a hundred times one after the other: every byte arrives, and no descriptor, thread,
//! task or client is left in the bridge. pyserial is in `telnet_peers.rs`.

mod gdb;
mod terminal_programs;

use crate::census::Census;
use crate::kit::{PATIENCE, Running, Sandbox, finish, is_fast, kill};
use libtest_mimic::{Completion, Trial};
use std::process::{Command, Stdio};
use vmserial_testkit::faults::{Action, HypervisorEnd};

/// How often a client comes and goes.
fn cycles() -> usize {
    if is_fast() { 10 } else { 100 }
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (place, place_name) in [(Place::Unix, "unix"), (Place::Tcp, "tcp"), (Place::Pty, "pty")] {
        let mut add = |program: &'static str, run: fn(Place)| {
            trials.push(trial(
                program,
                &format!("a_hundred_of_{program}_over_{place_name}"),
                move || run(place),
            ));
        };
        add("socat", socat);
        add("gdb", gdb::hundred);
        match place {
            Place::Unix | Place::Tcp => add("nc", nc),
            Place::Pty => {
                add("microcom", terminal_programs::microcom);
                add("tio", terminal_programs::tio);
            }
        }
    }
    trials
}

fn trial(program: &'static str, name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(format!("real_clients::{name}"), move || {
        let found = Command::new("which")
            .arg(program)
            .stdout(Stdio::null())
            .status()?
            .success();
        if !found {
            return Ok(Completion::ignored_with(format!("`{program}` is not installed")));
        }
        test();
        Ok(Completion::Completed)
    })
}

/// Where a client finds the bridge.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Unix,
    Tcp,
    Pty,
}

impl Place {
    /// The client endpoint of a bridge there.
    fn endpoint(self, sandbox: &Sandbox) -> String {
        match self {
            Self::Unix => sandbox.endpoint("listen:unix", "c"),
            Self::Tcp => "listen:tcp:127.0.0.1:0".into(),
            Self::Pty => sandbox.endpoint("pty", "c"),
        }
    }
}

/// A bridge from `vm` to one client.
struct Served {
    bridge: Running,
    /// A path, or a TCP port with its host.
    address: String,
    sandbox: Sandbox,
}

impl Served {
    /// The VM's end listens already.
    fn at(place: Place, sandbox: Sandbox, words: &[&str]) -> Self {
        let mut all: Vec<String> = ["-v", "bridge"].map(String::from).into();
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.push(sandbox.endpoint("connect:unix", "vm"));
        all.push(place.endpoint(&sandbox));
        let mut bridge = sandbox.start(all);
        let line = bridge.wait_line("listening client 1");
        let address = match line.rsplit_once("127.0.0.1:") {
            Some((_, port)) => format!("127.0.0.1:{port}"),
            None => sandbox.path("c").display().to_string(),
        };
        bridge.wait_line("ready");
        Self {
            bridge,
            address,
            sandbox,
        }
    }

    fn census(&self) -> Census {
        Census::of(&self.sandbox, &self.bridge)
    }
}

/// Lets clients come and go at a VM's end that is played: `cycle` is told the number of each.
fn come_and_go(place: Place, mut cycle: impl FnMut(&mut Served, &mut HypervisorEnd, usize)) {
    let sandbox = Sandbox::new();
    let mut vm = HypervisorEnd::listen_unix(sandbox.path("vm"), PATIENCE).unwrap();
    let mut served = Served::at(place, sandbox, &[]);
    vm.play(&[Action::Connect]).unwrap();
    served.bridge.wait_line("target up");
    let mut census = served.census();
    let mut before = None;
    for number in 0..cycles() {
        cycle(&mut served, &mut vm, number);
        if before.is_none() {
            before = Some(census.with_nobody());
        }
    }
    census.assert_back_at(before.unwrap());
    served.bridge.signal("TERM");
    assert_eq!(served.bridge.wait_end(), 0);
}

/// It says something and ends at once: what a client said before it closed arrives.
fn socat(place: Place) {
    come_and_go(place, |served, vm, number| {
        let address = match place {
            Place::Unix => format!("UNIX-CONNECT:{}", served.address),
            Place::Tcp => format!("TCP:{}", served.address),
            Place::Pty => format!("OPEN:{},rawer", served.address),
        };
        let said = format!("client {number};").into_bytes();
        let ended = finish(Command::new("socat").args(["-u", "-", &address]), &said);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        vm.play(&[Action::Expect(said)]).unwrap();
        if place == Place::Pty {
            // Who opens it before the bridge has seen the end is the same user to it.
            served.bridge.wait_line("client 1 detached");
        }
    });
}

/// A question and its answer. It ends by Ctrl-C, as at a terminal, and by itself (`-W 1`: after what it was waiting for).
/// (`-N` is for a server that closes; the bridge keeps who only ended its own direction, for the answer.)
fn nc(place: Place) {
    come_and_go(place, |served, vm, number| {
        let by_signal = number % 2 == 0;
        let mut words = if by_signal { vec![] } else { vec!["-W", "1"] };
        match place {
            Place::Unix => words.extend(["-U", &served.address]),
            _ => words.extend(served.address.split(':')),
        }
        let mut client = Running::start(Command::new("nc").args(words));
        let (said, answer) = (format!("client {number};"), format!("answer {number};"));
        client.type_bytes(said.as_bytes());
        vm.play(&[
            Action::Expect(said.into_bytes()),
            Action::Send(answer.clone().into_bytes()),
        ])
        .unwrap();
        client.wait_output(answer.as_bytes());
        if by_signal {
            kill(client.pid(), "INT");
        }
        let ended = client.wait_end_with_input_open();
        assert_eq!(ended, if by_signal { 128 + 2 } else { 0 });
        assert_eq!(client.all_output(), answer.as_bytes());
    });
}
