//! QEMU's command line for a VM that vmserial starts. Source: qemu(1) 7.2 and 11.1, and runs of both.

pub mod chardev;
pub mod config;

use crate::model::{
    Address, EndpointSpec, FailureKind, HostPath, Invocation, PortIndex, PortSpec, Problem, Role, StartSpec,
    TargetName, TargetSpec,
};
use chardev::chardev_option;

/// The program when the profile names none.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// `-serial` may be given four times; the machine `pc` has no more ISA ports.
pub const MAX_PORTS: u32 = 4;

/// `sun_path` has 108 bytes with its final NUL; QEMU refuses a longer one.
const SOCKET_PATH_BYTES: usize = 107;

/// Where a VM that vmserial starts keeps its sockets and files: `<state>/run/<target>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFiles {
    folder: String,
}

impl RunFiles {
    /// Names the files of one target below the folder `run` of the state folder.
    pub fn new(run: &HostPath, target: &TargetName) -> Self {
        let run = run.as_str().trim_end_matches('/');
        Self {
            folder: format!("{run}/{target}"),
        }
    }

    fn file(&self, name: &str) -> HostPath {
        HostPath::new(format!("{}/{name}", self.folder))
    }

    /// Returns the folder.
    pub fn folder(&self) -> HostPath {
        HostPath::new(self.folder.clone())
    }

    /// Returns the socket of a port.
    pub fn port(&self, port: PortIndex) -> HostPath {
        self.file(&format!("ser{}.sock", port.zero_based()))
    }

    /// Returns the QMP socket.
    pub fn qmp(&self) -> HostPath {
        self.file("qmp.sock")
    }

    /// Returns where QEMU tells the owner of a port what happens to the VM, with the VM's role. A QMP server serves one client,
    /// so each port has one of its own.
    pub fn events(&self, port: PortIndex) -> EndpointSpec {
        let path = self.file(&format!("events{}.sock", port.zero_based()));
        EndpointSpec::new(Some(Role::Listen), Address::Unix(path.as_str().into()))
    }

    /// Returns the file with QEMU's process identifier.
    pub fn pid(&self) -> HostPath {
        self.file("qemu.pid")
    }

    /// Returns the file with what QEMU says.
    pub fn log(&self) -> HostPath {
        self.file("qemu.log")
    }

    /// Returns where the VM's end of a port is, with the VM's role: as wanted, else on the port's own socket.
    pub fn endpoint(&self, port: &PortSpec) -> EndpointSpec {
        port.attach.clone().unwrap_or_else(|| {
            EndpointSpec::new(
                Some(Role::Listen),
                Address::Unix(self.port(port.port).as_str().into()),
            )
        })
    }
}

/// Returns the chardev that stands behind a port of a VM that vmserial starts.
pub fn chardev_id(port: PortIndex) -> String {
    format!("ser{}", port.zero_based())
}

/// A version of QEMU, as far as its options differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Version {
    /// Reads the first line of `qemu-system-x86_64 -version`: `QEMU emulator version 7.2.22 (Debian …)`.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.lines().next()?.split("version ").nth(1)?;
        let mut parts = numbers.split(|character: char| !character.is_ascii_digit());
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
        })
    }
}

