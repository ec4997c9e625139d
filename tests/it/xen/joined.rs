//! Two VMs joined by one cable, through every order of reboots of both.

use super::Host;
use crate::kit::{Running, is_fast, wait_until};
use crate::sshd::missing;
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;

const DEBUGGEE: &str = include_str!("../../data/xen/debuggee.cfg");
const DEBUGGER: &str = include_str!("../../data/xen/debugger.cfg");
const PROFILE: &str = include_str!("../../../profiles/xl-two-vms.yaml");

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "its reboots are left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let trial = |name: &str, reason: Option<String>, run: fn()| {
        Trial::ignorable_test(format!("xen::{name}"), move || match reason {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => {
                run();
                Ok::<_, Failed>(Completion::Completed)
            }
        })
    };
    vec![
        trial(
            "two_vms_are_joined_by_flags",
            left_out(),
            two_vms_are_joined_by_flags,
        ),
        trial(
            "two_vms_as_the_seed_has_them_are_joined",
            left_out(),
            two_vms_as_the_seed_has_them_are_joined,
        ),
        trial(
            "running_vms_are_restarted_behind_their_cable",
            left_out(),
            running_vms_are_restarted_behind_their_cable,
        ),
        trial(
            "two_vms_are_joined_by_the_shipped_profile_over_ssh",
            missing().or_else(left_out),
            two_vms_are_joined_by_the_shipped_profile_over_ssh,
        ),
        trial(
            "joined_ports_have_no_other_client",
            None,
            joined_ports_have_no_other_client,
        ),
    ]
}

struct Lab {
    host: Host,
}

impl Lab {
    fn new(debuggee: &str, debugger: &str) -> Self {
        let host = Host::new("xl");
        // Guests talk to one another, and note what they heard.
        fs::create_dir_all(host.state.join("heard")).unwrap();
        fs::write(host.sandbox.path("debuggee.cfg"), debuggee).unwrap();
        fs::write(host.sandbox.path("debugger.cfg"), debugger).unwrap();
        Self { host }
    }

    fn create(&self, vm: &str) {
        let cfg = self.host.sandbox.path(&format!("{vm}.cfg"));
        self.host.must(&format!("xl create {}", cfg.display()));
    }

    fn destroy(&self, vm: &str) {
        self.host.must(&format!("xl destroy windows-{vm}"));
    }

    /// Waits until `listener` has heard the domain that `speaker` is now.
    fn hears(&self, listener: &str, speaker: &str) {
        let id = self.host.tool(&format!("xl domid windows-{speaker}")).stdout;
        let wanted = format!("windows-{speaker} {} ", id.trim());
        let notes = self.host.state.join("heard").join(format!("windows-{listener}"));
        wait_until(&format!("{listener} hears `{wanted}`"), || {
            let notes = fs::read_to_string(&notes).unwrap_or_default();
            notes.lines().any(|line| line.starts_with(&wanted)).then_some(())
        });
    }

    fn talk(&self) {
        self.hears("debugger", "debuggee");
        self.hears("debuggee", "debugger");
    }

    /// Both go and come back, in every order that there is, with the same bridge.
    fn every_order(&self, mut bridge: Running) {
        self.create("debuggee");
        self.create("debugger");
        self.talk();
        let (a, b) = ("debugger", "debuggee");
        let orders = [
            [a, a, b, b],
            [a, b, a, b],
            [a, b, b, a],
            [b, b, a, a],
            [b, a, b, a],
            [b, a, a, b],
        ];
        for order in orders {
            let mut gone = Vec::new();
            for vm in order {
                if gone.contains(&vm) {
                    self.create(vm);
                } else {
                    self.destroy(vm);
                    gone.push(vm);
                }
            }
            self.talk();
        }
        bridge.signal("TERM");
        assert_eq!(bridge.wait_end_with_input_open(), 0, "{}", bridge.said());
    }
}

