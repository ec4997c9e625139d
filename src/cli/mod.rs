//! The command line: parses, dispatches, maps failures to exit codes.

pub mod bridge_events;
pub mod cables;
pub mod change;
pub mod commands;
pub mod context;
pub mod error;
pub mod port;
pub mod quantity;
pub mod since;
pub mod target;
pub mod ui;

use crate::runner::ssh::options::{SshEngine, SshOptions};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use context::Context;
use error::Failure;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use ui::Ui;

/// Gives a virtual machine a serial port, joins it to a console or a kernel debugger, and starts the debugger.
///
/// Every change is shown before it is made and can be undone with `vmserial undo`.
#[derive(Debug, Parser)]
#[command(name = "vmserial", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GlobalArgs {
    /// Read this profile (an argument that ends in .yaml or .yml is read so too)
    #[arg(short, long, global = true, value_name = "FILE", env = "VMSERIAL_PROFILE")]
    pub profile: Option<PathBuf>,
    /// Print data as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Keep journals, locks and run-time files here
    #[arg(long, global = true, value_name = "DIR", env = "VMSERIAL_STATE")]
    pub state: Option<PathBuf>,
    /// Say more on standard error (twice: every command run)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Who speaks SSH: vmserial itself, or the system's `ssh` program (FIDO keys, certificates, ProxyCommand)
    #[arg(
        long,
        global = true,
        value_name = "ENGINE",
        env = "VMSERIAL_SSH_ENGINE",
        default_value = "builtin",
        hide_short_help = true
    )]
    pub ssh_engine: SshEngineArg,
    /// Take the key of an SSH host that is not known yet without asking, and write it down
    #[arg(long, global = true, hide_short_help = true)]
    pub accept_new_host_key: bool,
}

/// Who speaks SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SshEngineArg {
    /// Vmserial itself
    Builtin,
    /// The system's `ssh`
    System,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a VM a serial port by flags instead of a profile, then open the bridge to it
    Setup(Box<commands::setup::SetupArgs>),
    /// Join a VM's serial port to consoles, a debugger or other programs
    Bridge(Box<commands::bridge::BridgeArgs>),
    /// Show a VM's console here and type to it
    Console(commands::console::ConsoleArgs),
    /// Free a kernel that was left stopped in its debugger
    Resume(commands::resume::ResumeArgs),
    /// Apply the profile and start its VMs, and leave them running
    Up(commands::up::UpArgs),
    /// Stop VMs that vmserial started
    Down(commands::down::DownArgs),
    /// Break the kernel of a VM into its debugger
    Break(commands::break_in::BreakArgs),
    /// Stop a VM's kernel in its debugger and start gdb on it
    Debug(Box<commands::debug::DebugArgs>),
    /// Make the inside of a guest ready for kernel debugging, and back again
    Guest(Box<commands::guest::GuestArgs>),
    /// Show what apply would change
    Plan(commands::plan::PlanArgs),
    /// Bring targets to what the profile says
    Apply(commands::apply::ApplyArgs),
    /// Take back what an apply did
    Undo(commands::undo::UndoArgs),
    /// List what was done to hosts and VMs
    Journal(commands::journal::JournalArgs),
    /// Tell which targets are no longer as the profile says
    Drift(commands::drift::DriftArgs),
    /// Show targets: power, ports, owners
    Status(commands::status::StatusArgs),
    /// Make, check and explain profiles
    Profile(commands::profile::ProfileArgs),
    /// Open streams here for a vmserial on another machine, on standard input and output
    #[command(hide = true)]
    Helper(commands::helper::HelperArgs),
    /// Run one of vmserial's own PowerShell scripts
    #[command(name = "powershell", hide = true)]
    PowerShell(commands::powershell::PowerShellArgs),
    /// Stand between vmserial and PowerShell
    #[command(name = "powershell-helper", hide = true)]
    PowerShellHelper(commands::powershell::HelperArgs),
    /// Tell what is missing before VMs can be set up, and what mends it
    Doctor(commands::doctor::DoctorArgs),
    /// Print shell completions
    Completions(commands::completions::CompletionsArgs),
}

/// So many `-v` tell what is told nowhere else: the commands that are run.
const EVERYTHING: u8 = 2;

/// Runs the program and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // What stands behind `--` is another program's.
        Err(error) => {
            let ours = arguments.iter().take_while(|word| *word != "--");
            return error::report_usage(
                &error,
                &mut Ui::new(ours.into_iter().any(|word| word == "--json")),
            );
        }
    };
    let mut ui = Ui::new(cli.global.json);
    if cli.global.verbose >= EVERYTHING {
        ui::tell_everything();
    }
    crate::runner::ssh::options::configure(SshOptions {
        engine: match cli.global.ssh_engine {
            SshEngineArg::Builtin => SshEngine::Builtin,
            SshEngineArg::System => SshEngine::System,
        },
        accept_new_host_key: cli.global.accept_new_host_key,
        warn: ui::warn,
    });
    let result = Context::new(&cli.global).and_then(|context| dispatch(cli.command, &context, &mut ui));
    match result {
        Ok(code) => code,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit_code()
        }
    }
}

/// Returns the command line's description. A variable that is set and empty is as good as none.
fn command() -> clap::Command {
    let variables = [
        ("profile", "VMSERIAL_PROFILE"),
        ("state", "VMSERIAL_STATE"),
        ("ssh_engine", "VMSERIAL_SSH_ENGINE"),
    ];
    let is_empty = |name: &str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    variables
        .into_iter()
        .filter(|(_, name)| is_empty(name))
        .fold(Cli::command(), |command, (id, _)| {
            command.mut_arg(id, |argument| argument.env(None::<&str>))
        })
}

fn dispatch(command: Command, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    match command {
        Command::Setup(args) => commands::setup::run(*args, context, ui),
        Command::Bridge(args) => commands::bridge::run(*args, context, ui),
        Command::Console(args) => commands::console::run(&args, context, ui),
        Command::Resume(args) => commands::resume::run(&args, context, ui),
        Command::Up(args) => commands::up::run(&args, context, ui),
        Command::Down(args) => commands::down::run(&args, context, ui),
        Command::Break(args) => commands::break_in::run(&args, context, ui),
        Command::Debug(args) => commands::debug::run(&args, context, ui),
        Command::Guest(args) => commands::guest::run(*args, context, ui),
        Command::Plan(args) => commands::plan::run(&args, context, ui),
        Command::Apply(args) => commands::apply::run(&args, context, ui),
        Command::Undo(args) => commands::undo::run(&args, context, ui),
        Command::Journal(args) => commands::journal::run(&args, context, ui),
        Command::Drift(args) => commands::drift::run(&args, context, ui),
        Command::Status(args) => commands::status::run(&args, context, ui),
        Command::Profile(args) => commands::profile::run(&args, context, ui),
        Command::Helper(args) => commands::helper::run(&args),
        Command::PowerShell(args) => commands::powershell::run(&args, context, ui),
        Command::PowerShellHelper(args) => commands::powershell::run_helper(&args, context, ui),
        Command::Doctor(args) => commands::doctor::run(&args, context, ui),
        Command::Completions(args) => commands::completions::run(&args, context, ui),
    }
}