/// Writes the command that starts the VM.
///
/// # Errors
///
/// Fails as configuration when a port, an endpoint or a path is nothing that QEMU can take.
pub fn invocation(
    target: &TargetSpec,
    start: &StartSpec,
    files: &RunFiles,
    version: Option<Version>,
) -> Result<Invocation, Problem> {
    let extra = Extra(&start.extra_arguments);
    let mut arguments: Vec<String> = Vec::new();
    let mut push = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    push(&["-name", &escaped(target.vm.as_str())]);
    // Not `-accel kvm -accel tcg`: that does not fall back when /dev/kvm opens and no guest boots (seen).
    if !extra.chooses_accelerator() {
        push(&["-accel", "tcg"]);
    }
    if !extra.has(&["-machine", "-M"]) {
        push(&["-machine", "pc"]);
    }
    push(&["-m", &start.memory_mib.to_string(), "-nodefaults"]);
    if !extra.has(&["-display", "-nographic", "-vnc", "-spice"]) {
        push(&["-display", "none"]);
    }
    for (name, path) in [("-kernel", &start.kernel), ("-initrd", &start.initrd)] {
        if let Some(path) = path {
            push(&[name, &path.display().to_string()]);
        }
    }
    if let Some(append) = &start.append {
        push(&["-append", append]);
    }
    for disk in &start.disks {
        push(&["-drive", &drive(&disk.display().to_string())]);
    }
    arguments.extend(serial_arguments(target, files, version)?);
    let mut sockets = vec![files.qmp()];
    for port in &target.ports {
        if let Address::Unix(path) = files.events(port.port).address {
            sockets.push(HostPath::new(path.to_string_lossy()));
        }
    }
    for socket in sockets {
        check_socket_path(socket.as_str())?;
        arguments.push("-qmp".to_owned());
        arguments.push(format!("unix:{},server=on,wait=off", escaped(socket.as_str())));
    }
    arguments.extend(["-pidfile".to_owned(), files.pid().as_str().to_owned()]);
    arguments.extend(gdb_stub_arguments(target));
    arguments.extend(start.extra_arguments.iter().cloned());
    Ok(Invocation::changes(
        start.program.as_deref().unwrap_or(PROGRAM),
        arguments,
    ))
}

/// Writes `-chardev … -serial …` for all ports, with `-serial none` in the gaps: the n-th `-serial` is the n-th port.
///
/// # Errors
///
/// As [`invocation`].
pub fn serial_arguments(
    target: &TargetSpec,
    files: &RunFiles,
    version: Option<Version>,
) -> Result<Vec<String>, Problem> {
    let mut arguments = Vec::new();
    let highest = target.ports.iter().map(|port| port.port.number()).max();
    for number in 1..=highest.unwrap_or(0) {
        if number > MAX_PORTS {
            return Err(Problem::new(
                FailureKind::Configuration,
                format!("QEMU's machine `pc` has ports 1 to {MAX_PORTS}, got port {number}"),
            ));
        }
        match target.ports.iter().find(|port| port.port.number() == number) {
            None => arguments.extend(["-serial".to_owned(), "none".to_owned()]),
            Some(port) => arguments.extend(port_arguments(port.port, &files.endpoint(port), version)?),
        }
    }
    Ok(arguments)
}

/// Writes `-chardev … -serial …` for one port.
///
/// # Errors
///
/// As [`invocation`].
pub fn port_arguments(
    port: PortIndex,
    endpoint: &EndpointSpec,
    version: Option<Version>,
) -> Result<[String; 4], Problem> {
    let id = chardev_id(port);
    let option = chardev_option(&id, endpoint, version).map_err(|mut problem| {
        problem.message = format!("port {port}: {}", problem.message);
        problem
    })?;
    Ok([
        "-chardev".to_owned(),
        option,
        "-serial".to_owned(),
        format!("chardev:{id}"),
    ])
}

fn gdb_stub_arguments(target: &TargetSpec) -> Vec<String> {
    let Some(stub) = &target.gdb_stub else {
        return Vec::new();
    };
    // Without a host QEMU listens on all addresses.
    let host = if stub.allow_remote { "" } else { "127.0.0.1" };
    let mut arguments = vec!["-gdb".to_owned(), format!("tcp:{host}:{}", stub.port)];
    if stub.stop_at_start {
        arguments.push("-S".to_owned());
    }
    arguments
}

/// A disk's format is written where its name tells, so that a raw image is not guessed by what the guest wrote into it.
fn drive(path: &str) -> String {
    let format = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("qcow2") => ",format=qcow2",
        Some("raw" | "img") => ",format=raw",
        _ => "",
    };
    format!("file={}{format}", escaped(path))
}

