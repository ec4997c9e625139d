//! Hyper-V's end of a COM port's pipe: `hyperv-pipe NAME PORT`. The guest's UART is the TCP connection to 127.0.0.1:PORT.
//!
//! It behaves as the VM's worker process does (`docs/dev/windows.md` has the sources): the pipe is there only while the
//! VM runs (before and after: error 2); it has one instance (a second client: 231); what the guest writes with nobody
//! attached is lost; a reset is `DisconnectNamedPipe` on an instance that stays (the client reads 233, and 231 until the
//! worker listens again); turning the VM off closes the pipe (109).
//!
//! Lines that it takes: `on`, `off`, `reset`, `unplug` (the first half of a reset), `plug` (the second). It answers with
//! the same word when it is done, and says `client` and `gone NUMBER` when one comes and goes.

use super::overlapped::Pipe;
use super::{each_line, end, pipe_path, say};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Runs the VM's end until standard input ends.
pub fn main(arguments: &[String], _state: &Path) -> ExitCode {
    let [name, port] = arguments else {
        return ExitCode::from(64);
    };
    end(run(name, port))
}

#[derive(Debug, Default)]
struct Link {
    /// A client is there.
    pipe: Mutex<Option<Pipe>>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Option<Pipe>> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The VM while it runs.
struct Worker {
    pipe: Pipe,
    ending: Arc<AtomicBool>,
    plugged: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

fn run(name: &str, port: &str) -> io::Result<()> {
    let wire = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    wire.set_nodelay(true)?;
    let link = Arc::new(Link::default());
    let (from_guest, to_pipe) = (wire.try_clone()?, Arc::clone(&link));
    std::thread::spawn(move || guest_writes(from_guest, &to_pipe));
    let path = pipe_path(name);
    let mut worker: Option<Worker> = None;
    each_line(|line| match (line, &worker) {
        ("on", None) => match Worker::start(&path, &wire, &link) {
            Ok(started) => {
                worker = Some(started);
                say("on");
            }
            Err(error) => say(&format!("failed: {error}")),
        },
        ("off", Some(_)) => {
            if let Some(worker) = worker.take() {
                worker.stop();
            }
            say("off");
        }
        ("unplug", Some(worker)) => {
            worker.unplug();
            say("unplug");
        }
        ("plug", Some(worker)) => {
            worker.plug();
            say("plug");
        }
        ("reset", Some(worker)) => {
            worker.unplug();
            worker.plug();
            say("reset");
        }
        _ => say(&format!("failed: `{line}` is not for now")),
    });
    if let Some(worker) = worker.take() {
        worker.stop();
    }
    Ok(())
}

/// What the guest writes goes to whoever is there, and is lost if nobody is.
fn guest_writes(mut wire: TcpStream, link: &Link) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = wire.read(&mut buffer) {
        let pipe = link.lock().clone();
        if let Some(pipe) = pipe {
            // A client that goes meanwhile takes them with it.
            let _ = pipe.write_all(&buffer[..count]);
        }
    }
}

impl Worker {
    fn start(path: &[u16], wire: &TcpStream, link: &Arc<Link>) -> io::Result<Self> {
        let pipe = Pipe::create(path)?;
        let ending = Arc::new(AtomicBool::new(false));
        let plugged = Arc::new((Mutex::new(true), Condvar::new()));
        let wire = wire.try_clone()?;
        let (own, own_ending, own_plugged, link) = (
            pipe.clone(),
            Arc::clone(&ending),
            Arc::clone(&plugged),
            Arc::clone(link),
        );
        let thread = std::thread::spawn(move || {
            while !own_ending.load(Ordering::SeqCst) {
                serve(&own, &own_ending, &own_plugged, wire.try_clone().ok(), &link);
            }
        });
        Ok(Self {
            pipe,
            ending,
            plugged,
            thread,
        })
    }

    fn set_plugged(&self, plugged: bool) {
        *self.plugged.0.lock().unwrap_or_else(PoisonError::into_inner) = plugged;
        self.plugged.1.notify_all();
    }

    fn unplug(&self) {
        self.set_plugged(false);
        self.pipe.disconnect();
        // Nobody was there: it waits for a client, and must not find one.
        self.pipe.cancel();
    }

    fn plug(&self) {
        self.set_plugged(true);
    }

    fn stop(self) {
        self.ending.store(true, Ordering::SeqCst);
        self.set_plugged(true);
        while !self.thread.is_finished() {
            // An operation that begins after this is ended by the next.
            self.pipe.cancel();
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        let _ = self.thread.join();
        // The last handle goes here: the pipe is gone, and its client reads 109.
    }
}

/// Serves one client, or looks after that it may not.
fn serve(
    pipe: &Pipe,
    ending: &AtomicBool,
    plugged: &(Mutex<bool>, Condvar),
    wire: Option<TcpStream>,
    link: &Link,
) {
    {
        let mut may = plugged.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*may {
            may = plugged.1.wait(may).unwrap_or_else(PoisonError::into_inner);
        }
    }
    let Some(mut wire) = wire else { return };
    if ending.load(Ordering::SeqCst) || pipe.accept().is_err() {
        return;
    }
    *link.lock() = Some(pipe.clone());
    say("client");
    let mut buffer = [0; 16 << 10];
    let number = loop {
        match pipe.read(&mut buffer) {
            Ok(0) => {}
            Ok(count) => {
                // The guest's end is the test: it is there until the end.
                let _ = wire.write_all(&buffer[..count]);
            }
            Err(error) => break error.raw_os_error().unwrap_or_default(),
        }
    };
    *link.lock() = None;
    say(&format!("gone {number}"));
    if !ending.load(Ordering::SeqCst) {
        pipe.disconnect();
    }
}
