//! vmserial and its peers, started with both ends connected.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Contender {
    /// `vmserial bridge`, policy `raw`.
    Vmserial,
    /// `vmserial bridge --as console`.
    VmserialConsole,
    /// socat with this buffer.
    Socat(usize),
    /// ser2net as it comes: `chardelay`, buffers of 64 bytes.
    Ser2net,
    /// ser2net with `chardelay: false` and buffers of 64 KiB.
    Ser2netTuned,
}

impl Contender {
    /// How it is called in the output.
    pub fn name(self) -> String {
        match self {
            Self::Vmserial => "vmserial".into(),
            Self::VmserialConsole => "vmserial console".into(),
            Self::Socat(buffer) => format!("socat -b{buffer}"),
            Self::Ser2net => "ser2net".into(),
            Self::Ser2netTuned => "ser2net tuned".into(),
        }
    }
}

/// A private folder that goes with its value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Result<Self> {
        let output = Command::new("mktemp")
            .arg("-d")
            .output()
            .context("cannot run mktemp")?;
        ensure!(output.status.success(), "mktemp failed");
        Ok(Self(String::from_utf8(output.stdout)?.trim_end().into()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the folder for temporary files: somebody else's sweep takes what is left.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A bridge that runs, with both its ends connected.
pub struct Rig {
    pub child: Child,
    pub vm: UnixStream,
    pub client: TcpStream,
    /// Where further clients go.
    pub port: u16,
    /// The VM's socket; `None` once it is away.
    pub listener: Option<UnixListener>,
    pub folder: Folder,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both ends of ser2net's connection are, and how it is tuned.
fn ser2net_configuration(port: u16, socket: &Path, tuned: bool) -> String {
    let options = if tuned {
        "\n    chardelay: false\n    net-to-dev-bufsize: 65536\n    dev-to-net-bufsize: 65536"
    } else {
        ""
    };
    format!(
        "connection: &bench\n  accepter: tcp(nodelay),127.0.0.1,{port}\n  connector: unix,{}\n  options:\n    max-connections: 4{options}\n",
        socket.display()
    )
}

/// Starts a contender, on this CPU only if one is named, and connects both its ends.
pub fn start(program: &str, contender: Contender, cpu: Option<&str>) -> Result<Rig> {
    let folder = Folder::new()?;
    let socket = folder.0.join("vm");
    let listener = UnixListener::bind(&socket)?;
    let mut words: Vec<String> = Vec::new();
    if let Some(cpu) = cpu {
        words.extend(["taskset", "-c", cpu].map(String::from));
    }
    let free_port = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
    let mut port = 0;
    match contender {
        Contender::Vmserial | Contender::VmserialConsole => {
            let state = folder.0.join("state").display().to_string();
            words.extend([program, "--state", &state, "bridge"].map(String::from));
            words.push(format!("connect:unix:{}", socket.display()));
            words.push("listen:tcp:127.0.0.1:0".into());
            if contender == Contender::VmserialConsole {
                words.push("--as=console".into());
            }
        }
        Contender::Socat(buffer) => {
            port = free_port()?;
            words.extend(["socat".into(), "-d".into(), "-d".into(), format!("-b{buffer}")]);
            words.push(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,nodelay"));
            words.push(format!("UNIX-CONNECT:{}", socket.display()));
        }
        Contender::Ser2net | Contender::Ser2netTuned => {
            port = free_port()?;
            let path = folder.0.join("ser2net.yaml");
            let tuned = contender == Contender::Ser2netTuned;
            std::fs::write(&path, ser2net_configuration(port, &socket, tuned))?;
            words.extend(["ser2net", "-n", "-c"].map(String::from));
            words.push(path.display().to_string());
            words.push("-P".into());
            words.push(folder.0.join("pid").display().to_string());
        }
    }
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env("XDG_RUNTIME_DIR", &folder.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", words[0]))?;
    let mut lines = BufReader::new(child.stderr.take().context("standard error is piped")?);
    // ser2net says nothing when it listens: it is asked until it answers.
    if !matches!(contender, Contender::Ser2net | Contender::Ser2netTuned) {
        port = wait_ready(&mut lines, port).with_context(|| format!("{} did not start", contender.name()))?;
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let client = connect(port)?;
    let (vm, _) = listener.accept()?;
    let mut rig = Rig {
        child,
        vm,
        client,
        port,
        listener: Some(listener),
        folder,
    };
    rig.client.set_read_timeout(Some(PATIENCE))?;
    rig.vm.set_read_timeout(Some(PATIENCE))?;
    // The first byte has gone through: everything is connected.
    rig.client.write_all(b"!")?;
    rig.vm.read_exact(&mut [0])?;
    Ok(rig)
}

/// Reads until a contender says that it listens; returns its port.
fn wait_ready(lines: &mut impl BufRead, mut port: u16) -> Result<u16> {
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "it ended before it was ready");
        let line = line.trim_end();
        if let Some((_, address)) = line.split_once("listening client 1 listen:tcp:127.0.0.1:") {
            port = address.parse()?;
        }
        if line == "ready" || line.contains("listening on") {
            return Ok(port);
        }
    }
}

/// Connects to a contender's port, which may not be there yet.
pub fn connect(port: u16) -> Result<TcpStream> {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(client) => {
                client.set_nodelay(true)?;
                return Ok(client);
            }
            Err(error) if Instant::now() < until && error.kind() == std::io::ErrorKind::ConnectionRefused => {
                super::usage::rest(Duration::from_millis(2));
            }
            Err(error) => return Err(error).context("nobody listens on the client's port"),
        }
    }
}
