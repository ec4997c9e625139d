//! The stand-in refuses what Hyper-V refuses, and keeps what it was told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::host::{Host, Vm};
use super::{Refusal, act};
use serde_json::{Value, json};

const DEV: &str = "7cca7664-91d0-40a9-9769-7809f256f603";
const WIN: &str = "0b7c2f0e-6a53-4c0c-9f0a-3d0c2f4f7e11";

struct Rig(tempfile::TempDir);

impl Rig {
    fn new(change: impl FnOnce(&mut Host)) -> Self {
        let rig = Self(tempfile::tempdir().unwrap());
        let mut host = Host::default();
        host.vms = vec![Vm::new(DEV, "dev", 1), Vm::new(WIN, "win", 2)];
        change(&mut host);
        host.write(rig.0.path()).unwrap();
        rig
    }

    fn act(&self, script: &str, parameters: Value) -> Result<Value, Refusal> {
        act(
            &format!("hyperv/{script}"),
            parameters.as_object().unwrap(),
            self.0.path(),
        )
    }

    fn found(&self, word: &str) -> usize {
        let answer = self.act("observe", json!({ "vms": [word] })).unwrap();
        answer["vms"][0]["found"].as_array().unwrap().len()
    }

    fn set_path(&self, from: &str, to: &str, look: bool) -> Result<Value, Refusal> {
        let setting = |path: &str| json!({ "path": path, "debugger_mode": null });
        let parameters =
            json!({ "vm": DEV, "number": 2, "from": setting(from), "to": setting(to), "look": look });
        self.act("set-com-port", parameters)
    }
}

#[test]
fn names_are_whole_and_not_unique() {
    let rig = Rig::new(|host| {
        host.vms
            .push(Vm::new("11111111-91d0-40a9-9769-7809f256f603", "DEV", 1))
    });
    assert_eq!(
        [
            rig.found("dev"),
            rig.found(DEV),
            rig.found("d*"),
            rig.found("nope")
        ],
        [2, 1, 0, 0]
    );
}

#[test]
fn a_com_port_changes_only_while_the_vm_is_off_and_as_it_was_looked_at() {
    let rig = Rig::new(|_| {});
    let pipe = r"\\.\pipe\x";
    assert_eq!(rig.set_path("", pipe, true).unwrap()["verdict"], "ours");
    rig.set_path("", pipe, false).unwrap();
    assert_eq!(rig.set_path("", pipe, true).unwrap()["verdict"], "already");
    assert_eq!(rig.set_path("", "y", true).unwrap()["verdict"], "foreign");
    assert_eq!(rig.set_path("", "y", false).unwrap_err().id, "VmserialChanged");
    rig.act("start-vm", json!({ "vm": DEV })).unwrap();
    assert!(
        rig.set_path(pipe, "", false)
            .unwrap_err()
            .id
            .starts_with("InvalidState,")
    );
    assert_eq!(
        rig.act("power", json!({ "vm": DEV })).unwrap(),
        json!({ "state": "Running" })
    );
    rig.act("stop-vm", json!({ "vm": DEV, "how": "graceful" }))
        .unwrap();
    rig.set_path(pipe, "", false).unwrap();
    let log = std::fs::read_to_string(rig.0.path().join("hyperv.log")).unwrap();
    assert_eq!(log.lines().count(), 4, "{log}");
}

#[test]
fn two_running_vms_do_not_share_a_pipe() {
    let rig = Rig::new(|host| {
        for vm in &mut host.vms {
            r"\\.\pipe\same".clone_into(&mut vm.com[0].path);
        }
    });
    rig.act("start-vm", json!({ "vm": DEV })).unwrap();
    let refusal = rig.act("start-vm", json!({ "vm": WIN })).unwrap_err();
    assert!(refusal.message.contains("already in use"), "{refusal:?}");
}

#[test]
fn who_may_not_is_refused_or_sees_nothing() {
    let rig = Rig::new(|host| host.not_permitted = true);
    let refusal = rig.act("observe", json!({ "vms": ["dev"] })).unwrap_err();
    assert!(refusal.id.starts_with("Unspecified,"), "{refusal:?}");
    let rig = Rig::new(|host| (host.not_permitted, host.hides) = (true, true));
    assert_eq!(rig.found("dev"), 0);
    let rig = Rig::new(|host| host.no_module = true);
    let refusal = rig.act("power", json!({ "vm": DEV })).unwrap_err();
    assert_eq!(refusal.id, "CouldNotAutoLoadModule");
}

#[test]
fn a_guest_that_does_not_shut_down_runs_on_until_its_plug_is_pulled() {
    for (guest, text) in [
        ("locked", "NonInteractive"),
        ("no-shutdown", "integration service"),
    ] {
        let rig = Rig::new(|host| {
            guest.clone_into(&mut host.vms[0].guest);
            "Running".clone_into(&mut host.vms[0].state);
        });
        let stop = |how: &str| rig.act("stop-vm", json!({ "vm": DEV, "how": how }));
        assert!(stop("graceful").unwrap_err().message.contains(text));
        assert_eq!(stop("hard").unwrap(), json!({ "state": "Off" }));
    }
}

#[test]
fn secure_boot_keeps_its_template() {
    let rig = Rig::new(|_| {});
    let on = json!({ "secure_boot": "On", "template": "MicrosoftWindows" });
    let off = json!({ "secure_boot": "Off", "template": null });
    let set = |from: &Value, to: &Value| {
        rig.act(
            "set-secure-boot",
            json!({ "vm": WIN, "from": from, "to": to, "look": false }),
        )
    };
    set(&on, &off).unwrap();
    assert_eq!(set(&on, &off).unwrap()["verdict"], "already");
    set(&off, &on).unwrap();
    let host = Host::read(rig.0.path()).unwrap();
    assert_eq!(
        host.vms[1].secure_boot_template.as_deref(),
        Some("MicrosoftWindows")
    );
}
