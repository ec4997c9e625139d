//! The QEMU of a domain: it lives as long as the domain, opens what `-serial` says, greets with the number of its domain
//! and sends everything back.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How often the domain's end is looked for.
const LOOK: Duration = Duration::from_millis(10);

fn alive(root: &Path, id: u32) -> PathBuf {
    root.join(format!("qemu-{id}"))
}

/// Starts a QEMU and waits until its devices are there.
#[expect(
    clippy::disallowed_methods,
    reason = "a VM's QEMU outlives the command that starts the VM"
)]
pub(super) fn start(root: &Path, id: u32, devices: &[String]) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut child = Command::new(std::env::current_exe().map_err(failed)?)
        .args(["xen-qemu".as_ref(), root.as_os_str(), id.to_string().as_ref()])
        .args(devices)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("piped")?;
    BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
    match line.trim() {
        "ready" => Ok(()),
        words => Err(words.to_owned()),
    }
}

/// Waits until the QEMU of a domain has seen its end: its ports are free then.
pub(super) fn wait_until_gone(root: &Path, id: u32) {
    while alive(root, id).exists() {
        std::thread::park_timeout(LOOK);
    }
}

/// Runs `xen-qemu STATE DOMAIN DEVICE…`.
pub(super) fn main(arguments: &[String]) -> ExitCode {
    let [root, id, devices @ ..] = arguments else {
        return ExitCode::from(64);
    };
    let (root, Ok(id)) = (PathBuf::from(root), id.parse::<u32>()) else {
        return ExitCode::from(64);
    };
    let mut open = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        match Port::open(device) {
            Ok(port) => open.push((index, port)),
            Err(error) => return last_words(&format!("qemu-system-i386: -serial {device}: {error}")),
        }
    }
    for (index, port) in open {
        if let Port::Pty(_, path) = &port {
            let key = format!("%local%domain%{id}%serial%{index}%tty");
            if let Err(error) = fs::write(root.join("xenstore").join(key), path) {
                return last_words(&error.to_string());
            }
        }
        let guest = Guest::of(&root, id);
        std::thread::spawn(move || port.serve(&guest));
    }
    if let Err(error) = fs::write(alive(&root, id), "") {
        return last_words(&error.to_string());
    }
    let code = last_words("ready");
    while root.join("domains").join(id.to_string()).exists() {
        std::thread::park_timeout(LOOK);
    }
    // The folder may be gone with its test.
    let _ = fs::remove_file(alive(&root, id));
    code
}

fn last_words(words: &str) -> ExitCode {
    // Whoever started us may be gone.
    let _ = writeln!(io::stdout(), "{words}");
    let _ = io::stdout().flush();
    ExitCode::SUCCESS
}

enum Port {
    Tcp(TcpListener),
    Unix(UnixListener),
    Connected(UnixStream),
    Pty(OwnedFd, String),
    Nothing,
}

impl Port {
    fn open(device: &str) -> Result<Self, String> {
        let (place, options) = device.split_once(',').unwrap_or((device, ""));
        let server = options
            .split(',')
            .any(|option| option == "server" || option == "server=on");
        let (kind, rest) = place.split_once(':').unwrap_or((place, ""));
        match kind {
            "tcp" | "telnet" if server => {
                let (host, port) = rest.rsplit_once(':').ok_or("no port")?;
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let bound = TcpListener::bind(format!("{host}:{port}"));
                bound.map(Self::Tcp).map_err(|error| {
                    let text = reason(&error);
                    format!("Failed to find an available port: {text}")
                })
            }
            "unix" if server => {
                // QEMU takes the place of whatever is there.
                let _ = fs::remove_file(rest);
                let bound = UnixListener::bind(rest);
                bound
                    .map(Self::Unix)
                    .map_err(|error| format!("Failed to bind socket to {rest}: {}", reason(&error)))
            }
            "unix" => {
                let connected = UnixStream::connect(rest);
                connected
                    .map(Self::Connected)
                    .map_err(|error| format!("Failed to connect to '{rest}': {}", reason(&error)))
            }
            "pty" => pty().map_err(|error| error.to_string()),
            "null" | "none" => Ok(Self::Nothing),
            _ => Err("could not open this character device".to_owned()),
        }
    }

    /// One client at a time, as QEMU.
    fn serve(self, guest: &Guest) {
        match self {
            Self::Tcp(listener) => {
                for stream in listener.incoming().flatten() {
                    guest.talk(stream);
                }
            }
            Self::Unix(listener) => {
                for stream in listener.incoming().flatten() {
                    guest.talk(stream);
                }
            }
            Self::Connected(stream) => guest.talk(stream),
            Self::Pty(master, _) => {
                let mut file = fs::File::from(master);
                // Without anybody at the other end reading fails (EIO), until somebody is there.
                loop {
                    guest.talk(&mut file);
                    std::thread::park_timeout(LOOK);
                }
            }
            Self::Nothing => {}
        }
    }
}

/// The system's words, without Rust's number behind them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// What runs in a domain.
struct Guest {
    id: u32,
    name: String,
    /// Where a guest that talks with another one notes what it heard.
    heard: Option<PathBuf>,
}

impl Guest {
    fn of(root: &Path, id: u32) -> Self {
        let name = fs::read_to_string(root.join("domains").join(id.to_string())).unwrap_or_default();
        let heard = root.join("heard");
        Self {
            id,
            heard: heard.is_dir().then(|| heard.join(&name)),
            name,
        }
    }

    fn talk(&self, stream: impl Read + Write) {
        match &self.heard {
            None => self.echo(stream),
            // The other end may leave at any time.
            Some(heard) => drop(self.converse(stream, heard)),
        }
    }

    /// Greets, and sends back what comes.
    fn echo(&self, mut stream: impl Read + Write) {
        if stream
            .write_all(format!("domain {}\r\n", self.id).as_bytes())
            .is_err()
        {
            return;
        }
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    }

    /// Says who it is, and answers what another guest says, a few times.
    fn converse(&self, mut stream: impl Read + Write, heard: &Path) -> io::Result<()> {
        let say = |left: u32| format!("{} {} {left}\n", self.name, self.id);
        stream.write_all(say(3).as_bytes())?;
        let mut line = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            line.push(byte[0]);
            if byte != *b"\n" {
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            let mut notes = fs::OpenOptions::new().append(true).create(true).open(heard)?;
            notes.write_all(text.as_bytes())?;
            let left: u32 = text.trim().rsplit(' ').next().unwrap_or("").parse().unwrap_or(0);
            if left > 0 {
                stream.write_all(say(left - 1).as_bytes())?;
            }
        }
        Ok(())
    }
}

fn pty() -> io::Result<Port> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let mut settings = tcgetattr(&master)?;
    settings.make_raw();
    tcsetattr(&master, OptionalActions::Now, &settings)?;
    Ok(Port::Pty(master, name.to_string_lossy().into_owned()))
}