/// Checks that a path fits into a Unix socket's address.
///
/// # Errors
///
/// Fails as configuration with the number of bytes.
pub fn check_socket_path(path: &str) -> Result<(), Problem> {
    if path.len() <= SOCKET_PATH_BYTES {
        return Ok(());
    }
    Err(Problem::new(
        FailureKind::Configuration,
        format!(
            "the socket path `{path}` has {} bytes, and a Unix socket's has {SOCKET_PATH_BYTES} at most",
            path.len()
        ),
    )
    .hint("Name a folder with a shorter path with `--state DIR` or $VMSERIAL_STATE, or an endpoint with `attach`."))
}

/// A comma in a value of a QEMU option list is doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// Arguments that the user adds; where they choose, we do not.
struct Extra<'a>(&'a [String]);

impl Extra<'_> {
    /// QEMU takes its options with one dash or two.
    fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|word| {
            names.contains(
                &word
                    .strip_prefix('-')
                    .filter(|rest| rest.starts_with('-'))
                    .unwrap_or(word),
            )
        })
    }

    fn chooses_accelerator(&self) -> bool {
        self.has(&["-accel", "-enable-kvm"]) || self.0.iter().any(|word| word.contains("accel="))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::{GdbStubSpec, HostRef, HypervisorKind, Policy, RestartPolicy, VmRef};

    pub(super) fn start() -> StartSpec {
        StartSpec {
            keep: false,
            kernel: None,
            initrd: None,
            append: None,
            memory_mib: 64,
            disks: Vec::new(),
            program: None,
            extra_arguments: Vec::new(),
        }
    }

    fn port(number: u32, attach: Option<&str>) -> PortSpec {
        PortSpec {
            port: PortIndex::new(number).unwrap(),
            policy: Policy::Console,
            attach: attach.map(|text| text.parse().unwrap()),
            serve: Vec::new(),
            log: crate::model::LogSpec::default(),
            hold_bytes: 0,
            replay_bytes: 0,
            one_writer: false,
            tunnel: None,
            break_with: None,
            firewall: None,
        }
    }

    fn target(ports: Vec<PortSpec>) -> TargetSpec {
        TargetSpec {
            name: "demo".parse().unwrap(),
            host: HostRef::Local,
            hypervisor: HypervisorKind::Qemu,
            vm: VmRef::new("demo"),
            restart: RestartPolicy::Ask,
            ports,
            gdb_stub: None,
            nested: false,
            secure_boot: Default::default(),
            guest: None,
            host_sysrq_off: false,
            start: None,
            debugger: None,
            unserved: Vec::new(),
        }
    }

    fn files() -> RunFiles {
        RunFiles::new(&HostPath::new("/s/run/"), &"demo".parse().unwrap())
    }

    fn line(target: &TargetSpec, start: &StartSpec) -> String {
        invocation(target, start, &files(), None).unwrap().to_string()
    }

    #[test]
    fn the_demo_on_two_ports() {
        let start = StartSpec {
            kernel: Some("guest/bzImage".into()),
            initrd: Some("guest/initrd.gz".into()),
            append: Some("console=ttyS0 kgdboc=ttyS1".to_owned()),
            ..start()
        };
        let line = line(&target(vec![port(1, None), port(2, None)]), &start);
        insta::assert_snapshot!(line.replace(" -", "\n-"), @r"
        qemu-system-x86_64
        -name demo
        -accel tcg
        -machine pc
        -m 64
        -nodefaults
        -display none
        -kernel guest/bzImage
        -initrd guest/initrd.gz
        -append 'console=ttyS0 kgdboc=ttyS1'
        -chardev 'socket,id=ser0,path=/s/run/demo/ser0.sock,server=on,wait=off'
        -serial chardev:ser0
        -chardev 'socket,id=ser1,path=/s/run/demo/ser1.sock,server=on,wait=off'
        -serial chardev:ser1
        -qmp 'unix:/s/run/demo/qmp.sock,server=on,wait=off'
        -qmp 'unix:/s/run/demo/events0.sock,server=on,wait=off'
        -qmp 'unix:/s/run/demo/events1.sock,server=on,wait=off'
        -pidfile /s/run/demo/qemu.pid
        ");
    }

    #[test]
    fn gaps_are_filled_and_commas_doubled() {
        let start = StartSpec {
            disks: vec!["/d/a,b.qcow2".into(), "/d/c.img".into(), "/d/e".into()],
            memory_mib: 512,
            ..start()
        };
        let target = target(vec![
            port(2, Some("listen:tcp:127.0.0.1:7001")),
            port(4, Some("connect:unix:/tmp/a,,b")),
        ]);
        insta::assert_snapshot!(line(&target, &start).replace(" -", "\n-"), @r"
        qemu-system-x86_64
        -name demo
        -accel tcg
        -machine pc
        -m 512
        -nodefaults
        -display none
        -drive 'file=/d/a,,b.qcow2,format=qcow2'
        -drive 'file=/d/c.img,format=raw'
        -drive 'file=/d/e'
        -serial none
        -chardev 'socket,id=ser1,host=127.0.0.1,port=7001,server=on,wait=off,nodelay=on'
        -serial chardev:ser1
        -serial none
        -chardev 'socket,id=ser3,path=/tmp/a,,b,server=off,reconnect=1'
        -serial chardev:ser3
        -qmp 'unix:/s/run/demo/qmp.sock,server=on,wait=off'
        -qmp 'unix:/s/run/demo/events1.sock,server=on,wait=off'
        -qmp 'unix:/s/run/demo/events3.sock,server=on,wait=off'
        -pidfile /s/run/demo/qemu.pid
        ");
    }

    #[test]
    fn the_gdb_stub_is_loopback_only_unless_asked() {
        let mut target = target(Vec::new());
        let stub = GdbStubSpec {
            port: 1234,
            stop_at_start: true,
            hide_breakpoints: false,
            allow_remote: false,
        };
        target.gdb_stub = Some(stub.clone());
        assert!(line(&target, &start()).ends_with("-gdb tcp:127.0.0.1:1234 -S"));
        target.gdb_stub = Some(GdbStubSpec {
            stop_at_start: false,
            allow_remote: true,
            ..stub
        });
        assert!(line(&target, &start()).ends_with("-gdb tcp::1234"));
    }

    #[test]
    fn what_the_user_chooses_is_not_chosen_by_us() {
        let with = |words: &[&str]| {
            let start = StartSpec {
                extra_arguments: words.iter().map(|&word| word.to_owned()).collect(),
                ..start()
            };
            line(&target(Vec::new()), &start)
        };
        assert!(!with(&["--enable-kvm"]).contains("tcg"));
        assert!(!with(&["-accel", "kvm"]).contains("tcg"));
        assert!(!with(&["-machine", "q35,accel=kvm"]).contains("tcg"));
        assert!(!with(&["-M", "q35"]).contains("-machine pc"));
        assert!(!with(&["-nographic"]).contains("-display"));
        assert!(with(&["-no-reboot"]).contains("-accel tcg -machine pc"));
    }

    #[test]
    fn too_many_ports_and_too_long_paths_are_refused() {
        let problem = invocation(&target(vec![port(5, None)]), &start(), &files(), None).unwrap_err();
        assert_eq!(problem.kind, FailureKind::Configuration);
        assert!(problem.message.contains("port 5"), "{problem}");

        let long = RunFiles::new(
            &HostPath::new(format!("/{}", "x".repeat(100))),
            &"d".parse().unwrap(),
        );
        let problem = invocation(&target(vec![port(1, None)]), &start(), &long, None).unwrap_err();
        assert!(problem.message.contains("has 113 bytes"), "{problem}");
        assert!(!problem.hints.is_empty());
    }

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright",
                Some((7, 2)),
            ),
            ("QEMU emulator version 11.1.0", Some((11, 1))),
            ("something else", None),
        ] {
            let version = Version::parse(text).map(|version| (version.major, version.minor));
            assert_eq!(version, expected);
        }
    }
}
