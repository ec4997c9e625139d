//! A host for tests of this driver: what its scripts answer. Observing asks for nothing else.

use crate::model::{HostRef, ScriptCall, Wait};
use crate::runner::{RunError, Runner};
use serde_json::{Value, json};

/// The GUID of the VM `dev`.
pub(super) const DEV: &str = "7cca7664-91d0-40a9-9769-7809f256f603";
/// The GUID of the VM `win`.
pub(super) const WIN: &str = "0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11";

/// A host that answers every script with one value, or throws.
pub(super) struct FakeHost(pub Result<Value, (&'static str, &'static str, &'static str)>);

impl FakeHost {
    /// A host on which these VMs were found.
    pub fn shows(found: Value, ports: Value) -> Self {
        Self(Ok(json!({
            "computer": "HV1", "user": "HV1\\me", "elevated": true, "hyperv_administrator": false,
            "vms": [{ "wanted": "dev", "found": found }], "ports": ports,
        })))
    }
}

/// A VM as the script tells it.
pub(super) fn vm(id: &str, state: &str, secure_boot: Option<&str>, template: Option<&str>) -> Value {
    json!({
        "id": id, "name": "dev", "state": state, "generation": if secure_boot.is_some() { 2 } else { 1 },
        "secure_boot": secure_boot, "secure_boot_template": template,
    })
}

/// A COM port as the script tells it.
pub(super) fn com(id: &str, number: u32, path: &str, debugger_mode: &str) -> Value {
    let name = if id == DEV { "dev" } else { "win" };
    json!({ "vm": id, "name": name, "number": number, "path": path, "debugger_mode": debugger_mode })
}

impl Runner for FakeHost {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn powershell(&self, call: &ScriptCall, _: &Wait) -> Result<Value, RunError> {
        assert_eq!(call.script, "hyperv/observe", "observing changes nothing");
        self.0
            .clone()
            .map_err(|(message, id, category)| RunError::Script {
                message: message.to_owned(),
                id: id.to_owned(),
                category: category.into(),
                host: HostRef::Local,
            })
    }
}
