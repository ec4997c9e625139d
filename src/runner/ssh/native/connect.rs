//! Makes a connection: the user's settings, TCP or a jump, the host's key, the login.

use super::auth::{Means, log_in};
use super::drive::Drive;
use super::known_hosts::{File, Known, Verdict, fingerprint, new_line};
use super::pool::Pool;
use super::prompt::Terminal;
use super::settings::{NewHosts, Settings};
use super::sys::{self, Carrier, PairEnd, Socket};
use super::worker::Wanted;
use crate::model::{FailureKind, Problem};
use crate::runner::secret;
use crate::runner::ssh::options;
use crate::runner::sys::{make_private_folder, private};
use ssh2::{MethodType, Session};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long a TCP connection is waited for, unless the user's settings say so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a connection may be made.
pub struct Attempt<'a> {
    /// The hosts to go through, the wanted one last.
    pub chain: &'a [String],
    /// Somebody at the terminal may be asked.
    pub interactive: bool,
    /// Tells that nobody wants the connection any more.
    pub given_up: &'a dyn Fn() -> bool,
    /// Where the connections to jump hosts are.
    pub pool: &'static Pool,
}

fn host_problem(message: String) -> Problem {
    Problem::new(FailureKind::Host, message)
}

/// Connects and logs in. Returns a session that does not block, with its socket for polling.
///
/// # Errors
///
/// Which part of it failed, and what to do.
pub fn connect(attempt: &Attempt<'_>) -> Result<(Session, Socket), Problem> {
    let (destination, jumps) = attempt
        .chain
        .split_last()
        .ok_or_else(|| host_problem("no host was named".to_owned()))?;
    let settings = super::ask::settings(destination)?;
    if let Some(beyond) = settings.beyond.first() {
        let message = format!(
            "your SSH settings for `{destination}` have {beyond}, which only the `ssh` program serves"
        );
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Add `--ssh-engine system`, or set VMSERIAL_SSH_ENGINE=system."));
    }
    let jumps = if jumps.is_empty() {
        settings.jumps.as_slice()
    } else {
        jumps
    };
    let (session, socket) = match jumps {
        [] => over(tcp(destination, &settings)?)?,
        jumps => over(through(attempt, jumps, &settings)?)?,
    };
    let known = known(&settings);
    let preferred = |error: ssh2::Error| host_problem(format!("no key type is left to ask for: {error}"));
    session
        .method_pref(MethodType::HostKey, &known.preference())
        .map_err(preferred)?;
    session.set_blocking(false);
    let drive = Drive {
        session: &session,
        socket: &socket,
        host: destination,
        given_up: attempt.given_up,
    };
    let mut shaking = session.clone();
    drive
        .run("its greeting", |_| shaking.handshake())?
        .map_err(|error| {
            let at = format!("{}:{}", settings.host_name, settings.port);
            let message = format!(
                "`{destination}` ({at}) and we do not agree on SSH: {}",
                error.message()
            );
            host_problem(message).hint("`--ssh-engine system` may know more ciphers and key types.")
        })?;
    let terminal = if attempt.interactive && !settings.batch {
        Terminal::open(attempt.given_up)
    } else {
        None
    };
    check_key(&session, destination, &settings, &known, terminal.as_ref())?;
    let login = options::login(destination);
    let password = || login.password.as_ref().map(secret::fetch).transpose();
    log_in(
        &drive,
        &Means {
            settings: &settings,
            host: destination,
            password: &password,
            terminal: terminal.as_ref(),
        },
    )?;
    tracing::debug!(host = %destination, "logged in by SSH");
    Ok((session, socket))
}

fn over(stream: impl Carrier) -> Result<(Session, Socket), Problem> {
    let mut session =
        Session::new().map_err(|error| host_problem(format!("libssh2 does not start: {error}")))?;
    let socket = sys::carry(&mut session, stream)
        .map_err(|error| host_problem(format!("the connection cannot be polled: {error}")))?;
    Ok((session, socket))
}

fn tcp(destination: &str, settings: &Settings) -> Result<TcpStream, Problem> {
    let (host, port) = (settings.host_name.as_str(), settings.port);
    let cannot = |why: String| host_problem(format!("cannot reach `{destination}` ({host}:{port}): {why}"));
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| cannot(error.to_string()))?;
    let timeout = settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let mut last = cannot("it has no address".to_owned());
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                // Keys typed at a console are small.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                let message = format!("no answer in {} s", timeout.as_secs());
                last = cannot(message);
                last.kind = FailureKind::Deadline;
            }
            Err(error) => last = cannot(error.to_string()),
        }
    }
    Err(last)
}

