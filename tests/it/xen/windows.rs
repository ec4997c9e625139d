//! The seed's main path with the Windows program: KD's port of a VM of XenServer, on loopback of its host, through SSH, to a
//! named pipe, by the system's `ssh`. The program runs under Wine, and its `ssh.exe` hands all on to this machine's real `ssh`.

use super::{Host, UUID, free_port};
use crate::bytes::random;
use crate::sshd::missing;
use crate::wine::place::{command, testkit, with_programs};
use crate::wine::rig::{Program, pipe_name, trial, wired};
use libtest_mimic::Trial;
use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    // Without a server there is nothing to go to.
    let there = missing().is_none();
    let all = [trial(
        "kd_of_a_vm_of_xen_through_ssh_to_a_named_pipe",
        kd_of_a_vm_of_xen_through_ssh_to_a_named_pipe,
    )];
    all.into_iter().filter(|_| there).collect()
}

/// Puts the test kit's `ssh.exe` into a folder, with this machine's `ssh` behind it.
fn programs(folder: &Path, config: PathBuf) {
    fs::create_dir(folder).unwrap();
    let (testkit, beside) = testkit();
    fs::copy(testkit, folder.join("ssh.exe")).unwrap();
    for file in beside {
        fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let state = vmserial_testkit::state_folder(&folder.join("ssh.exe"), "ssh");
    fs::create_dir(&state).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    fs::write(state.join("port"), port.to_string()).unwrap();
    std::thread::spawn(move || {
        let mut waiting: HashMap<String, BufReader<TcpStream>> = HashMap::new();
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let Ok(line) = line(&mut stream) else { continue };
            let Some((kind, token)) = line.split_once(' ') else {
                continue;
            };
            let Some(other) = waiting.remove(token) else {
                waiting.insert(token.to_owned(), stream);
                continue;
            };
            let (data, errors) = match kind {
                "data" => (stream, other),
                _ => (other, stream),
            };
            let config = config.clone();
            // One that Wine's program has left ends with its connection.
            std::thread::spawn(move || serve(data, errors.into_inner(), &config));
        }
    });
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn number(stream: &mut BufReader<TcpStream>) -> io::Result<usize> {
    line(stream)?.parse().map_err(io::Error::other)
}

/// Is the real `ssh` of one of Wine's.
fn serve(mut data: BufReader<TcpStream>, mut errors: TcpStream, config: &Path) -> io::Result<()> {
    let count = number(&mut data)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(&mut data)?];
        data.read_exact(&mut word)?;
        words.push(String::from_utf8(word).map_err(io::Error::other)?);
    }
    let mut ssh = Command::new("/usr/bin/ssh")
        .arg("-F")
        .arg(config)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = ssh.id().to_string();
    let mut gone = errors.try_clone()?;
    std::thread::spawn(move || {
        // Nothing comes there but the end: then nobody wants the real one either.
        let _ = gone.read(&mut [0]);
        let _ = Command::new("kill").arg(pid).stderr(Stdio::null()).status();
    });
    let (mut stdin, mut stdout) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    let mut back = data.get_ref().try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = data.read(&mut buffer) {
            if stdin.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    let shown = std::thread::spawn(move || {
        let copied = io::copy(&mut stdout, &mut back);
        let _ = back.shutdown(Shutdown::Write);
        copied
    });
    let mut stderr = ssh.stderr.take().unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        errors.write_all(&u32::try_from(count).unwrap().to_le_bytes())?;
        errors.write_all(&buffer[..count])?;
    }
    let code = ssh.wait()?.code().unwrap_or(255);
    let _ = shown.join();
    errors.write_all(&u32::MAX.to_le_bytes())?;
    errors.write_all(&code.to_le_bytes())
}

/// A KD packet's head and some bytes that mean something to a terminal.
const PACKET: &[u8] = b"0000\x07\x00\x08\x00\x00\x80\x80\x80\x11\x13\x03\x1a\xff\xaa";

/// Says a packet, and reads until the VM, which sends back what it gets, has answered it; then 64 KiB more.
pub fn exchange(pipe: &mut TcpStream) {
    pipe.write_all(PACKET).unwrap();
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(PACKET) {
        assert_eq!(pipe.read(&mut byte).unwrap(), 1, "{all:?}");
        all.push(byte[0]);
    }
    // Every byte, in their order. No more at a time than a policy that drops would keep.
    for bytes in random(64 << 10).chunks(4 << 10) {
        pipe.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        pipe.read_exact(&mut back).unwrap();
        assert!(back == bytes, "what the VM sent back is what it was sent");
    }
}

fn kd_of_a_vm_of_xen_through_ssh_to_a_named_pipe() {
    let host = Host::xapi().behind_ssh();
    let folder = host.sandbox.path("programs");
    programs(&folder, host.sandbox.path("ssh/config"));
    let (port, pipe) = (free_port(), pipe_name());
    let endpoint = format!("listen:tcp:127.0.0.1:{port}");
    let served = format!("listen:pipe:{pipe}");
    let line = "-v --ssh-engine system setup xen --host lab --vm win11-dev --as kd --yes --endpoint";
    let words: Vec<&str> = line
        .split_whitespace()
        .chain([endpoint.as_str(), "--serve", &served])
        .collect();
    let mut vmserial = command(&host.sandbox, "vmserial.exe", &words);
    with_programs(&mut vmserial, &folder);
    let mut setup = Program::start(&mut vmserial);
    setup.wait("ready");
    assert_eq!(
        host.key("platform", "hvm_serial"),
        Some(format!("tcp:127.0.0.1:{port},server,nodelay,nowait"))
    );
    let (_wire, mut client) = wired(&host.sandbox, "pipe-wire", &pipe);
    setup.wait("client 1 attached");
    for _ in 0..2 {
        host.must(&format!("xe vm-start uuid={UUID}"));
        setup.wait("target up");
        exchange(&mut client);
        // The VM goes; the debugger on the pipe stays.
        host.must(&format!("xe vm-shutdown uuid={UUID} --force"));
        setup.wait("target away");
    }
}
