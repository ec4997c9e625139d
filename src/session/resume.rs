//! Frees a kernel that was left stopped: in kgdb, in the hypervisor's gdb stub, or by a paused VM.

use crate::bridge::{BreakPort, BridgeSpec, Event, Signals, TargetState};
use crate::model::{
    Address, Cancel, Deadline, EndpointSpec, FailureKind, GdbStubSpec, Policy, PortSpec, PowerState, Problem,
    Role, TargetSpec, Wait,
};
use crate::runner::{RunError, Runner};
use crate::session::break_port::OwnedOrDialled;
use crate::session::join::any_owner;
use crate::session::planning::{Hosts, observe};
use crate::session::serve::start_owned;
use crate::session::target_port::target_port;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A VM that runs has its port open within this.
const OPEN: Duration = Duration::from_secs(5);

/// How long looking at the VM may take.
const LOOK: Duration = Duration::from_secs(10);

/// A stub that nobody else talks to answers within milliseconds.
const STUB: Duration = Duration::from_secs(3);

/// What gdb sends when it leaves: the acknowledgement that the stub may wait for, and `D`.
const DETACH: &[u8] = b"+$D#44";

/// The same for QEMU's stub after a gdb that spoke of processes: it keeps that manner (seen, QEMU 7.2: `$E22#a9`).
const DETACH_PROCESS: &[u8] = b"+$D;1#b0";

/// The stub's consent.
const CONSENT: &[u8] = b"$OK#9a";

/// What a refusal begins with.
const REFUSAL: &[u8] = b"$E";

/// Frees the target's kernel by every way that it has. Returns what was done, a fragment each.
///
/// # Errors
///
/// Precondition: the VM does not run, or its port is somebody else's. Deadline and host: it could not be freed.
pub fn resume(hosts: &dyn Hosts, target: &TargetSpec, state: &Path) -> Result<Vec<String>, Problem> {
    let wait = Wait::new(
        Deadline::after(Instant::now(), LOOK),
        Cancel::new(),
        format!("`{}` to be looked at", target.name),
    );
    let seen = observe(hosts, std::slice::from_ref(target), &wait)?;
    if seen
        .first()
        .is_some_and(|seen| matches!(seen.power, PowerState::Off | PowerState::Suspended))
    {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "the VM of `{}` does not run: there is no kernel to free",
                target.name
            ),
        ));
    }
    let mut done = Vec::new();
    match &target.gdb_stub {
        Some(stub) => done.push(free_stub(hosts, target, stub)?),
        // A paused CPU answers no kgdb, so this comes first.
        None => {
            let runner = hosts.runner(&target.host)?;
            let driver = hosts.driver(target.hypervisor)?;
            done.extend(driver.go_on(runner.as_ref(), target, &wait)?);
        }
    }
    if let Some(port) = target.debug_port() {
        done.push(free_kgdb(hosts, target, port, state)?);
    } else if target.gdb_stub.is_none() {
        return Err(Problem::new(
            FailureKind::Configuration,
            format!("`{}` has no port for a debugger", target.name),
        )
        .hint("Give one of its ports `as: gdb`."));
    }
    Ok(done)
}

/// Frees a kernel that stands in the hypervisor's gdb stub, as [`resume`] does.
///
/// # Errors
///
/// The stub does not answer, or another gdb is attached to it.
pub fn free_stub(hosts: &dyn Hosts, target: &TargetSpec, stub: &GdbStubSpec) -> Result<String, Problem> {
    let runner = hosts.runner(&target.host)?;
    let mut done = leave_stub(runner.as_ref(), target, stub)?;
    let wait = Wait::new(
        Deadline::after(Instant::now(), STUB),
        Cancel::new(),
        "the VM to go on",
    );
    let driver = hosts.driver(target.hypervisor)?;
    if let Some(more) = driver.go_on(runner.as_ref(), target, &wait)? {
        done.push_str(", ");
        done.push_str(&more);
    }
    Ok(done)
}

