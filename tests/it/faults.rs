//! A hypervisor's end that trickles, floods, half-closes, resets, disappears and refuses, under every policy: no byte that
//! the policy keeps is lost, none of an old session reaches a new boot, and the client stays.

mod policy;

use crate::bridge_rig::{random, read_exactly};
use crate::control::Asker;
use crate::kit::{PATIENCE, Running, Sandbox, connect, is_fast, read_until, wait_until};
use libtest_mimic::Trial;
use policy::{Away, POLICIES, Policy, Turn, acked, packet};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vmserial_testkit::faults::{Action, HypervisorEnd};

#[derive(Clone, Copy, PartialEq)]
enum Side {
    ListensUnix,
    ListensTcp,
    DialsUnix,
    DialsTcp,
}

pub fn trials() -> Vec<Trial> {
    type Test = fn(&mut Rig);
    let all = [
        Side::ListensUnix,
        Side::ListensTcp,
        Side::DialsUnix,
        Side::DialsTcp,
    ];
    let listening = [Side::ListensUnix, Side::ListensTcp];
    let faults: [(&str, &[Side], Test); 8] = [
        ("single_bytes", &all[..2], single_bytes),
        ("a_flood_of_0xff", &all[..2], flood),
        ("a_half_close", &all, half_close),
        ("a_reset_in_the_middle_of_an_answer", &all, reset),
        // One is enough where a minute has to be.
        (
            "an_absence_of_1500_ms",
            if is_fast() { &all[..1] } else { &listening },
            absence,
        ),
        ("a_socket_that_is_made_anew", &all[..1], made_anew),
        ("a_refusal_for_a_while", &listening, refusal),
        ("a_full_backlog", &all[..1], full_backlog),
    ];
    let single: [(&str, fn()); 3] = [
        ("gdb_that_waits_for_a_stop_is_told_of_a_reset", told_of_a_reset),
        (
            "last_words_of_a_vm_outlive_a_failed_write_to_it",
            last_words_of_a_vm,
        ),
        (
            "last_words_of_a_client_that_closed_arrive",
            last_words_of_a_client,
        ),
    ];
    let mut trials: Vec<Trial> = single
        .into_iter()
        .map(|(name, test)| {
            Trial::test(format!("faults::{name}"), move || {
                test();
                Ok(())
            })
        })
        .collect();
    for policy in POLICIES {
        for (name, sides, test) in faults {
            for &side in sides {
                let place = match side {
                    Side::ListensUnix => "unix",
                    Side::ListensTcp => "tcp",
                    Side::DialsUnix => "unix_dialled_by_the_vm",
                    Side::DialsTcp => "tcp_dialled_by_the_vm",
                };
                let name = format!("faults::{}_survives_{name}_on_{place}", policy.name);
                trials.push(Trial::test(name, move || {
                    test(&mut Rig::new(policy, side));
                    Ok(())
                }));
            }
        }
    }
    trials
}

/// A bridge between a hypervisor's end and one client.
struct Rig {
    policy: Policy,
    bridge: Running,
    vm: HypervisorEnd,
    client: UnixStream,
    sandbox: Sandbox,
}

