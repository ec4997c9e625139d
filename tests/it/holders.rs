//! A place that somebody has already: who it is, in which endpoint, and how to join another vmserial (exit 5).

use crate::kit::{Ended, Running, Sandbox, finish};
use libtest_mimic::Trial;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("holders::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial(
            "a_tcp_port_names_its_holder_in_every_kind",
            a_tcp_port_names_its_holder_in_every_kind,
        ),
        trial("a_wildcard_has_every_address", a_wildcard_has_every_address),
        trial("a_port_of_ipv6", a_port_of_ipv6),
        trial(
            "the_same_port_of_another_address",
            the_same_port_of_another_address,
        ),
        trial("a_port_of_another_user", a_port_of_another_user),
        trial("another_vmserial_can_be_joined", another_vmserial_can_be_joined),
        trial(
            "another_vmserial_of_another_state_folder",
            another_vmserial_of_another_state_folder,
        ),
        trial("a_socket_whose_backlog_is_full", a_socket_whose_backlog_is_full),
        trial("the_link_of_a_terminal", the_link_of_a_terminal),
        trial("a_device_that_is_locked", a_device_that_is_locked),
        trial("a_device_that_is_exclusive", a_device_that_is_exclusive),
    ]
}

/// What starting a bridge with this client is answered with.
fn refused(sandbox: &Sandbox, client: &str) -> Ended {
    let ended = sandbox.run(["bridge", "connect:unix:nowhere", client]);
    assert_eq!(ended.code, Some(5), "{client}: {ended:?}");
    ended
}

/// As messages name the process of the tests.
fn this_process() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    format!("`{}` (pid {})", name.trim_end(), std::process::id())
}

fn assert_says(ended: &Ended, text: &str) {
    assert!(ended.stderr.contains(text), "{text}: {ended:?}");
}

fn a_tcp_port_names_its_holder_in_every_kind() {
    let sandbox = Sandbox::new();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    for kind in ["tcp", "telnet", "rfc2217"] {
        let ended = refused(&sandbox, &format!("listen:{kind}:{}", address.port()));
        let said = format!(
            "cannot listen on `listen:{kind}:{address}`: {} listens there",
            this_process()
        );
        assert_says(&ended, &said);
        // The VM's side is told in the same way.
        let ended = sandbox.run(["bridge", &format!("listen:{kind}:{address}"), "stdio"]);
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert_says(&ended, &said);
    }
}

fn a_wildcard_has_every_address() {
    let sandbox = Sandbox::new();
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let ended = refused(&sandbox, &format!("listen:tcp:{port}"));
    assert_says(&ended, &format!("{} listens there", this_process()));
    drop(busy);
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let ended = refused(&sandbox, &format!("listen:telnet:0.0.0.0:{port}"));
    assert_says(
        &ended,
        &format!(
            "cannot listen on `listen:telnet:0.0.0.0:{port}`: {} listens there",
            this_process()
        ),
    );
}

