//! How PowerShell behaves around what it is asked: code pages, CLIXML, noise, and the ways in which it goes wrong.

use super::invocation::Invocation;
use crate::hyperv::Refusal;
use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Faults that a test asks for, one word a line in `faults`.
///
/// - `chatty`: 200 KiB of output before it reads its input
/// - `noise`: text around the answer, in the OEM code page before the script asks for UTF-8, and the answer broken by a
///   console's line ends
/// - `clixml`: a progress record and an error as CLIXML on standard error, as when its output is no console
/// - `garbage`: bytes and no answer, and 0
/// - `half`: the beginning of an answer, and 1
/// - `hang`: no answer and no end; a child of its own hangs, too, and listens on the TCP port in `child`
/// - `killed`: it kills itself
/// - `throws`: the script throws
#[derive(Debug, Clone, Default)]
pub struct Manners {
    faults: Vec<String>,
}

impl Manners {
    /// Reads what is asked for.
    pub fn read(state: &Path) -> Self {
        let faults = fs::read_to_string(state.join("faults")).unwrap_or_default();
        Self {
            faults: faults.lines().map(|line| line.trim().to_owned()).collect(),
        }
    }

    fn has(&self, fault: &str) -> bool {
        self.faults.iter().any(|known| known == fault)
    }

    /// What happens before any input is read.
    pub fn before_input(&self, state: &Path) -> io::Result<()> {
        if self.has("chatty") {
            let line = [b'.'; 1023];
            let mut stdout = io::stdout().lock();
            for _ in 0..200 {
                stdout.write_all(&line)?;
                stdout.write_all(b"\n")?;
            }
            stdout.flush()?;
        }
        if self.has("hang") {
            hang(state)?;
        }
        if self.has("killed") {
            kill_self();
        }
        Ok(())
    }

    /// What happens while a known script runs.
    pub fn within(&self, invocation: &Invocation, _state: &Path) -> io::Result<()> {
        if self.has("noise") {
            // The script has not asked for UTF-8 yet: `Grüße` of an English or German Windows.
            io::stdout().write_all(b"Gr\x81\xe1e\r\n")?;
        }
        if self.has("clixml") {
            self.complain(invocation, "Zugriff verweigert: \"d:\\vms\" <1>\r\nzweite Zeile")?;
        }
        Ok(())
    }

    /// What the script throws, whatever it does.
    pub fn thrown(&self) -> Option<Refusal> {
        self.has("throws").then(|| Refusal {
            message: "Zugriff auf „d:\\vms“ verweigert.\r\n".to_owned(),
            id: "AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM".to_owned(),
            category: "PermissionDenied".to_owned(),
        })
    }

    /// Prints a script's answer.
    pub fn answer(&self, nonce: &str, json: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let whole = format!("<vmserial-{nonce}>{json}</vmserial-{nonce}>");
        if self.has("garbage") {
            stdout.write_all(b"\xff\xfe<vmserial-1>{}</vmserial-1>\0{\"result\":1}\r\n")?;
        } else if self.has("half") {
            let half = whole.len() / 2;
            stdout.write_all(&whole.as_bytes()[..half])?;
            stdout.flush()?;
            std::process::exit(1);
        } else if self.has("noise") {
            // A console of 80 columns.
            for line in whole.as_bytes().chunks(80) {
                stdout.write_all(line)?;
                stdout.write_all(b"\r\n")?;
            }
            stdout.write_all("danach: Grüße\r\n".as_bytes())?;
        } else {
            stdout.write_all(whole.as_bytes())?;
            stdout.write_all(b"\r\n")?;
        }
        stdout.flush()
    }

    /// Says an error on standard error: as CLIXML where the real one does (its output is no console, and text was not
    /// asked for), else as text in the OEM code page.
    pub fn complain(&self, invocation: &Invocation, text: &str) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        if invocation.text_output && !self.has("clixml") {
            return stderr.write_all(&to_code_page(&format!("{text}\r\n")));
        }
        let mut records = String::new();
        for line in text.split_inclusive("\r\n") {
            let line = line.trim_end_matches("\r\n");
            let escaped = line
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;");
            records.push_str(&format!("<S S=\"Error\">{escaped}_x000D__x000A_</S>"));
        }
        let document = format!(
            "#< CLIXML\r\n<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">\
             <Obj S=\"progress\" RefId=\"0\"><TN RefId=\"0\"><T>System.Management.Automation.PSCustomObject</T>\
             <T>System.Object</T></TN><MS><I64 N=\"SourceId\">1</I64><PR N=\"Record\">\
             <AV>Preparing modules for first use.</AV><AI>0</AI><Nil /><PI>-1</PI><PC>-1</PC><T>Completed</T><SR>-1</SR>\
             <SD> </SD></PR></MS></Obj>{records}</Objs>"
        );
        stderr.write_all(&to_code_page(&document))
    }
}

/// Hangs with a child that hangs, too.
#[expect(
    clippy::disallowed_methods,
    reason = "what a script started is part of its tree"
)]
fn hang(state: &Path) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let own = std::env::current_exe()?;
    let mut child = Command::new(own).arg("hang-for-ever").arg(state).spawn()?;
    child.wait()?;
    Ok(())
}

/// Is the child that hangs: who is connected to it sees its end.
pub fn child(state: &str) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let noted = Path::new(state).join("child.new");
    fs::write(&noted, listener.local_addr()?.port().to_string())?;
    fs::rename(noted, Path::new(state).join("child"))?;
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    hang_for_ever();
    Ok(())
}

/// Never ends, unless it is killed or, should a test have failed to, after a minute.
fn hang_for_ever() {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Ends as if somebody had killed it.
fn kill_self() {
    #[cfg(unix)]
    {
        // What Task Manager is there is `kill` here.
        #[expect(clippy::disallowed_methods, reason = "the only way without unsafe code")]
        let _ = Command::new("kill")
            .args(["-KILL", &std::process::id().to_string()])
            .status();
        hang_for_ever();
    }
    #[cfg(windows)]
    std::process::exit(-1_073_741_510); // STATUS_CONTROL_C_EXIT
}

/// Code page 437, as far as the stand-in speaks it.
const OEM: [(char, u8); 6] = [
    ('ü', 0x81),
    ('ä', 0x84),
    ('ö', 0x94),
    ('Ä', 0x8e),
    ('Ü', 0x9a),
    ('ß', 0xe1),
];

fn to_code_page(text: &str) -> Vec<u8> {
    let byte = |character: char| {
        let known = OEM.iter().find(|(known, _)| *known == character);
        known.map_or_else(
            || u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(b'?'),
            |(_, byte)| *byte,
        )
    };
    text.chars().map(byte).collect()
}

/// Reads bytes as 5.1 does unless it was told otherwise.
pub fn from_code_page(bytes: &[u8]) -> String {
    let character = |byte: &u8| {
        let known = OEM.iter().find(|(_, known)| known == byte);
        known.map_or_else(
            || if byte.is_ascii() { char::from(*byte) } else { '?' },
            |(character, _)| *character,
        )
    };
    bytes.iter().map(character).collect()
}