impl Rig {
    fn new(policy: Policy, side: Side) -> Self {
        let sandbox = Sandbox::new();
        let path = sandbox.path("vm");
        let vm = match side {
            Side::ListensUnix => Some(HypervisorEnd::listen_unix(&path, PATIENCE)),
            Side::ListensTcp => Some(HypervisorEnd::listen_tcp(PATIENCE)),
            Side::DialsUnix | Side::DialsTcp => None,
        }
        .map(Result::unwrap);
        let target = match (&vm, side) {
            (Some(vm), Side::ListensTcp) => format!("connect:tcp:{}", vm.address().unwrap()),
            (_, Side::DialsTcp) => "listen:tcp:127.0.0.1:0".into(),
            (None, _) => format!("listen:unix:{}", path.display()),
            _ => format!("connect:unix:{}", path.display()),
        };
        let mut words = vec![
            "-v".to_owned(),
            "bridge".into(),
            target,
            sandbox.endpoint(policy.client, "c"),
            format!("--as={}", policy.name),
        ];
        words.extend(policy.beside.iter().map(|kind| sandbox.endpoint(kind, "g")));
        let mut bridge = sandbox.start(words);
        let mut vm = vm.unwrap_or_else(|| {
            let line = bridge.wait_line("listening target");
            match line.rsplit_once("tcp:") {
                Some((_, address)) => HypervisorEnd::dial_tcp(address.parse().unwrap(), PATIENCE),
                None => HypervisorEnd::dial_unix(&path, PATIENCE),
            }
            .unwrap()
        });
        if policy.away == Away::AnsweredByUs {
            // However slow this machine is: our own question is no fault.
            vm.answer(&packet("qC"), &acked("QC1b"), b"+");
        }
        bridge.wait_line("ready");
        vm.play(&[Action::Connect]).unwrap();
        bridge.wait_line("target up");
        let client = connect(&sandbox.path("c"));
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        bridge.wait_line("client 1 attached");
        let mut rig = Self {
            policy,
            bridge,
            vm,
            client,
            sandbox,
        };
        rig.greet();
        rig.talk(3000);
        rig
    }

    fn greet(&mut self) {
        for turn in (self.policy.greeting)() {
            self.take(&turn, vec![Action::Send(turn.vm_sends.clone())]);
        }
    }

    /// A question and its answer, which both arrive whole.
    fn talk(&mut self, count: usize) {
        let turn = (self.policy.talk)(count.min(self.policy.most));
        self.take(&turn, vec![Action::Send(turn.vm_sends.clone())]);
    }

    /// Takes a turn whose answer is delivered by these actions.
    fn take(&mut self, turn: &Turn, delivery: Vec<Action>) {
        self.take_with(turn, delivery, &turn.client_gets);
    }

    fn take_with(&mut self, turn: &Turn, delivery: Vec<Action>, client_gets: &[u8]) {
        self.client.write_all(&turn.client_sends).unwrap();
        let mut script = vec![Action::Expect(turn.vm_gets.clone())];
        script.extend(delivery);
        let (vm, client) = (&mut self.vm, &mut self.client);
        std::thread::scope(|scope| {
            // A big answer fills every buffer: both ends must move.
            let played = scope.spawn(move || vm.play(&script));
            let mut got = vec![0; client_gets.len()];
            let read = client.read_exact(&mut got);
            // What the VM's end met is the reason, if it met something.
            played.join().unwrap().unwrap();
            read.unwrap();
            let same = got
                .iter()
                .zip(client_gets)
                .take_while(|(one, other)| one == other)
                .count();
            assert!(
                same == client_gets.len(),
                "byte {same} of {} is another one: `{}`",
                client_gets.len(),
                got[same..(same + 60).min(got.len())].escape_ascii()
            );
        });
    }

    fn play(&mut self, script: &[Action]) {
        self.vm.play(script).unwrap();
    }

    /// Types while the target is away, and waits until it is known what became of it.
    fn type_while_away(&mut self) {
        match self.policy.away {
            Away::Dropped => {
                self.client.write_all(b"typed while away").unwrap();
                let mut asker = Asker::new(&self.sandbox);
                wait_until("the bytes are dropped and counted", || {
                    (asker.result("status", json!({}))["dropped_to_target"].as_u64()? >= 16).then_some(())
                });
            }
            Away::RefusedWithANotice => {
                self.client.write_all(b"typed while away").unwrap();
                read_until(&mut self.client, b"[vmserial: target away, input refused]\r\n");
            }
            Away::AnsweredByUs => self.leave_a_gone_kernel(),
        }
    }

