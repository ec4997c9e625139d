//! A stand-in of VMware's `vmrun`: `list`, `start VMX [gui|nogui]`, `stop VMX [hard|soft]`.
//!
//! It behaves as the real one where vmserial depends on it: errors go to standard output and end with 255 (GNS3; the
//! texts are those that users report); a VM that runs has its `.vmx` in memory and `NAME.vmx.lck` beside it, and writes
//! the file over at power-off, so that what was edited meanwhile is lost (`cleanShutdown` is kept up to date as
//! Workstation does); a soft stop needs the guest's tools.
//!
//! Files in its state folder: `running` (one path a line), `memory/` (the files of VMs that run), `log` (what it was
//! asked). Tests write `faults`, one word a line: `soft-hangs`, `no-tools`, `tab-open` (the lock stays after power-off),
//! `list-fails`, `only-player`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the real one returns for every failure (-1).
const FAILED: u8 = 255;

/// Runs `vmrun` with these arguments.
pub fn main(arguments: &[String], state: &Path) -> ExitCode {
    let vmrun = Vmrun {
        state: state.to_owned(),
    };
    match vmrun.run(arguments) {
        Ok(said) => answer(&said, ExitCode::SUCCESS),
        Err(Refusal(said)) => answer(&said, ExitCode::from(FAILED)),
    }
}

fn answer(text: &str, code: ExitCode) -> ExitCode {
    // Whoever asked is gone: nobody is left to be told.
    let _ = io::stdout().write_all(text.as_bytes());
    code
}

/// What goes wrong is said on standard output, too.
struct Refusal(String);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(format!("Error: {error}\n"))
    }
}

fn refuse<T>(text: impl std::fmt::Display) -> Result<T, Refusal> {
    Err(Refusal(format!("Error: {text}\n")))
}

struct Vmrun {
    state: PathBuf,
}

impl Vmrun {
    fn run(&self, arguments: &[String]) -> Result<String, Refusal> {
        fs::create_dir_all(self.state.join("memory"))?;
        let mut log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.state.join("log"))?;
        writeln!(log, "{}", arguments.join(" "))?;
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (product, command) = match words.as_slice() {
            ["-T", product, command @ ..] => (*product, command),
            command => ("ws", command),
        };
        if (product == "player") != self.fault("only-player") {
            return refuse("Unable to connect to host. \nError: The specified version was not found");
        }
        match command {
            ["list"] if self.fault("list-fails") => refuse("The operation is not supported"),
            ["list"] => self.list(),
            ["start", vmx] | ["start", vmx, "gui" | "nogui"] => self.start(vmx),
            ["stop", vmx] | ["stop", vmx, "soft"] => self.stop(vmx, true),
            ["stop", vmx, "hard"] => self.stop(vmx, false),
            _ => refuse("Invalid command line"),
        }
    }

    fn fault(&self, name: &str) -> bool {
        let faults = fs::read_to_string(self.state.join("faults")).unwrap_or_default();
        faults.lines().any(|line| line == name)
    }

    fn running(&self) -> Vec<String> {
        let text = fs::read_to_string(self.state.join("running")).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn set_running(&self, vms: &[String]) -> io::Result<()> {
        let text: String = vms.iter().map(|vm| format!("{vm}\n")).collect();
        fs::write(self.state.join("running"), text)
    }

    fn memory(&self, vmx: &str) -> PathBuf {
        self.state.join("memory").join(vmx.replace(['/', '\\', ':'], "%"))
    }

    fn list(&self) -> Result<String, Refusal> {
        let running = self.running();
        let mut said = format!("Total running VMs: {}\n", running.len());
        for vm in running {
            said.push_str(&vm);
            said.push('\n');
        }
        Ok(said)
    }

    fn start(&self, vmx: &str) -> Result<String, Refusal> {
        let Ok(file) = fs::read(vmx) else {
            return refuse(format!(
                "Cannot open VM: {vmx}, The virtual machine cannot be found"
            ));
        };
        let mut running = self.running();
        if running.iter().any(|vm| vm == vmx) {
            return refuse("The file is already in use");
        }
        fs::write(self.memory(vmx), clean_shutdown(&file, "FALSE"))?;
        fs::create_dir_all(lock(vmx))?;
        running.push(vmx.to_owned());
        self.set_running(&running)?;
        Ok(String::new())
    }

    fn stop(&self, vmx: &str, soft: bool) -> Result<String, Refusal> {
        let mut running = self.running();
        if !running.iter().any(|vm| vm == vmx) {
            return refuse(format!("The virtual machine is not powered on: {vmx}"));
        }
        if soft && self.fault("no-tools") {
            return refuse(format!(
                "The VMware Tools are not running in the virtual machine: {vmx}"
            ));
        }
        if soft && self.fault("soft-hangs") {
            loop {
                // Until it is killed.
                std::thread::park();
            }
        }
        let memory = fs::read(self.memory(vmx))?;
        fs::write(vmx, clean_shutdown(&memory, if soft { "TRUE" } else { "FALSE" }))?;
        fs::remove_file(self.memory(vmx))?;
        running.retain(|vm| vm != vmx);
        self.set_running(&running)?;
        if !self.fault("tab-open") {
            fs::remove_dir(lock(vmx))?;
        }
        Ok(String::new())
    }
}

fn lock(vmx: &str) -> PathBuf {
    PathBuf::from(format!("{vmx}.lck"))
}

/// Writes the value of the file's `cleanShutdown`, if it has one.
fn clean_shutdown(file: &[u8], value: &str) -> Vec<u8> {
    let key = b"cleanShutdown = \"";
    let Some(at) = file.windows(key.len()).position(|window| window == key) else {
        return file.to_vec();
    };
    let begin = at + key.len();
    let length = file[begin..].iter().take_while(|byte| **byte != b'"').count();
    [&file[..begin], value.as_bytes(), &file[begin + length..]].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn edits_of_a_running_vm_are_lost_at_power_off() {
        let folder = tempfile::tempdir().unwrap();
        let vmx = folder.path().join("dev.vmx");
        let name = vmx.to_str().unwrap();
        fs::write(&vmx, "cleanShutdown = \"TRUE\"\na = \"1\"\n").unwrap();
        let vmrun = Vmrun {
            state: folder.path().join("state"),
        };
        let run = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            vmrun.run(&words).map_err(|Refusal(said)| said)
        };
        assert_eq!(
            run(&["stop", name]),
            Err(format!("Error: The virtual machine is not powered on: {name}\n"))
        );
        run(&["-T", "ws", "start", name, "nogui"]).unwrap();
        assert_eq!(run(&["list"]), Ok(format!("Total running VMs: 1\n{name}\n")));
        assert!(lock(name).is_dir());
        fs::write(&vmx, "a = \"2\"\n").unwrap();
        run(&["stop", name, "hard"]).unwrap();
        assert_eq!(
            fs::read_to_string(&vmx).unwrap(),
            "cleanShutdown = \"FALSE\"\na = \"1\"\n"
        );
        assert!(!lock(name).exists());
        assert!(run(&["-T", "player", "list"]).is_err());
    }
}
