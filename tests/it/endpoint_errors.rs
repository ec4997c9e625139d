//! Every way in which an endpoint can be wrong: which part, what was got, what was expected, one example to copy, exit 2.
//!
//! The table is the whole grammar, kind by kind.

use crate::kit::Sandbox;
use libtest_mimic::Trial;
use vmserial::model::{BreakWith, ClientSpec, EndpointSpec};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("endpoint_errors::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("of_clients", || check(&clients(), Place::Client)),
        trial("of_the_vm_side", || check(&vm_side(), Place::Vm)),
        trial("of_ways_to_send_break", || check(&breaks(), Place::Break)),
        trial("of_policies", of_policies),
        trial("of_a_consoles_port", of_a_consoles_port),
    ]
}

/// Where on the command line the text stands.
#[derive(Clone, Copy)]
enum Place {
    Client,
    Vm,
    Break,
}

/// One wrong text: the column, the part with what was got, what was expected, and the example if it is made of the text.
struct Row {
    text: String,
    column: usize,
    got: &'static str,
    expected: &'static str,
    example: &'static str,
}

fn row(
    text: impl Into<String>,
    column: usize,
    got: &'static str,
    expected: &'static str,
    example: &'static str,
) -> Row {
    Row {
        text: text.into(),
        column,
        got,
        expected,
        example,
    }
}

const UNIX: &str = "connect:unix:/run/vm/ser0.sock";
const TCP: &str = "connect:tcp:127.0.0.1:7001";
const LISTEN_TCP: &str = "listen:tcp:127.0.0.1:7001";
const TELNET: &str = "connect:telnet:127.0.0.1:7001";
const RFC2217: &str = "connect:rfc2217:127.0.0.1:7001";
const PIPE: &str = "connect:pipe:kd-win11";
const PTY: &str = "pty:/tmp/vm-console";
const TTY: &str = "tty:/dev/ttyUSB0,baud=115200";
const EXEC: &str = "exec:ssh host nc -U /run/vm/ser0.sock";
const FILE: &str = "file:/var/log/vm.log";

