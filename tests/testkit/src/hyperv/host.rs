//! The host as tests write it and scripts change it.

use super::Refusal;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The file in the state folder.
pub const FILE: &str = "hyperv.json";

/// A COM port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Com {
    /// Empty: no pipe.
    pub path: String,
    /// `On` or `Off`.
    pub debugger_mode: String,
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// GUID.
    pub id: String,
    /// Not unique.
    pub name: String,
    /// `Off`, `Running`, `Saved`, `Paused`.
    pub state: String,
    /// 1 or 2.
    pub generation: u64,
    /// `On` or `Off`; none in generation 1.
    pub secure_boot: Option<String>,
    /// Kept while Secure Boot is off.
    pub secure_boot_template: Option<String>,
    /// It has a virtual TPM.
    pub tpm: bool,
    /// COM 1 and COM 2.
    pub com: Vec<Com>,
    /// `locked` (a shutdown would ask), `no-shutdown` (no integration service).
    pub guest: String,
}

impl Vm {
    /// Makes a VM that is off, without pipes; generation 2 has Secure Boot with the template of Windows.
    pub fn new(id: &str, name: &str, generation: u64) -> Self {
        let second = generation == 2;
        let com = |mode: &str| Com {
            path: String::new(),
            debugger_mode: mode.to_owned(),
        };
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            state: "Off".to_owned(),
            generation,
            secure_boot: second.then(|| "On".to_owned()),
            secure_boot_template: second.then(|| "MicrosoftWindows".to_owned()),
            tpm: second,
            // A real host showed COM 1 in debugger mode without a pipe.
            com: vec![com("On"), com("Off")],
            guest: String::new(),
        }
    }

    pub(super) fn must_be_off(&self, command: &str) -> Result<(), Refusal> {
        match self.state.as_str() {
            "Off" => Ok(()),
            _ => Err(Refusal::state(command)),
        }
    }

    pub(super) fn com(&self, number: u64) -> Result<Com, Refusal> {
        let index = usize::try_from(number).unwrap_or_default().wrapping_sub(1);
        self.com
            .get(index)
            .cloned()
            .ok_or_else(|| Refusal::no_com(number))
    }

    pub(super) fn com_mut(&mut self, number: u64) -> Result<&mut Com, Refusal> {
        let index = usize::try_from(number).unwrap_or_default().wrapping_sub(1);
        self.com.get_mut(index).ok_or_else(|| Refusal::no_com(number))
    }

    fn json(&self) -> Value {
        let com: Vec<Value> = self
            .com
            .iter()
            .map(|com| json!({ "path": com.path, "debugger_mode": com.debugger_mode }))
            .collect();
        json!({
            "id": self.id, "name": self.name, "state": self.state, "generation": self.generation,
            "secure_boot": self.secure_boot, "secure_boot_template": self.secure_boot_template, "com": com,
            "guest": self.guest, "tpm": self.tpm,
        })
    }

    fn read(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let com = value["com"].as_array().into_iter().flatten().map(|com| Com {
            path: text(&com["path"]),
            debugger_mode: text(&com["debugger_mode"]),
        });
        Self {
            id: text(&value["id"]),
            name: text(&value["name"]),
            state: text(&value["state"]),
            generation: value["generation"].as_u64().unwrap_or(1),
            secure_boot: value["secure_boot"].as_str().map(ToOwned::to_owned),
            secure_boot_template: value["secure_boot_template"].as_str().map(ToOwned::to_owned),
            tpm: value["tpm"] == json!(true),
            com: com.collect(),
            guest: text(&value["guest"]),
        }
    }
}

/// The host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Its VMs.
    pub vms: Vec<Vm>,
    /// Who asks is neither elevated nor a Hyper-V administrator: refused, or (`hides`) shown no VM.
    pub not_permitted: bool,
    /// Such a host refuses nobody, it shows nothing.
    pub hides: bool,
    /// The module is not installed.
    pub no_module: bool,
    /// Who asks is in the group "Hyper-V Administrators".
    pub administrator: bool,
    /// Who asks is not elevated; whether that is enough is [`Host::administrator`]'s and [`Host::not_permitted`]'s.
    pub unelevated: bool,
    /// This cmdlet alone is refused for its rights (`StartVM`).
    pub denies: String,
    /// State of the service `vmms`; empty is `Running`, `none` is that there is none.
    pub service: String,
    /// This script hangs after it has done its work, until a test says otherwise or whoever called is gone.
    pub hangs_after: Option<String>,
    /// What was changed by this script.
    log: Vec<String>,
}

