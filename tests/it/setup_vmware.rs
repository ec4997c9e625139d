//! `vmserial setup vmware` on files in their real form; what needs VMware's `vmrun` meets a stand-in that keeps state.

mod power;
mod undo;

use crate::kit::{Ended, Sandbox, connect, finish, read_until};
use libtest_mimic::Trial;
use std::fs;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// The users' lines for a serial port (`serial1.*`, port 2) in a whole file of a Linux host.
const KGDB: &[u8] = include_bytes!("../data/vmx/workstation-kgdb.vmx");
/// The users' lines for the gdb stub in a file of a Windows host: CRLF, windows-1252.
const STUB: &[u8] = include_bytes!("../data/vmx/zpp-gdbstub.vmx");

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a_plan_names_the_missing_lines", a_plan_names_the_missing_lines),
        trial("a_second_apply_changes_nothing", a_second_apply_changes_nothing),
        trial(
            "the_users_gdb_stub_is_recognised",
            the_users_gdb_stub_is_recognised,
        ),
        trial(
            "a_stub_is_opened_to_everybody_only_with_a_warning",
            a_stub_is_opened_to_everybody_only_with_a_warning,
        ),
        trial(
            "show_and_remove_serve_ports_of_others",
            show_and_remove_serve_ports_of_others,
        ),
        trial(
            "what_cannot_be_edited_is_refused",
            what_cannot_be_edited_is_refused,
        ),
        trial("a_lock_is_respected", a_lock_is_respected),
        trial(
            "without_a_yes_nothing_is_changed",
            without_a_yes_nothing_is_changed,
        ),
        trial("the_setup_ends_in_the_bridge", the_setup_ends_in_the_bridge),
        trial(
            "a_vm_that_connects_is_waited_for",
            a_vm_that_connects_is_waited_for,
        ),
        trial("other_hypervisors_are_named", other_hypervisors_are_named),
    ];
    trials.extend(power::trials());
    trials.extend(undo::trials());
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(format!("setup_vmware::{name}"), move || {
        test();
        Ok(())
    })
}

/// A sandbox with a VM and, unless a test takes it away, a `vmrun` for which nothing runs.
struct Lab {
    sandbox: Sandbox,
    vmrun: PathBuf,
}

impl Lab {
    fn new(vmx: &[u8]) -> Self {
        let sandbox = Sandbox::new();
        let vmrun = sandbox.stand_in("vmrun");
        fs::write(sandbox.path("dev.vmx"), vmx).unwrap();
        Self { sandbox, vmrun }
    }

    fn vmx(&self) -> Vec<u8> {
        fs::read(self.sandbox.path("dev.vmx")).unwrap()
    }

    fn set_vmx(&self, bytes: &[u8]) {
        fs::write(self.sandbox.path("dev.vmx"), bytes).unwrap();
    }

    /// Runs `vmserial setup vmware --vm dev.vmx` with these words behind.
    fn setup(&self, words: &str) -> Ended {
        let line = format!("setup vmware --vm dev.vmx {words}");
        self.sandbox.run(line.split_whitespace())
    }

    fn fault(&self, name: &str) {
        fs::write(self.vmrun.join("faults"), name).unwrap();
    }

