//! WinDbg and kd: how they are told where a Windows kernel is. Values in, values out.
//!
//! Facts (Microsoft's pages on `-k` and on virtual machines): for a pipe `port` is its path, `resets=0` sends as many
//! synchronisation packets as it takes (a VM's pipe drops what nobody reads) and `reconnect` comes back when the pipe does;
//! `resync` is no parameter of pipes. For TCP `ipport` is the port and `port` the address.

use crate::model::{DebuggerKind, DebuggerSpec, Invocation};

/// Where the debugger finds the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KdAddress {
    /// A named pipe of the debugger's own machine, by its name.
    Pipe(String),
    /// TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Returns the argument of `-k`.
pub fn connection(address: &KdAddress) -> String {
    match address {
        KdAddress::Pipe(name) => format!(r"com:pipe,port=\\.\pipe\{name},resets=0,reconnect"),
        KdAddress::Tcp { host, port } => format!("com:ipport={port},port={host}"),
    }
}

/// Returns the names of the program, the likeliest first.
pub fn programs(debugger: &DebuggerSpec) -> Vec<&str> {
    match (&debugger.program, debugger.kind) {
        (Some(program), _) => vec![program],
        (None, DebuggerKind::Kd) => vec!["kd.exe", "kd"],
        (None, _) => vec!["windbg.exe", "windbg"],
    }
}

/// Returns the command that starts `program` on the kernel.
pub fn invocation(program: &str, address: &KdAddress, extra_arguments: &[String]) -> Invocation {
    let mut arguments = vec!["-k".to_owned(), connection(address)];
    arguments.extend(extra_arguments.iter().cloned());
    Invocation::changes(program, arguments)
}

/// Writes the command line for the Windows machine that has the debugger.
pub fn command_line(debugger: &DebuggerSpec, address: &KdAddress, extra_arguments: &[String]) -> String {
    let program = debugger.program.as_deref().unwrap_or(match debugger.kind {
        DebuggerKind::Kd => "kd",
        _ => "windbg",
    });
    let command = invocation(program, address, extra_arguments);
    let words = std::iter::once(&command.program).chain(&command.arguments);
    let quoted: Vec<String> = words
        .map(
            |word| match word.is_empty() || word.contains([' ', '\t', '&', '^', '|', '<', '>', '(', ')']) {
                true => format!("\"{word}\""),
                false => word.clone(),
            },
        )
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debugger(kind: DebuggerKind, program: Option<&str>) -> DebuggerSpec {
        DebuggerSpec {
            kind,
            program: program.map(ToOwned::to_owned),
            vmlinux: None,
            source: std::collections::BTreeMap::new(),
            modules: Vec::new(),
            break_in: Vec::new(),
        }
    }

    #[test]
    fn the_command_line_has_the_options_of_its_stream() {
        let pipe = |name: &str| KdAddress::Pipe(name.to_owned());
        let tcp = KdAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 7001,
        };
        for (kind, program, address, line) in [
            (
                DebuggerKind::Windbg,
                None,
                &tcp,
                "windbg -k com:ipport=7001,port=127.0.0.1",
            ),
            (
                DebuggerKind::Kd,
                None,
                &pipe("win-kd"),
                r"kd -k com:pipe,port=\\.\pipe\win-kd,resets=0,reconnect",
            ),
            (
                DebuggerKind::Kd,
                Some(r"C:\Program Files\kd.exe"),
                &pipe("my win"),
                r#""C:\Program Files\kd.exe" -k "com:pipe,port=\\.\pipe\my win,resets=0,reconnect""#,
            ),
        ] {
            assert_eq!(command_line(&debugger(kind, program), address, &[]), line);
        }
        let spec = debugger(DebuggerKind::Kd, None);
        assert_eq!(programs(&spec), ["kd.exe", "kd"]);
        let line = command_line(&spec, &tcp, &["-bonc".to_owned()]);
        assert!(line.ends_with(" -bonc"), "{line}");
    }
}
