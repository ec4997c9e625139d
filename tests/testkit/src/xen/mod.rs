//! A Xen host: stand-ins of `xe`, `xl` and `xenstore-read` with one state among them, and of the QEMU that a started VM has.
//!
//! They behave as the real ones where vmserial depends on it (xapi's CLI sources, `xl(1)`, libxl): texts and exit codes of
//! refusals, `platform` before `other-config`, a new domain and a new pseudo terminal at each start, one QEMU per domain
//! that opens real sockets and really fails when a port is taken.
//!
//! The state is the folder `xen.state` beside the links: `vms/UUID/PARAMETER` (a map is a folder of keys), `hosts/UUID/…`,
//! `domains/ID` (a name), `certificates` (of the pool, for `platform:secureboot=auto`), `xenstore/KEY` with `%` for `/`, `log` (what was asked). With a folder `heard` guests talk with one another and note there, by name, what they
//! heard. Tests write `faults`, one word a line (`xen.faults` beside the links is of one host of a pool):
//! `no-tools` (no guest shuts down), `shutdown-hangs`, `hangs-before-set`, `hangs-after-set`, `supporter`, `no-daemon`.

mod firewall;
mod qemu;
mod xe;
mod xl;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs `xe`.
pub fn xe(arguments: &[String], state: &Path) -> ExitCode {
    run("xe", xe::run, arguments, state)
}

/// Runs `xl`.
pub fn xl(arguments: &[String], state: &Path) -> ExitCode {
    run("xl", xl::run, arguments, state)
}

/// Runs `xenstore-read`.
pub fn xenstore_read(arguments: &[String], state: &Path) -> ExitCode {
    run("xenstore-read", xenstore, arguments, state)
}

/// Runs `service`.
pub fn service(arguments: &[String], state: &Path) -> ExitCode {
    run("service", firewall::service, arguments, state)
}

/// Runs xapi's `firewall-port`.
pub fn firewall_port(arguments: &[String], state: &Path) -> ExitCode {
    run("firewall-port", firewall::firewall_port, arguments, state)
}

/// Runs `firewall-cmd`.
pub fn firewall_cmd(arguments: &[String], state: &Path) -> ExitCode {
    run("firewall-cmd", firewall::firewall_cmd, arguments, state)
}

/// Is a domain's QEMU: `xen-qemu STATE DOMAIN DEVICE…`. Never called by vmserial.
pub fn qemu(arguments: &[String], _: &Path) -> ExitCode {
    qemu::main(arguments)
}

/// What a program says on standard error, with 1 as its end.
struct Refusal(String);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(format!("{error}\n"))
    }
}

fn refuse<T>(text: impl std::fmt::Display) -> Result<T, Refusal> {
    Err(Refusal(format!("{text}\n")))
}

type Command = fn(&State, &[&str]) -> Result<String, Refusal>;

fn run(program: &str, command: Command, arguments: &[String], own: &Path) -> ExitCode {
    let state = State {
        root: own.with_file_name("xen.state"),
        own_faults: own.with_file_name("xen.faults"),
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = state.note(program, &words).map_err(Refusal::from);
    match result.and_then(|()| command(&state, &words)) {
        Ok(said) => {
            // Whoever asked is gone: nobody is left to be told.
            let _ = io::stdout().write_all(said.as_bytes());
            ExitCode::SUCCESS
        }
        Err(Refusal(said)) => {
            let _ = io::stderr().write_all(said.as_bytes());
            ExitCode::FAILURE
        }
    }
}

struct State {
    root: PathBuf,
    /// Of this host alone, where several share the state of their pool.
    own_faults: PathBuf,
}

impl State {
    fn note(&self, program: &str, words: &[&str]) -> io::Result<()> {
        fs::create_dir_all(self.root.join("domains"))?;
        fs::create_dir_all(self.root.join("xenstore"))?;
        let mut log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.root.join("log"))?;
        writeln!(log, "{program} {}", words.join(" "))
    }

    fn fault(&self, name: &str) -> bool {
        [&self.root.join("faults"), &self.own_faults]
            .into_iter()
            .any(|file| {
                let faults = fs::read_to_string(file).unwrap_or_default();
                faults.lines().any(|line| line == name)
            })
    }

    /// Does not go on while a fault is there. Ends with the test, whose folder has it.
    fn hang(&self, name: &str) {
        while self.fault(name) {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }

    /// Makes a domain, with a QEMU that has these devices. Returns its number, or QEMU's last words.
    fn start(&self, name: &str, devices: &[String]) -> Result<u32, String> {
        let file = self.root.join("next-domain");
        let id: u32 = fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(1);
        let failed = |error: io::Error| error.to_string();
        fs::write(&file, (id + 1).to_string()).map_err(failed)?;
        fs::write(self.domain(id), name).map_err(failed)?;
        qemu::start(&self.root, id, devices).inspect_err(|_| self.end(id))?;
        Ok(id)
    }

    /// Ends a domain. Its QEMU sees that and goes.
    fn end(&self, id: u32) {
        // What is gone already is as wanted.
        let _ = fs::remove_file(self.domain(id));
        for name in names(&self.root.join("xenstore")) {
            if name.starts_with(&format!("%local%domain%{id}%")) {
                let _ = fs::remove_file(self.root.join("xenstore").join(name));
            }
        }
        qemu::wait_until_gone(&self.root, id);
    }

    fn domain(&self, id: u32) -> PathBuf {
        self.root.join("domains").join(id.to_string())
    }

    /// All domains by name.
    fn domains(&self) -> Vec<(String, u32)> {
        let ids = names(&self.root.join("domains"));
        let ids = ids.iter().filter_map(|id| id.parse::<u32>().ok());
        let mut all: Vec<(String, u32)> = ids
            .filter_map(|id| Some((fs::read_to_string(self.domain(id)).ok()?, id)))
            .collect();
        all.sort_by_key(|(_, id)| *id);
        all
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

fn xenstore(state: &State, words: &[&str]) -> Result<String, Refusal> {
    let [key] = words else {
        return refuse("Usage: xenstore-read [-h] [-p] [-s] key [...]");
    };
    match fs::read_to_string(state.root.join("xenstore").join(key.replace('/', "%"))) {
        Ok(value) => Ok(format!("{value}\n")),
        Err(_) => refuse(format!("xenstore-read: couldn't read path {key}")),
    }
}
