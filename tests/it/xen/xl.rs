//! Plain Xen.

use super::{Host, free_port, greeting, trial};
use crate::kit::{connect, read_until};
use libtest_mimic::Trial;
use std::fs;
use std::path::PathBuf;

/// The file of the seed's debugged VM, with what else stands in such files.
const DEBUGGEE: &[u8] = include_bytes!("../../data/xen/debuggee.cfg");
/// A file without a port.
pub(super) const DEBUGGER: &[u8] = include_bytes!("../../data/xen/debugger.cfg");

pub fn trials() -> Vec<Trial> {
    vec![
        trial("xl_edits_one_value", xl_edits_one_value),
        trial("xl_undo_restores_the_bytes", xl_undo_restores_the_bytes),
        trial("xl_restarts_as_allowed", xl_restarts_as_allowed),
        trial("xl_pseudo_terminal_is_followed", xl_pseudo_terminal_is_followed),
        trial(
            "xl_vm_that_connects_is_restarted_behind_the_bridge",
            xl_vm_that_connects_is_restarted_behind_the_bridge,
        ),
        trial(
            "xl_vm_that_connects_is_waited_for",
            xl_vm_that_connects_is_waited_for,
        ),
        trial("xl_refusals", xl_refusals),
        trial("xl_shows_and_removes", xl_shows_and_removes),
        trial("xl_two_lines_of_serial_are_told", xl_two_lines_of_serial_are_told),
    ]
}

pub(super) struct Lab {
    pub(super) host: Host,
    pub(super) cfg: PathBuf,
}

impl Lab {
    pub(super) fn new(cfg: &[u8]) -> Self {
        let host = Host::new("xl");
        let path = host.sandbox.path("vm.cfg");
        fs::write(&path, cfg).unwrap();
        Self { host, cfg: path }
    }

    pub(super) fn cfg(&self) -> String {
        String::from_utf8(fs::read(&self.cfg).unwrap()).unwrap()
    }

    fn setup(&self, words: &str) -> crate::kit::Ended {
        self.host.setup(&format!("--vm ./vm.cfg {words}"))
    }

    pub(super) fn create(&self) {
        self.host.must(&format!("xl create {}", self.cfg.display()));
    }
}

