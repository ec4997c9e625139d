//! Our scripts for Hyper-V, as calls. Their texts are `templates/powershell/hyperv/`.

use super::facts::{ComSetting, SecureBootSetting};
use crate::model::ScriptCall;
use serde_json::{Value, json};

/// The folder of these scripts.
const FOLDER: &str = "hyperv";

/// What the scripts throw when a setting is no longer the one that was planned on.
pub(super) const CHANGED: &str = "VmserialChanged";

fn call(name: &str) -> ScriptCall {
    ScriptCall::new(format!("{FOLDER}/{name}"))
}

/// Looks at VMs by name or GUID, all at once.
pub(super) fn observe(vms: &[&str]) -> ScriptCall {
    call("observe").with("vms", json!(vms))
}

/// Tells what a host has of Hyper-V.
pub(super) fn doctor() -> ScriptCall {
    call("doctor")
}

/// Tells a VM's state.
pub(super) fn power(vm: &str) -> ScriptCall {
    call("power").with("vm", vm)
}

/// How a VM is powered off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its guest is asked.
    Graceful,
    /// Its plug is pulled.
    Hard,
}

/// Powers a VM off.
pub(super) fn stop(vm: &str, how: Stop) -> ScriptCall {
    let how = match how {
        Stop::Graceful => "graceful",
        Stop::Hard => "hard",
    };
    call("stop-vm").with("vm", vm).with("how", how)
}

/// Starts a VM that is off.
pub(super) fn start(vm: &str) -> ScriptCall {
    call("start-vm").with("vm", vm)
}

/// Brings a COM port from one setting to another.
pub(super) fn set_com_port(vm: &str, number: u32, from: &ComSetting, to: &ComSetting) -> ScriptCall {
    call("set-com-port")
        .with("vm", vm)
        .with("number", number)
        .with("from", value(from))
        .with("to", value(to))
        .with(ScriptCall::LOOK, false)
}

/// Brings Secure Boot from one setting to another.
pub(super) fn set_secure_boot(vm: &str, from: &SecureBootSetting, to: &SecureBootSetting) -> ScriptCall {
    call("set-secure-boot")
        .with("vm", vm)
        .with("from", value(from))
        .with("to", value(to))
        .with(ScriptCall::LOOK, false)
}

fn value(setting: &impl serde::Serialize) -> Value {
    serde_json::to_value(setting).expect("a setting is texts")
}
