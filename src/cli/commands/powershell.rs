//! `vmserial powershell` and `vmserial powershell-helper`, which `--help` does not show.

use crate::cli::context::Context;
use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::driver::registry::problem_of_script;
use crate::model::{Deadline, FailureKind, HostRef, Problem, ScriptCall, Wait};
use crate::render::powershell::names;
use crate::runner::powershell::helper::{Request, help};
use crate::session::interrupt::Interrupt;
use crate::session::planning::{Hosts, RealHosts};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs one of vmserial's own PowerShell scripts and prints its result as JSON: for support, and for tests.
///
/// Example: vmserial powershell host/versions
#[derive(Debug, clap::Args)]
pub struct PowerShellArgs {
    /// Script; without one all are listed
    script: Option<String>,
    /// Values by the names of its parameters, a JSON object; `-` reads it from standard input
    #[arg(default_value = "{}")]
    parameters: String,
    /// Host that runs it [default: this machine]
    #[arg(long, value_name = "[USER@]HOST")]
    host: Option<String>,
    /// Seconds until it is given up
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    deadline: u64,
}

/// Runs `vmserial powershell`.
///
/// # Errors
///
/// No such script, or no JSON object: 2. No PowerShell: 4. What the script threw: 6, or what its driver makes of it.
pub fn run(args: &PowerShellArgs, context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let Some(script) = &args.script else {
        for name in names() {
            ui.data(name)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let usage = |message: String| Failure::from(Problem::new(FailureKind::Usage, message));
    if !names().any(|known| known == script) {
        return Err(usage(format!("there is no script `{script}`")));
    }
    let read = match args.parameters.as_str() {
        "-" => serde_json::from_reader(std::io::stdin().lock()),
        written => serde_json::from_str(written),
    };
    let parameters = read.map_err(|error| usage(format!("the parameters are no JSON object: {error}")))?;
    let call = ScriptCall {
        script: script.clone(),
        parameters,
        secrets: Default::default(),
    };
    let interrupt = Interrupt::catch()?;
    let host = args.host.clone().map_or(HostRef::Local, HostRef::Ssh);
    let runner = RealHosts::new(&context.state).runner(&host)?;
    let wait = Wait::new(
        Deadline::after(Instant::now(), Duration::from_secs(args.deadline)),
        interrupt.soft.clone(),
        format!("the PowerShell script `{script}`"),
    );
    let result = runner
        .powershell(&call, &wait)
        .map_err(|error| problem_of_script(&call, error))?;
    ui.data_json(&result)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs what one line of JSON on standard input asks for, and tells what was said: between vmserial and PowerShell.
#[derive(Debug, clap::Args)]
pub struct HelperArgs {}

/// Runs `vmserial powershell-helper`.
///
/// # Errors
///
/// PowerShell cannot be started: 6.
pub fn run_helper(_args: &HelperArgs, _context: &Context, ui: &mut Ui) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| {
        let problem = Problem::new(FailureKind::Host, format!("cannot run PowerShell: {error}"));
        Failure::from(problem)
    };
    let request: Request = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| Problem::new(FailureKind::Usage, format!("this is no request: {error}")))?;
    let said = help(&request).map_err(failed)?;
    ui.data_json(&said)?;
    Ok(ExitCode::SUCCESS)
}