fn a_port_of_ipv6() {
    let sandbox = Sandbox::new();
    let Ok(busy) = TcpListener::bind("[::1]:0") else {
        // A machine without IPv6 says so.
        let ended = refused(&sandbox, "listen:tcp:[::1]:0");
        assert_says(&ended, "cannot listen on `listen:tcp:[::1]:0`: ");
        return;
    };
    let port = busy.local_addr().unwrap().port();
    let ended = refused(&sandbox, &format!("listen:tcp:[::1]:{port}"));
    let said = format!(
        "cannot listen on `listen:tcp:[::1]:{port}`: {} listens there",
        this_process()
    );
    assert_says(&ended, &said);
    drop(busy);
    // IPv6's wildcard is IPv4's too.
    let busy = TcpListener::bind("[::]:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let ended = refused(&sandbox, &format!("listen:tcp:127.0.0.1:{port}"));
    assert_says(&ended, &format!("{} listens there", this_process()));
}

fn the_same_port_of_another_address() {
    let sandbox = Sandbox::new();
    let mut other = sandbox.start(["bridge", "connect:unix:vm", "listen:tcp:127.0.0.1:0"]);
    let line = other.wait_line("listening client 1 ");
    let port = line.rsplit(':').next().unwrap().to_owned();
    // The first line of the system's table with this port is not the one.
    let _decoy = TcpListener::bind(format!("127.0.0.2:{port}")).unwrap();
    let ended = refused(&sandbox, &format!("listen:tcp:{port}"));
    assert_says(&ended, &format!("(pid {}) listens there", other.pid()));
}

fn a_port_of_another_user() {
    let sandbox = Sandbox::new();
    if !rustix::process::geteuid().is_root() {
        // A plain user cannot have another user listen; what it sees of its own is the other tests' business.
        let ended = refused(&sandbox, "listen:unix:/proc/c");
        assert_says(&ended, "cannot listen on `/proc/c`");
        return;
    }
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let program = sandbox.path("vmserial");
    std::fs::copy(env!("CARGO_BIN_EXE_vmserial"), &program).unwrap();
    open(&sandbox.path(""), 0o777);
    open(&sandbox.path("run"), 0o777);
    let mut plain = Command::new("setpriv");
    plain
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
        ])
        .arg(&program)
        .args(["bridge", "connect:unix:vm", &format!("listen:tcp:{port}")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", sandbox.path(""))
        .env("VMSERIAL_STATE", sandbox.path("state"))
        .env("XDG_RUNTIME_DIR", sandbox.path("run"))
        .current_dir(sandbox.path(""));
    let ended = finish(&mut plain, b"");
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_says(&ended, "a process of the user `root` listens there");
}

fn another_vmserial_can_be_joined() {
    let sandbox = Sandbox::new();
    let vm = sandbox.endpoint("connect:unix", "vm");
    let mut other = sandbox.start(["bridge", &vm, "listen:telnet:0", "listen:unix:c", "pty:p"]);
    let line = other.wait_line("listening client 1 ");
    let port = line.rsplit(':').next().unwrap().to_owned();
    other.wait_line("ready");
    let telnet = format!("listen:telnet:{port}");
    for (client, does) in [
        (telnet.as_str(), "listens there"),
        ("listen:unix:c", "listens there"),
        ("pty:p", "serves one there"),
    ] {
        let ended = refused(&sandbox, client);
        let command = format!("`vmserial bridge {vm} listen:telnet:0 listen:unix:c pty:p`");
        assert_says(&ended, &format!("{command} (pid {}) {does}", other.pid()));
        let hint = format!(
            "hint: Pid {} serves the port `{vm}` there. Join it with `vmserial console {vm}`, or end it first.",
            other.pid()
        );
        assert_says(&ended, &hint);
    }
    // A second bridge of the same port is told the same.
    let ended = sandbox.run(["bridge", &vm, "listen:unix:d"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_says(
        &ended,
        &format!("Join it with `vmserial console {vm}`, or end it first."),
    );
    // And the first one still serves.
    UnixStream::connect(sandbox.path("c")).unwrap();
    assert!(
        std::fs::read_link(sandbox.path("p"))
            .unwrap()
            .starts_with("/dev/pts")
    );
}

fn another_vmserial_of_another_state_folder() {
    let (sandbox, elsewhere) = (Sandbox::new(), Sandbox::new());
    let client = sandbox.endpoint("listen:unix", "c");
    let _other = elsewhere.bridge(["connect:unix:vm", &client]);
    let ended = refused(&sandbox, &client);
    assert_says(
        &ended,
        &format!("`vmserial bridge connect:unix:vm {client}` (pid "),
    );
    assert_says(&ended, "hint: End that process or choose another path.");
}

fn a_socket_whose_backlog_is_full() {
    let sandbox = Sandbox::new();
    let busy = UnixListener::bind(sandbox.path("c")).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let _waits = UnixStream::connect(sandbox.path("c")).unwrap();
    // Nobody answers, so only the system's table tells. Other tests change it while it is read.
    let said = format!("{} listens there", this_process());
    crate::kit::wait_until("the holder is named", || {
        let ended = refused(&sandbox, "listen:unix:c");
        assert_says(&ended, " listens there");
        ended.stderr.contains(&said).then_some(())
    });
}

fn the_link_of_a_terminal() {
    let sandbox = Sandbox::new();
    let link = sandbox.path("p");
    // socat serves one.
    let mut socat = Running::start(Command::new("socat").args([
        "-d",
        "-d",
        &format!("PTY,link={},rawer", link.display()),
        "-",
    ]));
    socat.wait_line("PTY is /dev/pts/");
    crate::kit::wait_until("the link is there", || link.exists().then_some(()));
    let ended = refused(&sandbox, "pty:p");
    let said = format!(
        "cannot link `p` to a terminal: `socat` (pid {}) serves one there",
        socat.pid()
    );
    assert_says(&ended, &said);
    // One of a process that was killed is left over, and its number may be another terminal's by now.
    crate::kit::kill(socat.pid(), "KILL");
    socat.wait_end();
    assert!(std::fs::symlink_metadata(&link).is_ok(), "left over");
    let bridge = sandbox.bridge(["connect:unix:nowhere", "pty:p"]);
    assert!(link.exists());
    drop(bridge);
}

fn a_device_that_is_locked() {
    let (sandbox, other) = (Sandbox::new(), Sandbox::new());
    let wire =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::unlockpt(&wire).unwrap();
    let device = rustix::pty::ptsname(&wire, Vec::new()).unwrap();
    let endpoint = format!("tty:{}", device.to_str().unwrap());
    let mut first = sandbox.start(["bridge", &endpoint, "listen:unix:c"]);
    first.wait_line("target up");
    let mut second = other.start(["bridge", &endpoint, "listen:unix:c"]);
    let line = second.wait_line("target away");
    let command = format!("`vmserial bridge {endpoint} listen:unix:c` (pid {})", first.pid());
    assert!(
        line.ends_with(&format!("target away: busy: {command} has it")),
        "{line}"
    );
    first.signal("TERM");
    first.wait_end();
    second.wait_line("target up");
    // Of the same state folder it is refused at once.
    let ended = other.run(["bridge", &endpoint, "listen:unix:d"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_says(&ended, &format!("Join it with `vmserial console {endpoint}`"));
}

fn a_device_that_is_exclusive() {
    let sandbox = Sandbox::new();
    let wire =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::unlockpt(&wire).unwrap();
    let device = rustix::pty::ptsname(&wire, Vec::new()).unwrap();
    let path = device.to_str().unwrap().to_owned();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let mut holder = Running::start(Command::new("socat").args([
        "-d",
        "-d",
        "-u",
        &format!("OPEN:{path},rawer,ioctl-void=0x540C"),
        "-",
    ]));
    holder.wait_line("starting data transfer loop");
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let mut command = sandbox.vmserial(["bridge", &format!("tty:{path}"), "pty"]);
    if rustix::process::geteuid().is_root() {
        // Root may open what is exclusive, and a plain user may not look into root's processes.
        let program = sandbox.path("vmserial");
        std::fs::copy(env!("CARGO_BIN_EXE_vmserial"), &program).unwrap();
        open(&sandbox.path(""), 0o777);
        open(&sandbox.path("run"), 0o777);
        command = Command::new("setpriv");
        command
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
            ])
            .arg(&program)
            .args(["bridge", &format!("tty:{path}"), "pty"])
            .env("VMSERIAL_STATE", sandbox.path("state"))
            .env("XDG_RUNTIME_DIR", sandbox.path("run"))
            .current_dir(sandbox.path(""));
    }
    let mut bridge = Running::start(&mut command);
    let line = bridge.wait_line("target away");
    assert!(line.contains("target away: busy"), "{line}");
    if !rustix::process::geteuid().is_root() {
        assert!(
            line.contains(&format!("`socat` (pid {}) has it", holder.pid())),
            "{line}"
        );
    }
}
