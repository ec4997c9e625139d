//! The one-command session on a Hyper-V host from Linux, from end to end: `vmserial debug` sets both ports and starts the VM by
//! the stand-in of PowerShell, reaches both named pipes through a helper (the Windows build under Wine), breaks the real
//! kernel in by its console, and gives a real gdb, with a breakpoint that is hit.

use super::helper::windows_program;
use super::place::{PREFIX, missing as no_wine};
use super::rig::{Program, pipe_name, wake, wired};
use crate::guest::{Guest, folder, missing as no_guest};
use crate::helper_bridge::script;
use crate::kit::{Sandbox, connect, finish};
use crate::sshd::{QUICK_SHELL, Sshd, missing as no_ssh};
use libtest_mimic::{Completion, Trial};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use vmserial_testkit::hyperv::host::{Host, Vm};

pub fn trials() -> Vec<Trial> {
    [
        ("one_command_from_wsl_to_a_breakpoint", here as fn(), None),
        ("one_command_over_ssh_to_a_breakpoint", far, no_ssh()),
    ]
    .map(|(name, run, more)| {
        let reason = no_wine().or_else(no_guest).or(more);
        Trial::ignorable_test(format!("{PREFIX}_{name}"), move || match reason {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => {
                wake();
                run();
                Ok(Completion::Completed)
            }
        })
    })
    .into()
}

const DEV: &str = "5f0d2a6e-54f1-4f1b-8a9e-1f8f3c1f9b11";

/// Something calls `getpid` all along. It says nothing: a console that talks is one of a kernel that still boots.
const BUSY: &str = "{ while :; do sh -c ': $$'; sleep 0.3; done & }";

/// The VM's UART, as the stand-in of Hyper-V's pipe has it, and the same port of the real guest.
fn wire(uart: TcpStream, port: UnixStream) {
    uart.set_read_timeout(None).unwrap();
    port.set_read_timeout(None).unwrap();
    let (mut from_pipe, mut to_guest) = (uart.try_clone().unwrap(), port.try_clone().unwrap());
    std::thread::spawn(move || pass(&mut from_pipe, &mut to_guest));
    let (mut from_guest, mut to_pipe) = (port, uart);
    std::thread::spawn(move || pass(&mut from_guest, &mut to_pipe));
}

fn pass(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// A guest that runs, and the two pipes behind which its ports are.
struct Stage {
    guest: Guest,
    _pipes: [Program; 2],
    names: [String; 2],
}

fn stage(sandbox: &Sandbox) -> Stage {
    let guest = Guest::start(sandbox);
    guest.shell(BUSY);
    let names = [pipe_name(), pipe_name()];
    let taps = [&guest.console, &guest.kgdb];
    let pipes = [0, 1].map(|index| {
        let (mut pipe, uart) = wired(sandbox, "hyperv-pipe", &names[index]);
        let socket = taps[index].endpoint();
        let socket = socket.strip_prefix("connect:unix:").unwrap();
        wire(uart, connect(Path::new(socket)));
        pipe.order("on");
        pipe
    });
    Stage {
        guest,
        _pipes: pipes,
        names,
    }
}

fn write_host(state: &Path) {
    let mut host = Host::default();
    host.vms = vec![Vm::new(DEV, "dev", 1)];
    host.write(state).unwrap();
}

/// Runs the session with gdb's commands in a script, and looks at its end, at the host and at the kernel.
fn session(sandbox: &Sandbox, stage: &Stage, state: &Path, host: &str, helper: Option<&Path>) {
    let hosts = match host {
        "hyperv" => String::new(),
        host => format!("hosts: {{{host}: {{hypervisor: hyperv, ssh: {host}}}}}\n"),
    };
    let [console, kgdb] = &stage.names;
    let profile = format!(
        "version: 1
{hosts}targets:
  dev:
    host: {host}
    vm: dev
    restart: hard
    ports:
      - {{port: 1, as: console, attach: \"listen:pipe:{console}\"}}
      - {{port: 2, as: gdb, attach: \"listen:pipe:{kgdb}\", serve: [\"listen:tcp:127.0.0.1:0\"]}}
    debugger: {{kind: gdb, vmlinux: {}/vmlinux, break_in: [sysrq]}}
",
        folder().unwrap().display()
    );
    fs::write(sandbox.path("dev.yaml"), profile).unwrap();
    let commands = "printf \"PC-%d\\n\", $pc != 0\ntbreak __x64_sys_getpid\ncontinue\nbt 1\ndetach\n";
    fs::write(sandbox.path("script"), commands).unwrap();
    let script = sandbox.path("script").display().to_string();
    let mut command = sandbox.vmserial(["debug", "dev.yaml", "--batch", "--yes", "-x", &script]);
    if let Some(helper) = helper {
        command.env("VMSERIAL_EXE", helper);
    }
    let ended = finish(&mut command, b"");
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    for part in ["PC-1", "Temporary breakpoint 1", "getpid ("] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let log = fs::read_to_string(state.join("hyperv.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    // COM 1 has its debugger mode on from the beginning, and keeps it.
    let ports = [
        format!(r"Set-VMComPort dev 1 '\\.\pipe\{console}' On"),
        format!(r"Set-VMComPort dev 2 '\\.\pipe\{kgdb}' Off"),
    ];
    for line in &ports {
        assert!(lines.contains(&line.as_str()), "{line}: {log}");
    }
    assert!(lines[2..].starts_with(&["Start-VM dev"]), "{log}");
    // The kernel runs, whatever gdb did.
    stage.guest.assert_well();
}

fn here() {
    let sandbox = Sandbox::new();
    let state = sandbox.stand_in("powershell.exe");
    write_host(&state);
    let helper = windows_program(&sandbox, "vmserial-exe");
    let stage = stage(&sandbox);
    session(&sandbox, &stage, &state, "hyperv", Some(&helper));
}

fn far() {
    let sandbox = Sandbox::new();
    sandbox.stand_in("powershell.exe");
    fs::create_dir(sandbox.path("far")).unwrap();
    for name in ["powershell.exe", "powershell.state"] {
        fs::rename(sandbox.path("bin").join(name), sandbox.path("far").join(name)).unwrap();
    }
    let state = sandbox.path("far/powershell.state");
    write_host(&state);
    let program = windows_program(&sandbox, "vmserial-exe");
    script(
        &sandbox,
        "far/vmserial.exe",
        &format!("exec '{}' \"$@\"", program.display()),
    );
    let _server = Sshd::start_with(
        &sandbox,
        &format!(
            "SetEnv {QUICK_SHELL} PATH={}:/usr/bin:/bin\n",
            sandbox.path("far").display()
        ),
    );
    let stage = stage(&sandbox);
    session(&sandbox, &stage, &state, "lab", None);
}