    /// gdb is told that its kernel is gone, says goodbye, and attaches anew.
    fn leave_a_gone_kernel(&mut self) {
        self.client.write_all(&[b"+", &*packet("?")].concat()).unwrap();
        read_until(&mut self.client, b"$X09#");
        self.client.write_all(&[b"+", &*packet("D")].concat()).unwrap();
        read_until(&mut self.client, b"$OK#9a");
        self.client.write_all(b"+").unwrap();
        // Its place is free only when it is gone.
        self.client.shutdown(std::net::Shutdown::Both).unwrap();
        self.client = connect(&self.sandbox.path("c"));
        self.bridge.wait_line("client 1 attached");
    }

    /// The target came back: whoever was attached still is, and the new boot gets nothing but what is said now.
    fn go_on(&mut self) {
        self.bridge.wait_line("target up");
        if self.policy.away == Away::AnsweredByUs {
            self.leave_a_gone_kernel();
        }
        self.greet();
        self.talk(20_000);
    }

    /// The same after bytes were typed meanwhile.
    fn go_on_after_typing(&mut self) {
        self.bridge.wait_line("target up");
        self.greet();
        self.talk(20_000);
    }
}

fn single_bytes(rig: &mut Rig) {
    let turn = (rig.policy.talk)(4000);
    rig.take(&turn, vec![Action::Trickle(turn.vm_sends.clone())]);
    rig.talk(300_000);
}

fn flood(rig: &mut Rig) {
    // Together not more than the policy keeps.
    let half = rig.policy.most / 2;
    let turn = (rig.policy.talk)(half.min(300_000));
    let count = half.min(1 << 20);
    let gets = [&vec![0xff; count][..], &turn.client_gets].concat();
    let delivery = vec![Action::Flood(0xff, count), Action::Send(turn.vm_sends.clone())];
    rig.take_with(&turn, delivery, &gets);
    rig.talk(20_000);
}

fn half_close(rig: &mut Rig) {
    let turn = (rig.policy.talk)(rig.policy.most.min(300_000));
    // What it sent before its end arrives.
    rig.take(
        &turn,
        vec![Action::Send(turn.vm_sends.clone()), Action::HalfClose],
    );
    rig.bridge.wait_line("target away");
    rig.play(&[Action::Connect]);
    rig.go_on();
}

fn reset(rig: &mut Rig) {
    let turn = (rig.policy.talk)(2000);
    let (first, _) = turn.vm_sends.split_at(turn.vm_sends.len() / 2);
    // The question stays unread: what an old kernel did not take is not for the new one.
    rig.client.write_all(&turn.client_sends).unwrap();
    rig.play(&[
        Action::Expect(turn.vm_gets[..1].to_vec()),
        Action::Send(first.to_vec()),
    ]);
    if rig.policy.away == Away::AnsweredByUs {
        rig.play(&[Action::Reset]);
        // gdb waits for its answer, and gets one at once.
        read_until(&mut rig.client, &packet("E01"));
    } else {
        assert_eq!(read_exactly(&mut rig.client, first.len()), first);
        rig.play(&[Action::Reset]);
    }
    let line = rig.bridge.wait_line("target away");
    assert!(line.contains("reset"), "{line}");
    rig.play(&[Action::Connect]);
    rig.go_on();
}

/// Keys typed into a boot menu stop a VM: the new boot gets nothing until somebody attaches to it.
fn told_of_a_reset() {
    let mut rig = Rig::new(POLICIES[2], Side::ListensTcp);
    rig.client.write_all(&[b"+", &*packet("c")].concat()).unwrap();
    rig.play(&[
        Action::Expect([b"+", &*packet("c")].concat()),
        Action::Send(b"+".to_vec()),
        Action::Reset,
        Action::Connect,
    ]);
    let told = [b"+", &*packet("X09")].concat();
    assert_eq!(read_exactly(&mut rig.client, told.len()), told);
    rig.client.write_all(&[b"+", &*packet("?")].concat()).unwrap();
    rig.go_on();
    let connections = rig.vm.connections();
    assert_eq!(connections.len(), 2);
    assert!(
        connections[1].read.starts_with(&packet("?")),
        "our probe of the new session"
    );
}

