//! gdb at a kernel that is played (`vmserial_testkit::kgdb`; the real one is in `e2e_bridge.rs`): attached and gone a hundred
//! times, in every way that gdb has of going.

use super::{Place, Served, cycles};
use crate::bridge_rig::{accepted, vm};
use crate::guest::Gdb;
use crate::kit::{Running, Sandbox, wait_until};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use vmserial_testkit::kgdb::Kernel;

/// Plays the kernel until its bridge ends.
fn play(mut port: UnixStream) -> Arc<Mutex<Kernel>> {
    let kernel = Arc::new(Mutex::new(Kernel::default()));
    let played = Arc::clone(&kernel);
    port.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = port.read(&mut buffer) {
            let sent = played.lock().unwrap().receive(&buffer[..count]);
            if port.write_all(&sent).is_err() {
                return;
            }
        }
    });
    kernel
}

/// A gdb with nothing loaded.
fn gdb() -> Gdb {
    let mut gdb = Gdb::of(Running::start(Command::new("gdb").args(["-nx", "-q"])));
    for setting in [
        "pagination off",
        "confirm off",
        "width 0",
        "architecture i386:x86-64",
        // Longer than the bridge takes to find out what the kernel does.
        "remotetimeout 10",
    ] {
        gdb.command(&format!("set {setting}"));
    }
    gdb
}

/// Attaches, and reads what only this question has for an answer.
fn attach(gdb: &mut Gdb, address: &str, number: usize) {
    let place = 0x10_0000 + 8 * number;
    gdb.type_line(&format!("target remote {address}"));
    let said = gdb.command(&format!("output/x *(long long*){place:#x}"));
    assert!(said.contains(&format!("{place:#x}")), "cycle {number}: {said}");
}

pub(super) fn hundred(place: Place) {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    // BREAK is in the stream, as on a port with telnet's ways.
    let mut served = Served::at(place, sandbox, &["--as=gdb", "--break-with=telnet"]);
    let kernel = play(accepted(&listener));
    served.bridge.wait_line("target up");
    let mut census = served.census();
    let runs = || kernel.lock().unwrap().runs();

    let mut one = gdb();
    attach(&mut one, &served.address, 0);
    one.command("disconnect");
    assert!(!runs(), "`disconnect` leaves it stopped");
    let before = census.with_nobody();

    let with_its_own_process = (cycles() / 20).max(2);
    for number in 1..cycles() - with_its_own_process {
        attach(&mut one, &served.address, number);
        // A kernel that runs has to be broken into again, which takes a while: not each time.
        if number % 40 == 5 {
            one.command("detach");
            wait_until("the kernel runs", || runs().then_some(()));
        } else {
            one.command("disconnect");
        }
    }
    one.type_line("quit");
    assert_eq!(one.program.wait_end(), 0);

    for number in cycles() - with_its_own_process..cycles() {
        let mut own = gdb();
        attach(&mut own, &served.address, number);
        if number % 2 == 0 {
            own.type_line("quit");
            own.program.wait_end();
        } else {
            own.program.signal("KILL");
            assert_eq!(own.program.wait_end(), 128 + 9);
            assert!(!runs(), "it is stopped until the next one, or the bridge's end");
        }
    }
    census.assert_back_at(before);
    assert!(kernel.lock().unwrap().asked() >= cycles());
    served.bridge.signal("TERM");
    assert_eq!(served.bridge.wait_end(), 0);
    assert!(runs(), "the bridge's end frees it");
}