fn without_a_port(cfg: &str) -> String {
    let lines = cfg.lines().filter(|line| !line.starts_with("serial"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// One command: both files, one plan, the bridge.
fn two_vms_are_joined_by_flags() {
    let lab = Lab::new(&without_a_port(DEBUGGEE), DEBUGGER);
    let line = "setup xen --vm ./debuggee.cfg --join ./debugger.cfg --as kd --yes";
    let mut bridge = lab.host.sandbox.start(line.split_whitespace());
    bridge.wait_line("joined debugger/1 and debuggee/1");
    bridge.wait_line("ready");
    for vm in ["debuggee", "debugger"] {
        let text = fs::read_to_string(lab.host.sandbox.path(&format!("{vm}.cfg"))).unwrap();
        assert!(text.contains("serial = [ \"pty\" ]"), "{text}");
    }
    lab.every_order(bridge);
    assert_eq!(lab.host.undo().code, Some(0));
    let text = fs::read_to_string(lab.host.sandbox.path("debugger.cfg")).unwrap();
    assert_eq!(text, DEBUGGER);
}

/// The seed's two lines, as they are: both VMs connect, so the bridge is there before them.
fn two_vms_as_the_seed_has_them_are_joined() {
    let lab = Lab::new("", "");
    let of = |cfg: &str, name: &str| {
        let socket = lab.host.sandbox.path(name);
        format!("{}serial = 'unix:{}'\n", without_a_port(cfg), socket.display())
    };
    fs::write(
        lab.host.sandbox.path("debuggee.cfg"),
        of(DEBUGGEE, "windows-debuggee"),
    )
    .unwrap();
    fs::write(
        lab.host.sandbox.path("debugger.cfg"),
        of(DEBUGGER, "windows-debugger"),
    )
    .unwrap();
    let line = "setup xen --vm ./debuggee.cfg --join ./debugger.cfg --yes";
    let mut bridge = lab.host.sandbox.start(line.split_whitespace());
    bridge.wait_line("Nothing to change.");
    bridge.wait_line("ready");
    lab.every_order(bridge);
}

/// Both run without the seed's lines, which are in their files since: the cable is there first, then both are created anew.
fn running_vms_are_restarted_behind_their_cable() {
    let lab = Lab::new(&without_a_port(DEBUGGEE), DEBUGGER);
    let folder = lab.host.sandbox.path("").display().to_string();
    for vm in ["debuggee", "debugger"] {
        lab.create(vm);
        let cfg = lab.host.sandbox.path(&format!("{vm}.cfg"));
        let text = fs::read_to_string(&cfg).unwrap();
        fs::write(&cfg, format!("{text}serial = 'unix:{folder}windows-{vm}'\n")).unwrap();
    }
    let line = "setup xen --vm ./debuggee.cfg --join ./debugger.cfg --yes --restart hard";
    let mut bridge = lab.host.sandbox.start(line.split_whitespace());
    bridge.wait_line("ready");
    bridge.wait_line("Done.");
    lab.talk();
    let id = lab.host.tool("xl domid windows-debugger").stdout;
    assert!(["3", "4"].contains(&id.trim()), "{id}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end_with_input_open(), 0, "{}", bridge.said());
}

fn two_vms_are_joined_by_the_shipped_profile_over_ssh() {
    let lab = Lab::new(&without_a_port(DEBUGGEE), DEBUGGER);
    let lab = Lab {
        host: lab.host.behind_ssh(),
    };
    let path = |vm: &str| lab.host.sandbox.path(&format!("{vm}.cfg")).display().to_string();
    let profile = PROFILE
        .replace("root@xl1.lab", "lab")
        .replace("vm: debugger,", &format!("vm: {},", path("debugger")))
        .replace("vm: debuggee,", &format!("vm: {},", path("debuggee")));
    fs::write(lab.host.sandbox.path("lab.yaml"), profile).unwrap();
    let planned = lab.host.sandbox.run(["plan", "lab.yaml"]);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert_eq!(
        planned.stdout.matches("+serial = [ \"pty\" ]").count(),
        2,
        "{planned:?}"
    );
    let mut bridge = lab.host.sandbox.start(["up", "lab.yaml", "--yes"]);
    bridge.wait_line("ready");
    lab.every_order(bridge);
}

fn joined_ports_have_no_other_client() {
    let lab = Lab::new(DEBUGGEE, DEBUGGER);
    let profile = PROFILE.replace(
        "vm: debugger, ports: [{port: 1, as: kd}]",
        "vm: debugger, ports: [{port: 1, as: kd, serve: [pty], log: x}]",
    );
    assert_ne!(profile, PROFILE);
    fs::write(lab.host.sandbox.path("lab.yaml"), profile).unwrap();
    let checked = lab.host.sandbox.run(["profile", "check", "-p", "lab.yaml"]);
    assert_eq!(checked.code, Some(3), "{checked:?}");
    for part in ["`debugger-vm/1` has `serve`", "joins[0].a"] {
        assert!(checked.stderr.contains(part), "{part}: {checked:?}");
    }
}