/// Frees a kernel in kgdb: the debug port's own bridge finds out whether it is stopped, and what an earlier one wrote
/// down tells which breakpoints are planted.
fn free_kgdb(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    port: &PortSpec,
    state: &Path,
) -> Result<String, Problem> {
    if !matches!(port.policy, Policy::Gdb | Policy::ConsoleGdb) {
        return Err(Problem::new(
            FailureKind::Precondition,
            format!(
                "`{}`: freeing a kernel on a port with `as: {}` is not served yet",
                target.name, port.policy
            ),
        )
        .hint(
            "A kernel that is stopped in KD goes on when its debugger says so: attach it again and type `g`.",
        ));
    }
    let place = target_port(hosts, target, port)?;
    if let Some(owner) = any_owner(state, &place.keys)? {
        return Err(owner.refusal().hint("Its own end frees the kernel."));
    }
    let mut spec = BridgeSpec::new(place.source, Vec::new(), port.policy);
    spec.break_means = place.break_means;
    spec.wait = Some(OPEN);
    if let Some(console) = target.console_port().filter(|console| console.port != port.port) {
        spec.break_means = target_port(hosts, target, console)?.break_means;
        spec.break_port = BreakPort::Asked(Arc::new(OwnedOrDialled {
            state: state.to_owned(),
            endpoint: console_endpoint(hosts, target, console)?,
        }));
    }
    let bridge = start_owned(state, &place.keys, spec, Signals::LeftAlone)?;
    let mut events = bridge.handle.events();
    let up = bridge
        .handle
        .status()
        .wait()
        .is_ok_and(|status| status.target == TargetState::Up);
    let mut open = up;
    while !open {
        match events.blocking_recv() {
            Ok(record) => match &record.event {
                Event::Target {
                    state: TargetState::Up,
                    ..
                } => open = true,
                Event::Stopped { .. } => break,
                _ => {}
            },
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
        }
    }
    let freed = if open {
        bridge
            .handle
            .release()
            .wait()
            .unwrap_or_else(|gone| Err(gone.to_string()))
    } else {
        Err(format!("its debug port (port {}) cannot be opened", port.port))
    };
    // It may have ended by itself.
    let _ = bridge.handle.stop("the kernel was freed").wait();
    bridge.join();
    freed.map_err(|reason| {
        Problem::new(
            FailureKind::Host,
            format!("the kernel of `{}` could not be freed: {reason}", target.name),
        )
        .hint("If it hangs for another reason, reset the VM.")
    })
}

fn console_endpoint(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    console: &PortSpec,
) -> Result<EndpointSpec, Problem> {
    let wait = Wait::new(
        Deadline::after(Instant::now(), LOOK),
        Cancel::new(),
        "the console's endpoint",
    );
    let runner = hosts.runner(&target.host)?;
    let driver = hosts.driver(target.hypervisor)?;
    Ok(driver
        .locate(runner.as_ref(), target, console.port, &wait)?
        .other_side())
}

/// Does to a gdb stub what a gdb that leaves does: it takes the breakpoints out and lets the CPUs run.
fn leave_stub(runner: &dyn Runner, target: &TargetSpec, stub: &GdbStubSpec) -> Result<String, Problem> {
    let address = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: stub.port,
    };
    let wait = Wait::new(
        Deadline::after(Instant::now(), STUB),
        Cancel::new(),
        "the gdb stub to let the VM run",
    );
    let mut stream = runner
        .open(&EndpointSpec::new(Some(Role::Connect), address), &wait)
        .map_err(Problem::from)?;
    match detach(stream.as_mut()) {
        Ok(()) => Ok(format!("the gdb stub on TCP port {} let the VM run", stub.port)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
            ) =>
        {
            Err(Problem::new(
                FailureKind::Precondition,
                format!(
                    "the gdb stub of `{}` on TCP port {} accepts and does not answer: a gdb is attached to it",
                    target.name, stub.port
                ),
            )
            .hint("Leave that gdb with `detach`, or end it."))
        }
        Err(source) => Err(Problem::from(RunError::Io {
            what: format!("talk to the gdb stub on TCP port {}", stub.port),
            source,
        })),
    }
}

fn detach(stream: &mut (impl Read + Write + ?Sized)) -> io::Result<()> {
    if !ask(stream, DETACH)? && !ask(stream, DETACH_PROCESS)? {
        return Err(io::Error::other("it refuses to let the VM run"));
    }
    stream.write_all(b"+")?;
    stream.flush()
}

/// Sends a request; tells whether the stub consented. Stop packets that come before its answer are passed over.
fn ask(stream: &mut (impl Read + Write + ?Sized), request: &[u8]) -> io::Result<bool> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    let has = |answer: &[u8], part: &[u8]| answer.windows(part.len()).any(|window| window == part);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
        if has(&answer, CONSENT) {
            return Ok(true);
        }
        if has(&answer, REFUSAL) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    struct Stub {
        says: std::vec::IntoIter<&'static [u8]>,
        heard: Vec<u8>,
    }

    impl Read for Stub {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(bytes) = self.says.next() else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    impl Write for Stub {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stub(says: &[&'static [u8]]) -> Stub {
        let says: Vec<&'static [u8]> = says.to_vec();
        Stub {
            says: says.into_iter(),
            heard: Vec::new(),
        }
    }

    #[test]
    fn the_consent_is_acknowledged_after_whatever_came_before_it() {
        let mut stub = stub(&[b"+$T05thread:01;#07", b"+$O", b"K#9a"]);
        detach(&mut stub).unwrap();
        assert_eq!(stub.heard, b"+$D#44+");
    }

    #[test]
    fn a_stub_that_speaks_of_processes_is_asked_in_its_manner() {
        let mut stub = stub(&[b"$T02thread:p01.01;#03+$E22#a9", b"+$OK#9a"]);
        detach(&mut stub).unwrap();
        assert_eq!(stub.heard, b"+$D#44+$D;1#b0+");
        let refuses = detach(&mut self::stub(&[b"+$E22#a9", b"+$E22#a9"])).unwrap_err();
        assert_eq!(refuses.kind(), io::ErrorKind::Other);
    }

    #[test]
    fn a_silent_stub_is_a_time_out_and_a_closed_one_an_end() {
        assert_eq!(
            detach(&mut stub(&[])).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(
            detach(&mut stub(&[b""])).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
