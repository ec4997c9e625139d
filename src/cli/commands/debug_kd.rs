//! `vmserial debug` for a Windows guest: WinDbg or kd on the served KD port.

use crate::cli::error::Failure;
use crate::cli::ui::Ui;
use crate::debugger::windbg::command_line;
use crate::model::{DebuggerSpec, TargetSpec};
use crate::session::events::SessionEvents;
use crate::session::kd;
use crate::session::planning::Hosts;
use std::path::Path;

/// Serves the port, and starts the debugger or prints its command line for the machine that has it.
///
/// # Errors
///
/// See [`kd::start`] and [`kd::run`].
pub fn session(
    hosts: &dyn Hosts,
    target: &TargetSpec,
    debugger: &DebuggerSpec,
    state: &Path,
    arguments: &[String],
    events: &SessionEvents,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let port = kd::start(hosts, target, state)?;
    for served in &port.bridge.listening {
        ui.status(&format!("Bridge (debug port): listening on {served}"));
    }
    let program = kd::find(debugger);
    if program.is_none() {
        ui.status("The debugger is not on this machine. On the Windows that has it, run:");
        ui.data(&command_line(debugger, &port.address, arguments))?;
        ui.status("The port is served until Ctrl-C. A VM that is off or reboots is waited for.");
    }
    let result = kd::run(program, &port, arguments, events, ui);
    let _ = port.bridge.handle.stop("the session ended").wait();
    port.bridge.join();
    Ok(result?)
}
