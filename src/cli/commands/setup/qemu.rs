//! `vmserial setup qemu`.

use super::common::{CommonArgs, Site};
use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::quantity::parse_bytes;
use crate::cli::ui::Ui;
use crate::driver::qemu::{QMP_VM, Qemu};
use crate::model::{
    BreakWith, Cancel, Deadline, FailureKind, HostPath, HypervisorKind, Problem, StartSpec, TargetSpec,
    VmRef, Wait,
};
use crate::render::qemu::port_arguments;
use crate::session::lifetime::Lifetime;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the QMP of a running VM may take.
const LOOK: Duration = Duration::from_secs(10);

/// Gives a VM of QEMU a serial port, or QEMU's gdb stub.
///
/// With --start vmserial starts the VM and stops it at the end, unless --keep. A VM that runs is changed live through its
/// QMP socket (--qmp). For a VM that you start yourself, --config writes a file for QEMU's -readconfig; without any of
/// these the arguments to add are printed.
///
/// Example: vmserial setup qemu --start --kernel bzImage --initrd initrd.gz --append console=ttyS0 --yes
#[derive(Debug, clap::Args)]
pub struct QemuArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Change the running VM that answers at this QMP socket
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["start", "config"])]
    qmp: Option<PathBuf>,
    /// With --qmp: the port's chardev [default: serN, serialN or charserialN, N from 0]
    #[arg(long, value_name = "ID", requires = "qmp")]
    chardev: Option<String>,
    /// Write the port into this file for QEMU's -readconfig
    #[arg(long, value_name = "FILE", conflicts_with = "start")]
    config: Option<PathBuf>,
    /// Start the VM
    #[arg(long)]
    start: bool,
    /// With --start: leave the VM running at the end
    #[arg(long, requires = "start")]
    keep: bool,
    /// With --start: kernel image
    #[arg(long, value_name = "FILE", requires = "start")]
    kernel: Option<PathBuf>,
    /// With --start: initial RAM disk
    #[arg(long, value_name = "FILE", requires = "start")]
    initrd: Option<PathBuf>,
    /// With --start: kernel command line
    #[arg(long, value_name = "TEXT", requires = "start")]
    append: Option<String>,
    /// With --start: memory
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "256MiB")]
    memory: usize,
    /// With --start: disk image (can be repeated)
    #[arg(long, value_name = "FILE", requires = "start")]
    disk: Vec<PathBuf>,
    /// With --start: the program [default: qemu-system-x86_64]
    #[arg(long, value_name = "PROGRAM", requires = "start")]
    program: Option<String>,
    /// With --start: further arguments for QEMU
    #[arg(last = true, value_name = "QEMU-ARGUMENT", requires = "start")]
    extra: Vec<String>,
}

/// Runs `vmserial setup qemu`.
///
/// # Errors
///
/// QEMU or a file missing: 4; the VM not running, or other arguments: 5; the plan's refusals and the bridge's failures.
pub fn run(args: &QemuArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let common = &args.common;
    if !args.start && args.qmp.is_none() && args.config.is_none() {
        return print_arguments(args, ui);
    }
    if args.start && !args.keep && !common.plan && !common.show && !common.ends_in_bridge() {
        return Err(Problem::new(
            FailureKind::Usage,
            "the VM would be stopped at once: there is no bridge to wait for",
        )
        .hint("Add `--keep`, or say who is served: `--serve listen:tcp:127.0.0.1:0`.")
        .into());
    }
    let site = Site::new(common, args.start, context)?;
    let mut target = target(args)?;
    if common.show {
        return site.show(common, &target, ui);
    }
    let lifetime = Lifetime::begin(site.hosts.as_ref(), &site.options)?;
    let result = set_up(args, &site, &mut target, context, ui);
    // Whatever happened: what was started here ends here.
    if args.start && !args.keep && !common.plan {
        lifetime.end(&target.name, site.hosts.as_ref(), ui)?;
    }
    result
}