    /// Starts the VM by the stand-in, as its user would.
    fn power_on(&self) {
        let path = self.sandbox.path("dev.vmx");
        let mut vmrun = std::process::Command::new(self.sandbox.path("bin/vmrun"));
        let ended = finish(vmrun.args(["-T", "ws", "start"]).arg(path), b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    fn is_running(&self) -> bool {
        let running = fs::read_to_string(self.vmrun.join("running")).unwrap_or_default();
        running.contains("dev.vmx")
    }

    /// What the program said, without what differs between runs.
    fn shown(&self, ended: &Ended) -> String {
        redact_entries(&ended.shown(&self.sandbox))
    }
}

/// Takes the names of journal entries out: `20261121T080325537123Z-0ebbbc22`.
pub fn redact_entries(text: &str) -> String {
    let is_entry = |word: &str| {
        word.split_once("Z-").is_some_and(|(time, rest)| {
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            time.len() > 14
                && time
                    .split_once('T')
                    .is_some_and(|(day, time)| digits(day) && digits(time))
                && rest.len() == 8
        })
    };
    text.split_inclusive([' ', '`', '\n'])
        .map(|word| {
            let bare = word.trim_end_matches([' ', '`', '\n']);
            match is_entry(bare) {
                true => format!("[ENTRY]{}", &word[bare.len()..]),
                false => word.to_owned(),
            }
        })
        .collect()
}

const PORT: &str = "--port 2 --endpoint listen:unix:/tmp/com_ubuntu1510";

fn a_plan_names_the_missing_lines() {
    let lab = Lab::new(KGDB);
    let ended = lab.setup(&format!("{PORT} --plan"));
    insta::assert_snapshot!(lab.shown(&ended), @r#"
    exit code: 0
    --- standard output
    dev: vmware VM `[SANDBOX]/dev.vmx` on this machine, off
      port 2 (COM2, ttyS1), console: VM listens on unix:/tmp/com_ubuntu1510, vmserial connects
      settings:
        1. complete port 2 (COM2, ttyS1) on unix:/tmp/com_ubuntu1510: missing serial1.pipe.endPoint, serial1.tryNoRxLoss
            --- [SANDBOX]/dev.vmx
            +++ [SANDBOX]/dev.vmx
            @@ -24,2 +24,5 @@
             uuid.bios = "56 4d 1d 9c 8f 2b 4e 6a-0f 5c 2f 31 7a 90 5e 11"
             annotation = "kernel 4.2 |7C vmhgfs |22live|22"
            +# vmserial: serial1 is set by vmserial, `vmserial undo` takes it back
            +serial1.pipe.endPoint = "server"
            +serial1.tryNoRxLoss = "TRUE"
            effect: at the guest's next boot; undo: puts our keys back, nothing else
    --- standard error
    "#);
    assert_eq!(lab.vmx(), KGDB);
    assert!(!lab.sandbox.path("state/journal").exists());
}

fn a_second_apply_changes_nothing() {
    let lab = Lab::new(KGDB);
    let first = lab.setup(&format!("{PORT} --as gdb --yes"));
    insta::assert_snapshot!(lab.shown(&first), @r#"
    exit code: 0
    --- standard output
    vmserial bridge connect:unix:/tmp/com_ubuntu1510 listen:tcp:127.0.0.1:0 --as gdb
    --- standard error
    dev: vmware VM `[SANDBOX]/dev.vmx` on this machine, off
      port 2 (COM2, ttyS1), gdb: VM listens on unix:/tmp/com_ubuntu1510, vmserial connects
      settings:
        1. complete port 2 (COM2, ttyS1) on unix:/tmp/com_ubuntu1510: missing serial1.pipe.endPoint, serial1.tryNoRxLoss
            --- [SANDBOX]/dev.vmx
            +++ [SANDBOX]/dev.vmx
            @@ -24,2 +24,5 @@
             uuid.bios = "56 4d 1d 9c 8f 2b 4e 6a-0f 5c 2f 31 7a 90 5e 11"
             annotation = "kernel 4.2 |7C vmhgfs |22live|22"
            +# vmserial: serial1 is set by vmserial, `vmserial undo` takes it back
            +serial1.pipe.endPoint = "server"
            +serial1.tryNoRxLoss = "TRUE"
            effect: at the guest's next boot; undo: puts our keys back, nothing else
    [1/1] complete port 2 (COM2, ttyS1) on unix:/tmp/com_ubuntu1510: missing serial1.pipe.endPoint, serial1.tryNoRxLoss
    Done. `vmserial undo [ENTRY]` takes it back.
    The VM's end is `listen:unix:/tmp/com_ubuntu1510`, ours `connect:unix:/tmp/com_ubuntu1510`.
    Start the bridge with:
    "#);
    let written = lab.vmx();
    assert!(written.starts_with(KGDB));
    let added = String::from_utf8(written[KGDB.len()..].to_vec()).unwrap();
    insta::assert_snapshot!(added, @r#"
    # vmserial: serial1 is set by vmserial, `vmserial undo` takes it back
    serial1.pipe.endPoint = "server"
    serial1.tryNoRxLoss = "TRUE"
    "#);
    let second = lab.setup(&format!("{PORT} --as gdb --yes"));
    insta::assert_snapshot!(lab.shown(&second), @r#"
    exit code: 0
    --- standard output
    vmserial bridge connect:unix:/tmp/com_ubuntu1510 listen:tcp:127.0.0.1:0 --as gdb
    --- standard error
    Nothing to change.
    The VM's end is `listen:unix:/tmp/com_ubuntu1510`, ours `connect:unix:/tmp/com_ubuntu1510`.
    Start the bridge with:
    "#);
    assert_eq!(lab.vmx(), written);
}

fn the_users_gdb_stub_is_recognised() {
    let lab = Lab::new(STUB);
    let ended = lab.setup("--gdbstub 1337 --allow-remote --stop-at-start --hide-breakpoints --nested --yes");
    insta::assert_snapshot!(lab.shown(&ended), @r#"
    exit code: 0
    --- standard output
    --- standard error
    Nothing to change.
    When the VM runs, gdb finds it with `target remote 127.0.0.1:1337`.
    "#);
    assert_eq!(lab.vmx(), STUB);
    let loopback = lab.setup("--gdbstub 1337 --stop-at-start --hide-breakpoints --plan");
    insta::assert_snapshot!(lab.shown(&loopback), @r#"
    exit code: 0
    --- standard output
    dev: vmware VM `[SANDBOX]/dev.vmx` on this machine, off
      settings:
        1. let the gdb stub listen on loopback, TCP port 1337
            --- [SANDBOX]/dev.vmx
            +++ [SANDBOX]/dev.vmx
            @@ -6,7 +6,8 @@
             vhv.enable = "TRUE"
             nvme0:0.fileName = "zpp.vmdk"
            -debugStub.listen.guest64.remote = "TRUE"
             debugStub.port.guest64 = "1337"
             debugStub.hideBreakpoints = "TRUE"
             monitor.debugOnStartGuest64 = "TRUE"
             cleanShutdown = "TRUE"
            +# vmserial: the gdb stub is set by vmserial, `vmserial undo` takes it back
            +debugStub.listen.guest64 = "TRUE"
            effect: at the guest's next boot; undo: puts our keys back, nothing else
            note: the VM will stand still at its first instruction until a debugger lets it go
            note: breakpoints will be hardware's, so at most four, and the guest does not see them
    --- standard error
    "#);
}

fn a_stub_is_opened_to_everybody_only_with_a_warning() {
    let lab = Lab::new(KGDB);
    let quiet = lab.setup("--gdbstub 8864 --plan");
    assert!(
        !quiet.stdout.contains("warning") && !quiet.stdout.contains("remote"),
        "{quiet:?}"
    );
    let open = lab.setup("--gdbstub 8864 --allow-remote --plan");
    assert!(
        open.stdout
            .contains("warning: the gdb stub will listen on all addresses"),
        "{open:?}"
    );
}

fn show_and_remove_serve_ports_of_others() {
    let lab = Lab::new(KGDB);
    let shown = lab.setup("--port 2 --show");
    insta::assert_snapshot!(lab.shown(&shown), @r#"
    exit code: 0
    --- standard output
    port 2 (COM2, ttyS1): the VM's end is `listen:unix:/tmp/com_ubuntu1510`, ours `connect:unix:/tmp/com_ubuntu1510`
      serial1.present = "TRUE"
      serial1.yieldOnMsrRead = "TRUE"
      serial1.fileType = "pipe"
      serial1.fileName = "/tmp/com_ubuntu1510"
    --- standard error
    "#);
    let stub = Lab::new(STUB).setup("--show");
    assert_eq!(stub.code, Some(0), "{stub:?}");
    assert!(
        stub.stdout
            .contains("gdb stub:\n  debugStub.listen.guest64.remote = \"TRUE\"\n"),
        "{stub:?}"
    );
    let removed = lab.setup("--port 2 --remove --yes");
    insta::assert_snapshot!(lab.shown(&removed), @r#"
    exit code: 0
    --- standard output
    --- standard error
    dev: vmware VM `[SANDBOX]/dev.vmx` on this machine, off
      port 2 (COM2, ttyS1), console
      settings:
        1. remove port 2 (COM2)
            --- [SANDBOX]/dev.vmx
            +++ [SANDBOX]/dev.vmx
            @@ -16,8 +16,4 @@
             serial0.fileType = "thinprint"
             serial0.fileName = "thinprint"
            -serial1.present = "TRUE"
            -serial1.yieldOnMsrRead = "TRUE"
            -serial1.fileType = "pipe"
            -serial1.fileName = "/tmp/com_ubuntu1510"
             cleanShutdown = "TRUE"
             checkpoint.vmState = ""
            effect: at the guest's next boot; undo: puts our keys back, nothing else
    [1/1] remove port 2 (COM2)
    Done. `vmserial undo [ENTRY]` takes it back.
    "#);
    let gone: Vec<u8> = KGDB
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !line.starts_with(b"serial1."))
        .flatten()
        .copied()
        .collect();
    assert_eq!(lab.vmx(), gone);
    assert_eq!(
        lab.setup("--port 2 --remove --yes").stderr,
        "Nothing to change.\n"
    );
    let absent = lab.setup("--port 2 --show");
    assert_eq!(absent.code, Some(4), "{absent:?}");
}

fn what_cannot_be_edited_is_refused() {
    let mut all = String::new();
    for (what, file) in [
        ("a byte-order mark", &b"\xef\xbb\xbfa = \"1\"\n"[..]),
        (
            "a key that stands twice",
            b"serial1.present = \"TRUE\"\nSerial1.Present = \"FALSE\"\n",
        ),
        (
            "an encrypted VM",
            b".encoding = \"UTF-8\"\nencryption.data = \"abc\"\n",
        ),
        ("something else", b"[Unit]\nDescription=no VM\n"),
        ("nothing", b""),
    ] {
        let lab = Lab::new(file);
        let ended = lab.setup(&format!("{PORT} --yes"));
        assert_eq!(lab.vmx(), file, "{what}");
        all.push_str(&format!("=== {what}\n{}", lab.shown(&ended)));
    }
    let lab = Lab::new(KGDB);
    for (what, words) in [
        ("a file that is not there", "setup vmware --vm other.vmx --yes"),
        ("a folder", "setup vmware --vm . --yes"),
        ("no VM", "setup vmware --yes"),
        (
            "a port that VMware has not",
            "setup vmware --vm dev.vmx --port 5 --yes",
        ),
        (
            "an endpoint that VMware has not",
            "setup vmware --vm dev.vmx --endpoint listen:tcp:127.0.0.1:7001 --yes",
        ),
    ] {
        let ended = lab.sandbox.run(words.split_whitespace());
        all.push_str(&format!("=== {what}\n{}", lab.shown(&ended)));
    }
    assert_eq!(lab.vmx(), KGDB);
    insta::assert_snapshot!(all);
}

fn a_lock_is_respected() {
    let lab = Lab::new(KGDB);
    fs::create_dir(lab.sandbox.path("dev.vmx.lck")).unwrap();
    let ended = lab.setup(&format!("{PORT} --yes"));
    insta::assert_snapshot!(lab.shown(&ended), @r#"
    exit code: 5
    --- standard output
    --- standard error
    error: `[SANDBOX]/dev.vmx` is in use: `[SANDBOX]/dev.vmx.lck` is there
    hint: Power the VM off and close its tab: VMware writes the file over at power-off. Then run this again.
    hint: `vmrun list` does not name the VM. If no VMware program has it open, the lock was left behind by a crash: remove it.
    "#);
    // No vmrun on the PATH: the lock alone tells.
    let words = format!("setup vmware --vm dev.vmx {PORT} --yes");
    let empty = lab.sandbox.path("run");
    let ended = finish(
        lab.sandbox.vmserial(words.split_whitespace()).env("PATH", empty),
        b"",
    );
    insta::assert_snapshot!(lab.shown(&ended), @r#"
    exit code: 5
    --- standard output
    --- standard error
    error: `[SANDBOX]/dev.vmx` is in use: `[SANDBOX]/dev.vmx.lck` is there
    hint: Power the VM off and close its tab: VMware writes the file over at power-off. Then run this again.
    hint: Whether the VM runs is not known, because `vmrun` is not on the PATH; with it, `--restart graceful` powers the VM off and on.
    "#);
    assert_eq!(lab.vmx(), KGDB);
    assert_eq!(lab.setup("--port 2 --show").code, Some(0));
}

fn without_a_yes_nothing_is_changed() {
    let lab = Lab::new(KGDB);
    let ended = lab.setup(PORT);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("no terminal to ask on"), "{ended:?}");
    assert_eq!(lab.vmx(), KGDB);
}

fn the_setup_ends_in_the_bridge() {
    let lab = Lab::new(KGDB);
    // The VM's end, which VMware would open at power-on.
    let vm = UnixListener::bind(lab.sandbox.path("vm.sock")).unwrap();
    let words = format!(
        "setup vmware --vm dev.vmx --port 1 --endpoint {} --serve {} --yes",
        "listen:unix:vm.sock",
        lab.sandbox.endpoint("listen:unix", "client.sock")
    );
    let mut setup = lab.sandbox.start(words.split_whitespace());
    setup.wait_line("ready");
    let (mut port, _) = vm.accept().unwrap();
    let mut client = connect(&lab.sandbox.path("client.sock"));
    port.write_all(b"login: ").unwrap();
    read_until(&mut client, b"login: ");
    client.write_all(b"root\n").unwrap();
    port.set_read_timeout(Some(crate::kit::PATIENCE)).unwrap();
    read_until(&mut port, b"root\n");
    setup.signal("TERM");
    assert_eq!(setup.wait_end(), 0, "{}", setup.said());
    assert!(setup.said().contains("Running: vmserial bridge connect:unix:"));
    let vmx = String::from_utf8(lab.vmx()).unwrap();
    let path = lab.sandbox.path("vm.sock").display().to_string();
    assert!(vmx.contains(&format!("serial0.fileName = \"{path}\"")), "{vmx}");
    // The printer that was there is said to be replaced.
    assert!(
        setup
            .said()
            .contains("port 1 is in use for something else now: thinprint")
    );
}

fn a_vm_that_connects_is_waited_for() {
    let lab = Lab::new(KGDB);
    let words = format!(
        "setup vmware --vm dev.vmx --port 2 --endpoint {} --serve {} --yes",
        lab.sandbox.endpoint("connect:unix", "vm.sock"),
        lab.sandbox.endpoint("listen:unix", "client.sock")
    );
    let mut setup = lab.sandbox.start(words.split_whitespace());
    setup.wait_line("ready");
    let vmx = String::from_utf8(lab.vmx()).unwrap();
    assert!(vmx.contains("serial1.pipe.endPoint = \"client\""), "{vmx}");
    let mut port: UnixStream = connect(&lab.sandbox.path("vm.sock"));
    let mut client = connect(&lab.sandbox.path("client.sock"));
    port.write_all(b"boot").unwrap();
    read_until(&mut client, b"boot");
    setup.signal("TERM");
    assert_eq!(setup.wait_end(), 0, "{}", setup.said());
}

fn other_hypervisors_are_named() {
    let sandbox = Sandbox::new();
    let mut all = String::new();
    for words in [
        "setup virtualbox --vm dev --pipe dev",
        "setup proxmox",
        "setup vmwere --vm x",
    ] {
        let ended = sandbox.run(words.split_whitespace());
        all.push_str(&format!("=== {words}\n{}", ended.shown(&sandbox)));
    }
    insta::assert_snapshot!(all, @r#"
    === setup virtualbox --vm dev --pipe dev
    exit code: 5
    --- standard output
    --- standard error
    error: the hypervisor `virtualbox` is not served yet
    hint: This version serves hyperv, qemu, vmware and xen. For any other, give the VM its port by hand and use `vmserial bridge` and `vmserial console`.
    === setup proxmox
    exit code: 5
    --- standard output
    --- standard error
    error: the hypervisor `proxmox` is not served yet
    hint: This version serves hyperv, qemu, vmware and xen. For any other, give the VM its port by hand and use `vmserial bridge` and `vmserial console`.
    === setup vmwere --vm x
    exit code: 2
    --- standard output
    --- standard error
    error: unknown hypervisor `vmwere`, expected one of hyperv, xen, vmware, virtualbox, qemu, libvirt, proxmox
    "#);
}