impl Host {
    /// Reads the host of a state folder.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(state: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(state.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let value: Map<String, Value> = serde_json::from_str(&text)?;
        let is = |name: &str| value.get(name) == Some(&json!(true));
        let vms = value.get("vms").and_then(Value::as_array);
        Ok(Self {
            vms: vms.into_iter().flatten().map(Vm::read).collect(),
            not_permitted: is("not_permitted"),
            hides: is("hides"),
            no_module: is("no_module"),
            administrator: is("administrator"),
            unelevated: is("unelevated"),
            denies: value
                .get("denies")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            service: value
                .get("service")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            hangs_after: value
                .get("hangs_after")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned),
            log: Vec::new(),
        })
    }

    /// Writes the host into a state folder.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let vms: Vec<Value> = self.vms.iter().map(Vm::json).collect();
        let value = json!({
            "vms": vms, "not_permitted": self.not_permitted, "hides": self.hides, "no_module": self.no_module,
            "hangs_after": self.hangs_after, "administrator": self.administrator, "service": self.service,
            "unelevated": self.unelevated, "denies": self.denies,
        });
        // Whoever is killed here leaves the old host or the new one.
        let new = state.join(format!("{FILE}.{}", std::process::id()));
        fs::write(&new, format!("{value:#}\n"))?;
        fs::rename(new, state.join(FILE))?;
        // Whoever sees what was done finds it done.
        let mut log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(state.join("hyperv.log"))?;
        for line in &self.log {
            writeln!(log, "{line}")?;
        }
        Ok(())
    }

    /// Hangs after a script, as long as tests want it and somebody waits for its end.
    pub(super) fn hang(script: &str, state: &Path) {
        #[cfg(unix)]
        let parent = std::os::unix::process::parent_id();
        let wanted = || Self::read(state).is_ok_and(|host| host.hangs_after.as_deref() == Some(script));
        while wanted() {
            #[cfg(unix)]
            if std::os::unix::process::parent_id() != parent {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }

    pub(super) fn log(&mut self, line: String) {
        self.log.push(line);
    }

    pub(super) fn may_use(&self, command: &str) -> Result<(), Refusal> {
        if self.no_module {
            return Err(Refusal::no_module());
        }
        match self.not_permitted && !self.hides {
            true => Err(Refusal::not_permitted(command)),
            false => Ok(()),
        }
    }

    fn index(&self, id: &str) -> Result<usize, Refusal> {
        self.may_use("GetVM")?;
        let mut visible = self.vms.iter();
        let found = visible.position(|vm| vm.id.eq_ignore_ascii_case(id) && !self.not_permitted);
        found.ok_or_else(|| Refusal::no_vm(id))
    }

    pub(super) fn by_id(&self, id: &str) -> Result<&Vm, Refusal> {
        Ok(&self.vms[self.index(id)?])
    }

    pub(super) fn by_id_mut(&mut self, id: &str) -> Result<&mut Vm, Refusal> {
        let index = self.index(id)?;
        Ok(&mut self.vms[index])
    }

    pub(super) fn doctor(&self) -> Value {
        let modules: &[&str] = if self.no_module { &[] } else { &["2.0.0.0"] };
        let service = match self.service.as_str() {
            "none" => Value::Null,
            "" => json!("Running"),
            state => json!(state),
        };
        json!({
            "computer": "STANDIN", "user": "STANDIN\\me", "windows": "10.0.20348.0", "powershell": "5.1.20348.2849",
            "elevated": !(self.not_permitted || self.unelevated), "hyperv_administrator": self.administrator, "modules": modules,
            "service": service,
        })
    }

    pub(super) fn observed(&self, wanted: &[&str]) -> Value {
        let shown: &[Vm] = if self.not_permitted { &[] } else { &self.vms };
        let found = |word: &str| {
            let by = |key: fn(&Vm) -> &str| {
                let same = shown.iter().filter(|vm| key(vm).eq_ignore_ascii_case(word));
                same.map(|vm| {
                    json!({
                        "id": vm.id, "name": vm.name, "state": vm.state, "generation": vm.generation,
                        "secure_boot": vm.secure_boot, "secure_boot_template": vm.secure_boot_template,
                        "tpm": (vm.generation == 2).then_some(vm.tpm),
                    })
                })
                .collect::<Vec<_>>()
            };
            let by_id = by(|vm| &vm.id);
            if by_id.is_empty() {
                by(|vm| &vm.name)
            } else {
                by_id
            }
        };
        let vms: Vec<Value> = wanted
            .iter()
            .map(|word| json!({ "wanted": word, "found": found(word) }))
            .collect();
        let ports: Vec<Value> = shown
            .iter()
            .flat_map(|vm| {
                (1..).zip(&vm.com).map(move |(number, com)| {
                    json!({
                        "vm": vm.id, "name": vm.name, "number": number, "path": com.path,
                        "debugger_mode": com.debugger_mode,
                    })
                })
            })
            .collect();
        json!({
            "computer": "STANDIN", "user": "STANDIN\\me", "elevated": !(self.not_permitted || self.unelevated),
            "hyperv_administrator": self.administrator, "vms": vms, "ports": ports,
        })
    }

    pub(super) fn stop(&mut self, id: &str, hard: bool) -> Result<String, Refusal> {
        let vm = self.by_id_mut(id)?;
        if vm.state == "Off" {
            return Ok(vm.state.clone());
        }
        match (hard, vm.guest.as_str(), vm.state.as_str()) {
            (false, "locked", _) => return Err(Refusal::question()),
            (false, "no-shutdown", _) => return Err(Refusal::no_shutdown(&vm.name)),
            (false, _, "Saved" | "Paused") => return Err(Refusal::state("StopVM")),
            _ => {}
        }
        "Off".clone_into(&mut vm.state);
        let line = format!("Stop-VM {}{}", vm.name, if hard { " -TurnOff" } else { "" });
        self.log(line);
        Ok("Off".to_owned())
    }

    pub(super) fn start(&mut self, id: &str) -> Result<String, Refusal> {
        let index = self.index(id)?;
        if self.denies == "StartVM" {
            return Err(Refusal::access_denied("StartVM"));
        }
        let vm = &self.vms[index];
        if vm.state == "Running" {
            return Ok(vm.state.clone());
        }
        let in_use = |com: &Com| {
            let mut running = self
                .vms
                .iter()
                .filter(|other| other.state == "Running" && other.id != vm.id);
            !com.path.is_empty()
                && running.any(|other| {
                    other
                        .com
                        .iter()
                        .any(|theirs| theirs.path.eq_ignore_ascii_case(&com.path))
                })
        };
        if vm.com.iter().any(in_use) {
            return Err(Refusal::pipe_in_use(&vm.name));
        }
        let line = format!("Start-VM {}", vm.name);
        "Running".clone_into(&mut self.vms[index].state);
        self.log(line);
        Ok("Running".to_owned())
    }
}