/// The client does not read, so the VM's panic waits in the socket; then the client's key is what finds the VM dead.
/// (TCP itself throws a closed peer's bytes away when something is sent to it.)
fn last_words_of_a_vm() {
    for side in [Side::ListensUnix, Side::DialsUnix] {
        let mut rig = Rig::new(POLICIES[0], side);
        // More than all buffers take, read until the last of it lies in the VM's socket.
        let panic = random(4 << 20);
        let mut read = Vec::new();
        let script = [Action::Send(panic.clone()), Action::Refuse, Action::Close];
        let (vm, client) = (&mut rig.vm, &mut rig.client);
        std::thread::scope(|scope| {
            let playing = scope.spawn(move || vm.play(&script));
            while !playing.is_finished() {
                read.extend(read_exactly(client, 4096));
            }
            playing.join().unwrap().unwrap();
        });
        rig.client.write_all(b"key").unwrap();
        let mut asker = Asker::new(&rig.sandbox);
        wait_until("the key is dropped and counted", || {
            (asker.result("status", json!({}))["dropped_to_target"] == 3).then_some(())
        });
        let left = panic.len() - read.len();
        read.extend(read_exactly(&mut rig.client, left));
        assert!(read == panic, "nothing is lost");
        rig.play(&[Action::Listen, Action::Connect]);
        rig.go_on();
    }
}

/// `echo reboot | nc -U console` on a busy console: it closes without reading.
fn last_words_of_a_client() {
    for policy in &POLICIES[..2] {
        let mut rig = Rig::new(*policy, Side::ListensUnix);
        rig.client.shutdown(std::net::Shutdown::Both).unwrap();
        rig.bridge.wait_line("client 1 detached");
        for _ in 0..20 {
            let mut client = connect(&rig.sandbox.path("c"));
            rig.bridge.wait_line("client 1 attached");
            let vm = &mut rig.vm;
            std::thread::scope(|scope| {
                // More than all buffers take: the bridge owes the client something when it closes.
                let playing = scope
                    .spawn(|| vm.play(&[Action::Flood(b'.', 1 << 20), Action::Expect(b"reboot\n".to_vec())]));
                read_exactly(&mut client, 100_000);
                client.write_all(b"reboot\n").unwrap();
                drop(client);
                playing.join().unwrap().unwrap();
            });
        }
    }
}

fn absence(rig: &mut Rig) {
    rig.play(&[Action::Close, Action::Refuse]);
    rig.bridge.wait_line("target away: refused");
    rig.type_while_away();
    rig.play(&[Action::Away(Duration::from_millis(1500)), Action::Connect]);
    rig.go_on_after_typing();
}

fn made_anew(rig: &mut Rig) {
    // With the connection kept: nobody notices.
    rig.play(&[Action::Unlink]);
    rig.talk(20_000);
    rig.play(&[Action::Listen]);
    rig.talk(20_000);
    // With the connection lost, and nothing there for a while.
    rig.play(&[Action::Unlink, Action::Close]);
    rig.bridge.wait_line("target away: absent");
    rig.type_while_away();
    rig.play(&[Action::Listen, Action::Connect]);
    rig.go_on_after_typing();
}

fn refusal(rig: &mut Rig) {
    rig.play(&[Action::Refuse, Action::Close]);
    rig.bridge.wait_line("target away: refused");
    rig.play(&[Action::Listen, Action::Connect]);
    rig.go_on();
}

fn full_backlog(rig: &mut Rig) {
    rig.play(&[Action::FillBacklog, Action::Close]);
    rig.bridge.wait_line("target away: busy");
    rig.type_while_away();
    rig.play(&[Action::FreeBacklog, Action::Connect]);
    rig.go_on_after_typing();
    // Nothing is left on the way to the client.
    rig.client.set_nonblocking(true).unwrap();
    assert!(
        rig.client
            .read(&mut [0; 16])
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    );
}
