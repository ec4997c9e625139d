//! `vmserial setup … --show`.

use super::common::{CommonArgs, LOOK, Site};
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::model::{Cancel, Deadline, FailureKind, PortIndex, Problem, TargetSpec, Wait};
use crate::session::planning::observe;
use std::process::ExitCode;
use std::time::Instant;

impl Site {
    /// Prints the port and the gdb stub as they are.
    ///
    /// # Errors
    ///
    /// The driver's; not found when there is no such port, unless there is a gdb stub and no port was named.
    pub fn show(&self, args: &CommonArgs, target: &TargetSpec, ui: &mut Ui) -> Result<ExitCode, Failure> {
        self.show_with(args, target, None, ui)
    }

    /// The same, with what the host's firewall has of the port, a sentence a line, for `--json`.
    ///
    /// # Errors
    ///
    /// See [`Site::show`].
    pub fn show_with(
        &self,
        args: &CommonArgs,
        target: &TargetSpec,
        firewall: Option<&[String]>,
        ui: &mut Ui,
    ) -> Result<ExitCode, Failure> {
        let wait = Wait::new(
            Deadline::after(Instant::now(), LOOK),
            Cancel::new(),
            "the VM to be looked at",
        );
        let seen = observe(self.hosts.as_ref(), std::slice::from_ref(target), &wait)?;
        let observed = seen.first().expect("one target was asked for");
        let wanted: Vec<PortIndex> = target.ports.iter().map(|port| port.port).collect();
        let ports: Vec<_> = observed
            .ports
            .iter()
            .filter(|port| wanted.contains(&port.port))
            .collect();
        if ui.is_json() {
            let list: Vec<_> = ports
                .iter()
                .map(|port| {
                    serde_json::json!({
                        "port": port.port, "text": port.text,
                        "endpoint": port.endpoint.as_ref().map(ToString::to_string),
                    })
                })
                .collect();
            ui.data_json(&serde_json::json!({
                "vm": target.vm.as_str(), "power": observed.power, "ports": list, "gdb_stub": observed.gdb_stub,
                "secure_boot": observed.secure_boot(), "firewall": firewall,
            }))?;
        }
        for port in &ports {
            if !ui.is_json() {
                let ours = match &port.endpoint {
                    Some(endpoint) => {
                        let ours = endpoint.our_side(&target.host, None);
                        format!("the VM's end is `{endpoint}`, ours `{ours}`")
                    }
                    None => "no endpoint that vmserial can open".to_owned(),
                };
                let names = format!(
                    "port {} ({}, {})",
                    port.port,
                    port.port.windows_name(),
                    port.port.linux_name()
                );
                if port.text.contains('\n') {
                    ui.data(&format!("{names}: {ours}"))?;
                    for line in port.text.lines() {
                        ui.data(&format!("  {line}"))?;
                    }
                } else {
                    ui.data(&format!("{names}: {}; {ours}", port.text))?;
                }
            }
        }
        if let Some(text) = observed.secure_boot()
            && !ui.is_json()
        {
            ui.data(&format!("Secure Boot: {text}"))?;
        }
        if let Some(stub) = &observed.gdb_stub
            && !ui.is_json()
        {
            ui.data("gdb stub:")?;
            for line in stub.lines() {
                ui.data(&format!("  {line}"))?;
            }
        }
        if ports.is_empty() && (args.port.is_some() || observed.gdb_stub.is_none()) {
            let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            return Err(Problem::new(
                FailureKind::NotFound,
                format!(
                    "the VM `{}` ({}) shows no port {}",
                    target.vm,
                    observed.power,
                    names.join(", ")
                ),
            )
            .into());
        }
        Ok(ExitCode::SUCCESS)
    }
}