#[rustfmt::skip]
fn clients() -> Vec<Row> {
    let long_path = format!("connect:unix:/{}", "x".repeat(107));
    let long_pipe = format!("listen:pipe:{}", "x".repeat(257));
    vec![
        // Nothing, and no text of one line.
        row("", 1, "endpoint: got nothing", "a kind and an address", UNIX),
        row("connect:unix:/a\u{1b}b", 16, "control character: got `\\u{1b}`", "one line", UNIX),
        row("exec:a\tb", 7, "control character: got `\\t`", "one line", UNIX),
        // Kinds.
        row("connect:udp:host:1", 9, "kind: got `udp`", "one of unix, tcp, telnet, rfc2217, pipe, pty, tty, stdio, exec, file", UNIX),
        row("listen:", 8, "kind: got nothing", "one of unix, tcp", UNIX),
        row("connect:tpc:host:1", 9, "kind: got `tpc`", "did you mean `connect:tcp:host:1`?", "connect:tcp:host:1"),
        row("listen:TCP:1", 8, "kind: got `TCP`", "did you mean `listen:tcp:1`?", "listen:tcp:1"),
        row("UNIX-CONNECT:/run/vm", 1, "kind: got `UNIX-CONNECT`", "did you mean", "connect:unix:/run/vm"),
        row("TCP-LISTEN:7001", 1, "kind: got `TCP-LISTEN`", "did you mean", "listen:tcp:7001"),
        row("tcp4:h:1", 1, "kind: got `tcp4`", "did you mean", "connect:tcp:h:1"),
        row("/run/vm.sock", 1, "kind: got `/run/vm.sock`", "did you mean", "connect:unix:/run/vm.sock"),
        row("./a,b", 1, "kind: got `./a`", "did you mean", "connect:unix:./a,,b"),
        row("/dev/ttyUSB0", 1, "kind: got `/dev/ttyUSB0`", "did you mean", "tty:/dev/ttyUSB0"),
        row("/dev/pts/3", 1, "kind: got `/dev/pts/3`", "did you mean", "tty:/dev/pts/3"),
        row("COM3", 1, "kind: got `COM3`", "did you mean", "tty:COM3"),
        row(r"\\.\pipe\kd", 1, r"kind: got `\\.\pipe\kd`", "did you mean", r"connect:pipe:\\.\pipe\kd"),
        row("127.0.0.1:7001", 1, "kind: got `127.0.0.1`", "did you mean", "connect:tcp:127.0.0.1:7001"),
        row("-", 1, "kind: got `-`", "did you mean", "stdio"),
        row("stdoi", 1, "kind: got `stdoi`", "did you mean `stdio`?", "stdio"),
        row("serial:/dev/ttyS0", 1, "kind: got `serial`", "did you mean", "tty:/dev/ttyS0"),
        row("nonsense", 1, "kind: got `nonsense`", "one of unix, tcp", UNIX),
        // Roles.
        row("unix:/run/vm.sock", 1, "role: got nothing", "`listen:` before `unix` if this side waits", "connect:unix:/run/vm.sock"),
        row("tcp:h:1", 1, "role: got nothing", "`connect:` if it goes to the other", "connect:tcp:h:1"),
        row("tcp:7001", 1, "role: got nothing", "`listen:` before `tcp`", "listen:tcp:7001"),
        row("tcp://h:1", 1, "role: got nothing", "`listen:` before `tcp`", "connect:tcp:h:1"),
        row("telnet:h:1", 1, "role: got nothing", "`listen:` before `telnet`", "connect:telnet:h:1"),
        row("rfc2217:h:1", 1, "role: got nothing", "`listen:` before `rfc2217`", "connect:rfc2217:h:1"),
        row("pipe:kd", 1, "role: got nothing", "`listen:` before `pipe`", "connect:pipe:kd"),
        row("pipe", 1, "role: got nothing", "`listen:` before `pipe`", PIPE),
        row("listen:stdio", 1, "role: got `listen:`", "none: `stdio` has no role", "stdio"),
        row("connect:pty:/l", 1, "role: got `connect:`", "none: `pty` has no role", "pty:/l"),
        row("listen:tty:COM3", 1, "role: got `listen:`", "none: `tty` has no role", "tty:COM3"),
        row("listen:exec:cat", 1, "role: got `listen:`", "none: `exec` has no role", "exec:cat"),
        row("connect:file:/x", 1, "role: got `connect:`", "none: `file` has no role", "file:/x"),
        row("listen:connect:tcp:h:1", 8, "role: got `connect:`", "one role only", "connect:tcp:h:1"),
        row("lisen:tcp:1", 1, "kind: got `lisen`", "did you mean `listen:tcp:1`?", "listen:tcp:1"),
        row("Connect:tcp:h:1", 1, "kind: got `Connect`", "did you mean", "connect:tcp:h:1"),
        // Prefixes.
        row("gbd=listen:tcp:1", 1, "prefix: got `gbd=`", "did you mean `gdb=`?", "gdb=listen:tcp:1"),
        row("GDB=listen:tcp:1", 1, "prefix: got `GDB=`", "did you mean `gdb=`?", "gdb=listen:tcp:1"),
        row("as=listen:tcp:1", 1, "prefix: got `as=`", "one of console=, gdb=, kd=, ro=", "gdb=listen:tcp:1"),
        row("rw=stdio", 1, "prefix: got `rw=`", "one of console=, gdb=, kd=, ro=", "ro=stdio"),
        row("console+gdb=listen:tcp:1", 1, "prefix: got `console+gdb=`", "one of console=, gdb=, kd=, ro=", "gdb=listen:tcp:1"),
        row("=listen:tcp:1", 1, "prefix: got `=`", "one of console=, gdb=, kd=, ro=", "gdb=listen:tcp:1"),
        row("gdb=", 5, "endpoint: got nothing", "a kind and an address", "gdb=connect:unix:/run/vm/ser0.sock"),
        row("gdb=tcp:1", 5, "role: got nothing", "`listen:` before `tcp`", "gdb=listen:tcp:1"),
        row("gdb=ro=listen:tcp:1", 5, "prefix: got `ro=`", "none here", "gdb=listen:tcp:1"),
        row("ro=/run/c", 4, "kind: got `/run/c`", "did you mean", "ro=connect:unix:/run/c"),
        // Unix sockets.
        row("listen:unix", 12, "address: got nothing", "`:` and an address after `unix`", "listen:unix:/run/vm/ser0.sock"),
        row("listen:unix:", 13, "address: got nothing", "the path of a Unix socket", "listen:unix:/run/vm/ser0.sock"),
        row("connect:unix:,via=h", 14, "address: got nothing", "the path of a Unix socket", UNIX),
        row("connect:unix,via=h", 13, "address: got `,via=h`", "`:` and an address after `unix`", UNIX),
        row(long_path, 14, "path: got `/xxx", "at most 107 bytes for a Unix socket, and it has 108", UNIX),
        row("connect:unix:/run/a,b", 21, "option: got `b`", "`name=value` (a literal comma is `,,`)", UNIX),
        row("connect:unix:/run/a,server=on,wait=off", 21, "option: got `server`", "for unix: `via=`", UNIX),
        row("connect:unix:/a,vai=h", 17, "option: got `vai`", "did you mean `via=`?", UNIX),
        row("connect:unix:/a,", 17, "option: got nothing", "`name=value`", UNIX),
        // TCP.
        row("connect:tcp:", 13, "address: got nothing", "`HOST:PORT`", TCP),
        row("listen:tcp:", 12, "address: got nothing", "`HOST:PORT`, or `PORT` for this machine only", LISTEN_TCP),
        row("connect:tcp:host", 17, "port: got nothing", "`:PORT` after the host", TCP),
        row("connect:tcp:host:", 18, "port: got nothing", "a number from 1 to 65535", TCP),
        row("connect:tcp:host:x", 18, "port: got `x`", "a number from 1 to 65535", TCP),
        row("connect:tcp:host:0", 18, "port: got `0`", "a number from 1 to 65535 (0 takes a free port", TCP),
        row("connect:tcp:host:65536", 18, "port: got `65536`", "a number from 1 to 65535", TCP),
        row("listen:tcp:70000", 12, "port: got `70000`", "a number from 0 to 65535", LISTEN_TCP),
        row("listen:tcp:host", 12, "port: got `host`", "a number from 0 to 65535", LISTEN_TCP),
        row("connect:tcp:host:-1", 18, "port: got `-1`", "a number from 1 to 65535", TCP),
        row("connect:tcp:host:+1", 18, "port: got `+1`", "a number from 1 to 65535", TCP),
        row("connect:tcp:host:7001/", 18, "port: got `7001/`", "a number from 1 to 65535", TCP),
        row("connect:tcp::1", 13, "host: got nothing", "a host before `:`", TCP),
        row("listen:tcp:*:1", 12, "host: got `*`", "`0.0.0.0` for every IPv4 interface", LISTEN_TCP),
        row("connect:tcp:a b:1", 13, "host: got `a b`", "a host's name or address", TCP),
        row("connect:tcp://h:1", 13, "host: got `//h`", "a host's name or address", TCP),
        row("connect:tcp:me@h:1", 13, "host: got `me@h`", "a host's name or address", TCP),
        row("connect:tcp:::1:80", 13, "host: got `::1:80`", "brackets around an IPv6 address, `[::1]:80`", TCP),
        row("connect:tcp:h:1:2", 13, "host: got `h:1`", "one `HOST:PORT`", TCP),
        row("connect:tcp:[::1:80", 13, "host: got `[::1:80`", "the `]` is missing", TCP),
        row("connect:tcp:[zz]:80", 14, "host: got `zz`", "an IPv6 address in the brackets", TCP),
        row("connect:tcp:[127.0.0.1]:80", 14, "host: got `127.0.0.1`", "an IPv6 address in the brackets", TCP),
        row("connect:tcp:[::1]", 18, "port: got nothing", "`:PORT` after the brackets", TCP),
        row("connect:tcp:[::1]80", 18, "port: got `80`", "`:PORT` after the brackets", TCP),
        row("connect:tcp:[::1]:", 19, "port: got nothing", "a number from 1 to 65535", TCP),
        row("connect:tcp:[::1]:65536", 19, "port: got `65536`", "a number from 1 to 65535", TCP),
        row("connect:tcp:h:1,baud=9600", 17, "option: got `baud`", "for tcp: `via=`", TCP),
        // Telnet and RFC 2217.
        row("connect:telnet:h", 17, "port: got nothing", "`:PORT` after the host", TELNET),
        row("connect:telnet:[::1]:0", 22, "port: got `0`", "a number from 1 to 65535", TELNET),
        row("connect:telnet:h:1,via=x", 20, "option: got `via`", "none: `telnet` has no options", TELNET),
        row("listen:telnet:h:99999", 17, "port: got `99999`", "a number from 0 to 65535", "listen:telnet:127.0.0.1:7001"),
        row("connect:rfc2217:", 17, "address: got nothing", "`HOST:PORT`", RFC2217),
        row("connect:rfc2217:h:1,baud=0", 26, "option `baud`: got `0`", "bits per second, a number above 0", RFC2217),
        row("connect:rfc2217:h:1,speed=9600", 21, "option: got `speed`", "for rfc2217: `baud=`, `data=`, `parity=`, `stop=`, `flow=`", RFC2217),
        row("listen:rfc2217:h:1,baud=9600", 20, "option: got `baud`", "a client that comes to us sets what it likes", "listen:rfc2217:127.0.0.1:7001"),
        // Named pipes.
        row("connect:pipe:", 14, "address: got nothing", r"`NAME` or `\\.\pipe\NAME`", PIPE),
        row("connect:pipe:COM1", 14, "pipe name: got `COM1`", "`COM1` is reserved for Windows' own ports (such a port is `tty:COM1`)", PIPE),
        row(r"listen:pipe:\\.\pipe\com12", 22, "pipe name: got `com12`", "reserved", "listen:pipe:kd-win11"),
        row(r"listen:pipe:\\H\pipe\x", 15, "host: got `H`", "a pipe of another host can only be connected to", "listen:pipe:kd-win11"),
        row(r"connect:pipe:a\b", 14, r"pipe name: got `a\b`", r"no `\` or `/` in the name", PIPE),
        row("connect:pipe:a/b", 14, "pipe name: got `a/b`", r"no `\` or `/` in the name", PIPE),
        row(r"connect:pipe:\\.\pip\x", 14, r"pipe name: got `\\.\pip\x`", r"`\\.\pipe\NAME`", PIPE),
        row(r"connect:pipe:\\.\pipe", 14, r"pipe name: got `\\.\pipe`", r"`\\.\pipe\NAME`", PIPE),
        row(r"connect:pipe:\\.\pipe\", 23, "pipe name: got nothing", r"a name after `\pipe\`", PIPE),
        row(r"connect:pipe:\\.\pipe\a\b", 23, r"pipe name: got `a\b`", r"no `\` or `/` in the name", PIPE),
        row(r"connect:pipe:\.\pipe\x", 14, r"pipe name: got `\.\pipe\x`", r"`\\.\pipe\NAME`", PIPE),
        row(long_pipe, 13, "pipe name: got `xxx", "at most 256 characters, and it has 257", "listen:pipe:kd-win11"),
        row("connect:pipe:a,mode=x", 16, "option: got `mode`", "for pipe: `via=`", PIPE),
        // Terminals.
        row("pty:/l,baud=9600", 8, "option: got `baud`", "for pty: `via=`", PTY),
        row("pty,link=/l", 5, "option: got `link`", "for pty: `via=`", PTY),
        row("tty", 4, "address: got nothing", "`:` and an address after `tty`", TTY),
        row("tty:", 5, "address: got nothing", "a terminal device, `/dev/ttyUSB0` or `COM3`", TTY),
        row("tty:,baud=9600", 5, "address: got nothing", "a terminal device", TTY),
        row("tty:/dev/ttyS0,9600", 16, "option: got `9600`", "`name=value`", TTY),
        row("tty:/dev/ttyS0,speed=1", 16, "option: got `speed`", "for tty: `baud=`, `data=`, `parity=`, `stop=`, `flow=`, `via=`", TTY),
        row("tty:/dev/ttyS0,Baud=1", 16, "option: got `Baud`", "did you mean `baud=`?", TTY),
        row("tty:/dev/ttyS0,baud=fast", 21, "option `baud`: got `fast`", "bits per second", TTY),
        row("tty:/dev/ttyS0,baud=", 21, "option `baud`: got nothing", "bits per second", TTY),
        row("tty:/dev/ttyS0,baud=-1", 21, "option `baud`: got `-1`", "bits per second", TTY),
        row("tty:/dev/ttyS0,baud=+1", 21, "option `baud`: got `+1`", "bits per second", TTY),
        row("tty:/dev/ttyS0,baud=4294967296", 21, "option `baud`: got `4294967296`", "bits per second", TTY),
        row("tty:/dev/ttyS0,baud=9600,baud=9600", 26, "option `baud`: got `baud=9600`", "it once", TTY),
        row("tty:/dev/ttyS0,data=9", 21, "option `data`: got `9`", "5, 6, 7 or 8 data bits", TTY),
        row("tty:/dev/ttyS0,parity=mark", 23, "option `parity`: got `mark`", "none, even or odd", TTY),
        row("tty:/dev/ttyS0,stop=1.5", 21, "option `stop`: got `1.5`", "1 or 2 stop bits", TTY),
        row("tty:/dev/ttyS0,flow=hardware", 21, "option `flow`: got `hardware`", "none, rtscts or xonxoff", TTY),
        row("tty:/dev/ttyS0,flow=none,data=8,flow=none", 33, "option `flow`: got `flow=none`", "it once", TTY),
        // Standard streams, commands, files.
        row("stdio:x", 7, "address: got `x`", "none after `stdio`", "stdio"),
        row("stdio,via=x", 7, "option: got `via`", "none: `stdio` has no options", "stdio"),
        row("exec", 5, "command: got nothing", "a program and its arguments after `exec:`", EXEC),
        row("exec:", 6, "command: got nothing", "a program and its arguments after `exec:`", EXEC),
        row("exec:  ", 8, "command: got nothing", "a program and its arguments after `exec:`", EXEC),
        row("exec:nc 'a", 6, "command: got `nc 'a`", "quotes that match", EXEC),
        row("exec:nc \"a", 6, "command: got `nc \"a`", "quotes that match", EXEC),
        row(r"exec:nc \", 6, r"command: got `nc \`", r"nothing open behind a `\`", EXEC),
        row("exec:'' a", 6, "command: got `'' a`", "a program first, and its name is empty", EXEC),
        row("file:", 6, "address: got nothing", "the path of a file", FILE),
        row("file:/a,append=1", 9, "option: got `append`", "none: `file` has no options", FILE),
        row("file:/a,via=h", 9, "option: got `via`", "none: `file` has no options", FILE),
        // SSH.
        row("connect:tcp:h:1,via=", 21, "option `via`: got nothing", "`[user@]host[:port]`", "connect:tcp:127.0.0.1:7001,via=root@xcp1.lab"),
        row("connect:tcp:h:1,via=-oX", 21, "option `via`: got `-oX`", "`[user@]host[:port]`", ""),
        row("connect:tcp:h:1,via=a@-oX", 23, "option `via`: got `a@-oX`", "a host", ""),
        row("connect:tcp:h:1,via=ssh://h", 21, "option `via`: got `ssh://h`", "`[user@]host[:port]`", ""),
        row("connect:tcp:h:1,via=@h", 21, "option `via`: got `@h`", "a user before the `@`", ""),
        row("connect:tcp:h:1,via=me@", 24, "option `via`: got `me@`", "a host", ""),
        row("connect:tcp:h:1,via=h:x", 23, "port of `via`: got `x`", "a number from 1 to 65535", ""),
        row("connect:tcp:h:1,via=h:0", 23, "port of `via`: got `0`", "a number from 1 to 65535", ""),
        row("connect:tcp:h:1,via=h:65536", 23, "port of `via`: got `65536`", "a number from 1 to 65535", ""),
        row("connect:tcp:h:1,via=a,via=me@fe80::1", 30, "option `via`: got `me@fe80::1`", "brackets around an IPv6 address", ""),
        row("connect:tcp:h:1,via=a b", 21, "option `via`: got `a b`", "`[user@]host[:port]`", ""),
    ]
}

#[rustfmt::skip]
fn vm_side() -> Vec<Row> {
    vec![
        row("console=connect:unix:/run/vm", 1, "prefix: got `console=`", "none here", "connect:unix:/run/vm"),
        row("gdb=", 1, "prefix: got `gdb=`", "none here", UNIX),
        row("file:/x", 1, "kind: got `file`", "a stream that is read and written", UNIX),
        row("unix:/x", 1, "role: got nothing", "`listen:` before `unix`", "connect:unix:/x"),
    ]
}

#[rustfmt::skip]
fn breaks() -> Vec<Row> {
    const QMP: &str = "qmp:/run/vm/qmp.sock,id=ser0";
    const COMMAND: &str = "exec:send-break vm1";
    let long_path = format!("qmp:/{}", "x".repeat(107));
    vec![
        row("", 1, "way: got nothing", "telnet, rfc2217, tty, qmp:PATH[,id=ID], exec:COMMAND or none", QMP),
        row("tellnet", 1, "way: got `tellnet`", "did you mean `telnet`?", QMP),
        row("sysrq", 1, "way: got `sysrq`", "telnet, rfc2217, tty", QMP),
        row("telnet:x", 7, "address: got `:x`", "none after `telnet`", "telnet"),
        row("none:", 5, "address: got `:`", "none after `none`", "none"),
        row("qmp", 4, "path: got nothing", "`:` and a QMP socket's path", QMP),
        row("qmp:", 5, "path: got nothing", "a QMP socket's path", QMP),
        row(long_path, 5, "path: got `/xxx", "at most 107 bytes", QMP),
        row("qmp:/q,id=", 11, "option `id`: got nothing", "a chardev's ID", QMP),
        row("qmp:/q,id=a,id=b", 13, "option `id`: got `id=b`", "it once", QMP),
        row("qmp:/q,name=a", 8, "option: got `name=a`", "`id=`", QMP),
        row("exec", 5, "command: got nothing", "`:` and a command", COMMAND),
        row("exec:", 6, "command: got nothing", "a program after `exec:`", COMMAND),
        row("exec:'a", 6, "command: got `'a`", "quotes that match", COMMAND),
    ]
}

fn check(rows: &[Row], place: Place) {
    let sandbox = Sandbox::new();
    let mut wrong = Vec::new();
    for row in rows {
        let text = row.text.as_str();
        let arguments = match place {
            Place::Client => vec!["bridge", "connect:unix:vm", "--", text],
            Place::Vm => vec!["bridge", "--", text, "stdio"],
            Place::Break => vec!["bridge", "connect:unix:vm", "stdio", "--break-with", text],
        };
        let ended = sandbox.run(arguments);
        let told = ended.stderr.lines().find(|line| line.starts_with("error: "));
        let told = told.unwrap_or_default();
        let example = told
            .rsplit_once("(for example `")
            .and_then(|(_, rest)| rest.split_once("`)"))
            .map_or("", |(example, _)| example);
        let is_right = match place {
            Place::Client => example.parse::<ClientSpec>().is_ok(),
            Place::Vm => example.parse::<EndpointSpec>().is_ok(),
            Place::Break => example.parse::<BreakWith>().is_ok(),
        };
        let expected = told.split_once(", expected ").map_or("", |(_, rest)| rest);
        let good = ended.code == Some(2)
            && ended.stdout.is_empty()
            && told.contains(&format!(": column {}: {}", row.column, row.got))
            && expected.contains(row.expected)
            && is_right
            && (row.example.is_empty() || example == row.example);
        if !good {
            wrong.push(format!(
                "`{text}`: exit {:?}\n  told: {told}\n  wanted: column {}: {} … {} … {}",
                ended.code, row.column, row.got, row.expected, row.example
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn of_policies() {
    let sandbox = Sandbox::new();
    for (text, told) in [
        (
            "consol",
            "policy: got `consol`, expected one of console, gdb, kd, console+gdb, raw; did you mean `console`?",
        ),
        ("GDB", "did you mean `gdb`?"),
        (
            "rsp",
            "policy: got `rsp`, expected one of console, gdb, kd, console+gdb, raw",
        ),
        ("", "policy: got ``, expected one of console"),
    ] {
        let ended = sandbox.run(["bridge", "connect:unix:vm", "stdio", "--as", text]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}

fn of_a_consoles_port() {
    let sandbox = Sandbox::new();
    for (text, told) in [
        ("tpc:h:1", "column 1: kind: got `tpc`"),
        ("/run/vm.sock", "as in `connect:unix:/run/vm.sock`"),
        ("/dev/ttyUSB0", "as in `tty:/dev/ttyUSB0`"),
        ("-x y", "as in `connect:unix:/run/vm/ser0.sock`"),
        ("gdb=connect:tcp:h:1", "prefix: got `gdb=`"),
        (
            "file:/x",
            "kind: got `file`, expected a stream that is read and written",
        ),
    ] {
        let ended = sandbox.run(["console", "--", text]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}