fn xl_edits_one_value() {
    let lab = Lab::new(DEBUGGEE);
    let port = free_port();
    let words = format!("--endpoint listen:tcp:127.0.0.1:{port} --as kd");
    let planned = lab.setup(&format!("{words} --plan"));
    insta::assert_snapshot!(lab.host.shown(&planned, port));
    assert_eq!(lab.cfg().as_bytes(), DEBUGGEE);
    let first = lab.setup(&format!("{words} --yes"));
    assert_eq!(first.code, Some(0), "{first:?}");
    let line = format!("serial = 'tcp:127.0.0.1:{port},server,nodelay,nowait'\n");
    let text = String::from_utf8(DEBUGGEE.to_vec()).unwrap();
    let expected = text.replace("serial = 'unix:/tmp/windows-debuggee'\n", &line);
    let mark = "# vmserial: the serial ports are set by vmserial, `vmserial undo` takes it back\n";
    assert_eq!(lab.cfg(), format!("{expected}{mark}"));
    let second = lab.setup(&format!("{words} --yes"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    // A second port makes a list of it.
    let other = lab.setup("--port 3 --endpoint listen:unix:/run/com3 --yes");
    assert_eq!(other.code, Some(0), "{other:?}");
    let list = format!(
        "serial = [ 'tcp:127.0.0.1:{port},server,nodelay,nowait', \"null\", \"unix:/run/com3,server,nowait\" ]\n"
    );
    assert!(lab.cfg().contains(&list), "{}", lab.cfg());
}

fn xl_undo_restores_the_bytes() {
    for cfg in [DEBUGGEE, DEBUGGER, &DEBUGGER[..DEBUGGER.len() - 1]] {
        let lab = Lab::new(cfg);
        let applied = lab.setup("--port 2 --endpoint listen:unix:/run/com2 --yes");
        assert_eq!(applied.code, Some(0), "{applied:?}");
        assert_ne!(lab.cfg().as_bytes(), cfg);
        assert_eq!(lab.host.undo().code, Some(0));
        assert_eq!(lab.cfg().as_bytes(), cfg);
        // With another's line in it only ours is taken back.
        assert_eq!(
            lab.setup("--port 2 --endpoint listen:unix:/run/com2 --yes").code,
            Some(0)
        );
        fs::write(&lab.cfg, format!("vcpus = 4\n{}", lab.cfg())).unwrap();
        let undone = lab.host.undo();
        assert_eq!(undone.code, Some(0), "{undone:?}");
        let text = String::from_utf8(cfg.to_vec()).unwrap();
        assert_eq!(lab.cfg().trim_end(), format!("vcpus = 4\n{}", text.trim_end()));
    }
}

fn xl_restarts_as_allowed() {
    let lab = Lab::new(DEBUGGER);
    lab.create();
    let port = free_port();
    let words = format!("--endpoint listen:tcp:127.0.0.1:{port} --as kd --yes");
    let asked = lab.setup(&words);
    assert_eq!(
        (asked.code, lab.cfg().as_bytes()),
        (Some(5), DEBUGGER),
        "{asked:?}"
    );
    lab.host.fault("no-tools");
    let ended = lab.setup(&format!("{words} --restart graceful"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(greeting(port), "domain 2");
    let changes = lab.host.changes();
    assert_eq!(
        changes[1..],
        [
            "xl shutdown -w -F windows-debugger".to_owned(),
            format!("xl create {}", lab.cfg.display())
        ]
    );
    let second = lab.setup(&format!("{words} --restart graceful"));
    assert!(second.stderr.starts_with("Nothing to change.\n"), "{second:?}");
    let moved = free_port();
    let hard = lab.setup(&format!(
        "--endpoint listen:tcp:127.0.0.1:{moved} --as kd --yes --restart hard"
    ));
    assert_eq!(hard.code, Some(0), "{hard:?}");
    assert_eq!(greeting(moved), "domain 3");
    assert!(
        lab.host
            .changes()
            .contains(&"xl destroy windows-debugger".to_owned())
    );
}

fn xl_pseudo_terminal_is_followed() {
    let lab = Lab::new(DEBUGGER);
    lab.create();
    let served = lab.host.sandbox.endpoint("listen:unix", "client");
    let line = format!("setup xen --vm vm.cfg --as console --serve {served} --yes --restart hard");
    // A path without a slash is a name.
    let named = lab.host.sandbox.run(line.split_whitespace());
    assert_eq!(named.code, Some(4), "{named:?}");
    let line = line.replace("vm.cfg", "./vm.cfg");
    let mut setup = lab.host.sandbox.start(line.split_whitespace());
    setup.wait_line("ready");
    let mut client = connect(&lab.host.sandbox.path("client"));
    read_until(&mut client, b"domain 2");
    lab.host.must("xl destroy windows-debugger");
    lab.create();
    read_until(&mut client, b"domain 3");
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
}

/// The seed's form: a bare `unix:/path`, which QEMU connects to at its start.
/// The form of the seed on a VM that runs: the bridge is there first, then the VM loses its power and comes.
fn xl_vm_that_connects_is_restarted_behind_the_bridge() {
    let lab = Lab::new(DEBUGGER);
    lab.create();
    let vm = lab.host.sandbox.endpoint("connect:unix", "vm");
    let served = lab.host.sandbox.endpoint("listen:unix", "client");
    let line = format!("setup xen --vm ./vm.cfg --endpoint {vm} --as kd --serve {served} --yes");
    let id = || {
        lab.host
            .tool("xl domid windows-debugger")
            .stdout
            .trim()
            .to_owned()
    };
    for (level, domain, first) in [
        ("graceful", "2", "start the bridge before the VM"),
        // The bridge was gone for a while: QEMU connects once, when it starts.
        ("hard", "3", "Nothing to change."),
    ] {
        let mut setup = lab
            .host
            .sandbox
            .start(format!("{line} --restart {level}").split_whitespace());
        setup.wait_line(first);
        setup.wait_line("ready");
        setup.wait_line("create `windows-debugger` again");
        setup.wait_line("Done.");
        let mut client = connect(&lab.host.sandbox.path("client"));
        crate::kit::wait_until("the VM answers", || {
            use std::io::{Read, Write};
            client.write_all(b"hello").unwrap();
            let mut buffer = [0; 64];
            client.read(&mut buffer).ok().filter(|count| *count > 0)
        });
        assert_eq!(id(), domain, "{}", setup.said());
        // Somebody is connected: there is nothing to restart.
        let again = lab.setup(&format!(
            "--endpoint {vm} --as kd --yes --restart {level} --no-bridge"
        ));
        assert!(again.stderr.starts_with("Nothing to change.\n"), "{again:?}");
        setup.signal("TERM");
        assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
    }
    // Without a bridge nothing is restarted: the VM would not start.
    let left = lab.setup(&format!(
        "--endpoint {vm} --as kd --yes --restart hard --no-bridge"
    ));
    assert!(left.stderr.starts_with("Nothing to change.\n"), "{left:?}");
    assert_eq!(id(), "3");
}

fn xl_vm_that_connects_is_waited_for() {
    let lab = Lab::new(DEBUGGER);
    let vm = lab.host.sandbox.endpoint("connect:unix", "vm");
    let served = lab.host.sandbox.endpoint("listen:unix", "client");
    let line = format!("setup xen --vm ./vm.cfg --endpoint {vm} --as kd --serve {served} --yes");
    let mut setup = lab.host.sandbox.start(line.split_whitespace());
    setup.wait_line("start the bridge before the VM");
    setup.wait_line("ready");
    lab.create();
    let mut client = connect(&lab.host.sandbox.path("client"));
    // KD's policy keeps nothing for who comes late: the VM is asked to speak.
    let all = crate::kit::wait_until("the VM answers", || {
        use std::io::{Read, Write};
        client.write_all(b"hello").unwrap();
        let mut buffer = [0; 64];
        client.read(&mut buffer).ok().filter(|count| *count > 0)
    });
    assert!(all > 0);
    setup.signal("TERM");
    assert_eq!(setup.wait_end_with_input_open(), 0, "{}", setup.said());
}

fn xl_refusals() {
    let missing = Lab::new(DEBUGGER).host.setup("--vm ./nope.cfg --plan");
    assert_eq!(missing.code, Some(4), "{missing:?}");
    for (cfg, code, part) in [
        ("name = \"x\"\n", 5, "no HVM guest"),
        (
            "name = \"x\"\ntype = \"hvm\"\ndevice_model_stubdomain_override = 1\n",
            5,
            "a domain of its own",
        ),
        ("type = \"hvm\"\n", 3, "no `name`"),
        ("name = dev\n", 3, "line 1: expected a value"),
        ("import os\n", 3, "line 1: expected `=`"),
        (
            "name = 'x'\ntype = 'hvm'\nserial = [ 'a' ]\nserial += [ 'b' ]\n",
            3,
            "line 4: `serial` is added to",
        ),
    ] {
        let lab = Lab::new(cfg.as_bytes());
        let ended = lab.setup("--endpoint listen:unix:/run/x --yes");
        assert_eq!(ended.code, Some(code), "{cfg}: {ended:?}");
        assert!(ended.stderr.contains(part), "{cfg}: {ended:?}");
        assert_eq!(lab.cfg(), cfg);
    }
    let five = Lab::new(DEBUGGER).setup("--port 5 --endpoint listen:unix:/run/x --plan");
    assert_eq!(five.code, Some(5), "{five:?}");
}

fn xl_shows_and_removes() {
    let lab = Lab::new(DEBUGGEE);
    let shown = lab.setup("--show");
    insta::assert_snapshot!(shown.shown(&lab.host.sandbox), @r"
    exit code: 0
    --- standard output
    port 1 (COM1, ttyS0): serial[0] = unix:/tmp/windows-debuggee; the VM's end is `connect:unix:/tmp/windows-debuggee`, ours `listen:unix:/tmp/windows-debuggee`
    --- standard error
    ");
    let removed = lab.setup("--remove --yes");
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(!lab.cfg().contains("serial"), "{}", lab.cfg());
    let again = lab.setup("--remove --yes");
    assert!(again.stderr.starts_with("Nothing to change.\n"), "{again:?}");
    assert_eq!(lab.host.undo().code, Some(0));
    assert_eq!(lab.cfg().as_bytes(), DEBUGGEE);
}

fn xl_two_lines_of_serial_are_told() {
    let twice = [DEBUGGEE, b"serial='pty'\n"].concat();
    let lab = Lab::new(&twice);
    let ended = lab.setup("--endpoint listen:unix:/run/x --yes");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("`serial` stands on the lines 9, 11; xl reads the last one"),
        "{ended:?}"
    );
    assert!(
        lab.cfg().contains("serial='unix:/run/x,server,nowait'\n"),
        "{}",
        lab.cfg()
    );
    let removed = lab.setup("--remove --yes");
    assert_eq!(removed.code, Some(3), "{removed:?}");
    assert!(
        removed.stderr.contains("stands on the lines 9 and 11"),
        "{removed:?}"
    );
}