/// A stream through other hosts, as a socket: a session needs one.
fn through(attempt: &Attempt<'_>, jumps: &[String], settings: &Settings) -> Result<PairEnd, Problem> {
    let wanted = Wanted::Tcp(settings.host_name.clone(), settings.port);
    let mut stream = attempt
        .pool
        .open_blocking(jumps, &wanted, attempt.interactive, attempt.given_up)?;
    let (ours, theirs) =
        sys::pair().map_err(|error| host_problem(format!("cannot make a pair of sockets: {error}")))?;
    let mut writing = stream.writer();
    let (mut from, mut to) = (
        ours.try_clone()
            .map_err(|error| host_problem(format!("cannot share a socket: {error}")))?,
        ours,
    );
    std::thread::spawn(move || {
        let mut buffer = [0; 32 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if writing.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        writing.finish();
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 32 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // The session at the other end sees that its connection is gone.
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(theirs)
}

fn known(settings: &Settings) -> Known {
    let texts: Vec<(String, String)> = settings
        .known_hosts
        .iter()
        .filter_map(|path| {
            let bytes = std::fs::read(path).ok()?;
            Some((path.clone(), String::from_utf8_lossy(&bytes).into_owned()))
        })
        .collect();
    let files: Vec<File<'_>> = texts.iter().map(|(path, text)| File { path, text }).collect();
    let known = Known::read(&files, &settings.key_name());
    for line in &known.broken {
        (options::options().warn)(&format!("{line}: cannot be read, and counts as absent"));
    }
    known
}

fn check_key(
    session: &Session,
    destination: &str,
    settings: &Settings,
    known: &Known,
    terminal: Option<&Terminal<'_>>,
) -> Result<(), Problem> {
    let Some((key, _)) = session.host_key() else {
        return Err(host_problem(format!("`{destination}` showed no key")));
    };
    let print = fingerprint(key);
    let refuse = |message: String| Problem::new(FailureKind::Precondition, message);
    let name = settings.key_name();
    let other = match known.judge(key) {
        Verdict::Known => return Ok(()),
        Verdict::Revoked(line) => {
            return Err(refuse(format!(
                "the key of `{destination}` is marked as revoked in {line}: {print}"
            ))
            .hint("Whoever holds that key may not be the host. Ask who runs it."));
        }
        Verdict::Changed(line) => {
            return Err(refuse(format!(
                "the key of `{destination}` is not the one in {line}: it shows {print}"
            ))
            .hint("Somebody may be between you and the host, or it was installed anew.")
            .hint(format!(
                "If you know that it changed: `ssh-keygen -R '{name}' -f {}`, then connect again.",
                line.path
            )));
        }
        Verdict::Unknown { other } => other,
    };
    let also = other.map_or(String::new(), |line| {
        format!(" (a key of another type is in {line})")
    });
    let take = match settings.new_hosts {
        _ if options::options().accept_new_host_key => true,
        NewHosts::Accept => true,
        NewHosts::Refuse => false,
        NewHosts::Ask => match terminal {
            Some(terminal) => {
                let question =
                    format!("The key of `{destination}` ({name}) is not known{also}: {print}\nTake it?");
                if !terminal.yes(&question) {
                    let message = format!("the key of `{destination}` was not taken");
                    return Err(Problem::new(FailureKind::AnsweredNo, message));
                }
                true
            }
            None => false,
        },
    };
    if !take {
        let message = format!("the key of `{destination}` is not known{also}: {print}");
        return Err(refuse(message).hint(format!(
            "Connect once by `ssh {destination}` and compare the fingerprint, or add `--accept-new-host-key` where the network is trusted."
        )));
    }
    if let Err(why) = write_down(settings, &name, key) {
        (options::options().warn)(&format!(
            "the key of `{destination}` was taken and not written down: {why}"
        ));
    }
    Ok(())
}

fn write_down(settings: &Settings, name: &str, key: &[u8]) -> Result<(), String> {
    let path = settings.known_hosts.first().ok_or("there is no file for it")?;
    let mut salt = None;
    if settings.hash_known_hosts {
        salt = Some(sys::random().map_err(|error| error.to_string())?);
    }
    let line = new_line(name, key, salt).ok_or("its type is unknown")?;
    if let Some(folder) = std::path::Path::new(path).parent() {
        make_private_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let failed = |error: std::io::Error| format!("`{path}`: {error}");
    let present = std::fs::read(path).unwrap_or_default();
    let line = if present.is_empty() || present.ends_with(b"\n") {
        line
    } else {
        format!("\n{line}")
    };
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    private(&mut options);
    options
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(failed)
}