fn set_up(
    args: &QemuArgs,
    site: &Site,
    target: &mut TargetSpec,
    context: &Context,
    ui: &mut Ui,
) -> Result<ExitCode, Failure> {
    let common = &args.common;
    site.apply(target, ui)?;
    if common.plan || common.remove {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(stub) = &target.gdb_stub {
        ui.status(&format!(
            "gdb finds the VM with `target remote 127.0.0.1:{}`.",
            stub.port
        ));
    }
    name_chardev(site, target)?;
    if args.config.is_some() {
        ui.status("The port is there when QEMU was started with the file.");
        return Ok(ExitCode::SUCCESS);
    }
    site.bridge(common, target, context, ui)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

fn target(args: &QemuArgs) -> Result<TargetSpec, Failure> {
    let common = &args.common;
    let path_name = |path: &Path| {
        path.file_stem()
            .map_or_else(|| "vm".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let (vm, default_name) = match (&args.qmp, &args.config) {
        (Some(socket), _) => {
            // The name of QEMU's monitor socket says little, that of its folder more.
            let socket = absolute(socket)?;
            let name = socket.parent().map_or_else(|| "vm".to_owned(), path_name);
            (format!("{QMP_VM}{}", socket.display()), name)
        }
        (None, Some(file)) => {
            let file = absolute(file)?;
            (file.display().to_string(), path_name(&file))
        }
        (None, None) => {
            let name = common.vm.clone().unwrap_or_else(|| "qemu".to_owned());
            (name.clone(), name)
        }
    };
    let name = common.vm.clone().unwrap_or(default_name);
    let mut target = common.target(HypervisorKind::Qemu, VmRef::new(vm), &name)?;
    if args.start {
        target.start = Some(StartSpec {
            keep: args.keep,
            kernel: args.kernel.as_deref().map(absolute).transpose()?,
            initrd: args.initrd.as_deref().map(absolute).transpose()?,
            append: args.append.clone(),
            memory_mib: u32::try_from(args.memory.div_ceil(1 << 20)).unwrap_or(u32::MAX),
            disks: args
                .disk
                .iter()
                .map(|disk| absolute(disk))
                .collect::<Result<_, _>>()?,
            program: args.program.clone(),
            extra_arguments: args.extra.clone(),
        });
        return Ok(target);
    }
    if let (Some(socket), Some(id)) = (&args.qmp, &args.chardev) {
        target.ports[0].break_with = Some(BreakWith::Qmp {
            path: absolute(socket)?,
            id: id.clone(),
        });
    }
    let wants_port = common.endpoint.is_some();
    if !wants_port && !common.show && !common.remove {
        if target.gdb_stub.is_none() {
            return Err(Problem::new(
                FailureKind::Usage,
                "where the VM's end of the port shall be, is missing",
            )
            .hint("Name it with the VM's role: `--endpoint listen:unix:/tmp/vm1.serial`.")
            .into());
        }
        // Only the stub is meant.
        target.ports.clear();
    }
    if common.remove && target.gdb_stub.is_some() && !wants_port {
        target.ports.clear();
    }
    Ok(target)
}

/// Finds which chardev of a running VM the port is, so that BREAK reaches the right one.
fn name_chardev(site: &Site, target: &mut TargetSpec) -> Result<(), Failure> {
    let Some(socket) = target.vm.as_str().strip_prefix(QMP_VM).map(PathBuf::from) else {
        return Ok(());
    };
    let runner = site.hosts.runner(&target.host)?;
    let wait = Wait::new(
        Deadline::after(Instant::now(), LOOK),
        Cancel::new(),
        "QEMU to name its chardevs",
    );
    for port in &mut target.ports {
        if port.break_with.is_none()
            && let Some(id) = Qemu::chardev_now(
                runner.as_ref(),
                &HostPath::new(socket.to_string_lossy()),
                port,
                &wait,
            )?
        {
            port.break_with = Some(BreakWith::Qmp {
                path: socket.clone(),
                id,
            });
        }
    }
    Ok(())
}

/// Prints what QEMU's command line needs for the port.
fn print_arguments(args: &QemuArgs, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let common = &args.common;
    if common.show || common.remove {
        return Err(Problem::new(FailureKind::Usage, "which VM is meant is missing")
            .hint("Name the VM's QMP socket (`--qmp SOCKET`) or its file (`--config FILE`).")
            .into());
    }
    let mut words: Vec<String> = Vec::new();
    if let Some(endpoint) = &common.endpoint {
        for _ in 1..common.port().number() {
            words.extend(["-serial".to_owned(), "none".to_owned()]);
        }
        words.extend(port_arguments(common.port(), endpoint, None)?);
    }
    if let Some(port) = common.gdbstub {
        let host = if common.allow_remote { "" } else { "127.0.0.1" };
        words.extend(["-gdb".to_owned(), format!("tcp:{host}:{port}")]);
        if common.stop_at_start {
            words.push("-S".to_owned());
        }
    }
    if words.is_empty() {
        return Err(Problem::new(FailureKind::Usage, "where the VM's end of the port shall be, is missing")
            .hint("Name it with the VM's role: `--endpoint listen:unix:/tmp/vm1.serial`, or let vmserial start the VM: `--start`.")
            .into());
    }
    ui.status("Add these arguments to QEMU's; vmserial changes nothing by itself:");
    if common.port().number() > 1 && common.endpoint.is_some() {
        ui.status(
            "(`-serial none` stands for each port before it: leave it out where QEMU has one already.)",
        );
    }
    let quoted: Vec<String> = words
        .iter()
        .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into))
        .collect();
    ui.data(&quoted.join(" "))?;
    if let Some(endpoint) = &common.endpoint {
        ui.status(&format!(
            "Then: vmserial bridge {} listen:tcp:127.0.0.1:0",
            endpoint.other_side()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
