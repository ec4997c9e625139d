//! A step: one reversible change, complete enough that applying it needs no decision; and stages of steps.

use crate::model::{Digest, FileEdit, HostPath, HostRef, Invocation, PowerState, ScriptCall, TargetName};
use crate::plan::firewall::FirewallChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One reversible change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Imperative without a period: "attach port 2 (COM2) to `/tmp/x.sock`".
    pub summary: String,
    /// Where it happens.
    pub host: HostRef,
    /// For which target; `None` for host-wide things.
    pub target: Option<TargetName>,
    /// What is done.
    pub action: Action,
    /// How it is taken back.
    pub undo: Undo,
    /// When the guest sees it.
    pub effect: Effect,
    /// What it does to the VM's power, if it does: such steps need the restart policy's consent.
    pub power: Option<PowerChange>,
    /// Warnings that are printed with it, a sentence each.
    pub notes: Vec<String>,
    /// A name by which this step alone must be confirmed: on the terminal, or with `--confirm NAME`. `--yes` does not
    /// cover it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Changes keys of a file. Undo takes back our keys, not the file.
    Edit(FileEdit),
    /// Puts a whole file in its place, or takes it away (a program).
    Install(FileInstall),
    /// Changes the host's firewall: all of it, confirmed by a new connection, or nothing.
    Firewall(Box<FirewallChange>),
    /// Runs a command to its end; it must end with 0.
    Run(Invocation),
    /// As [`Action::Run`], with a log of the host in which the reason of a failure stands.
    RunWithLog {
        /// The command.
        invocation: Invocation,
        /// Whose last lines are shown when the command fails.
        log: HostPath,
    },
    /// Starts a process that outlives us; its pid and start time go into the journal.
    Start {
        /// The command.
        invocation: Invocation,
        /// Where its output is appended; the folder is made, and is where the process may put its sockets.
        log: HostPath,
    },
    /// Sends one QMP command.
    Qmp(QmpCommand),
    /// Runs one of our PowerShell scripts; what it throws is the step's failure.
    #[serde(rename = "powershell")]
    PowerShell(ScriptCall),
    /// Waits until a condition is observed.
    WaitFor(Condition),
}

/// A file that is put in its place as a whole, or taken away. It is no text, so that its content is not in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInstall {
    /// Where; its folder is made.
    pub path: HostPath,
    /// Digest of the file that the plan was made on; `None`: there was none.
    pub planned_on: Option<Digest>,
    /// What it becomes; `None` takes it away.
    pub new: Option<FileSource>,
}

/// A file of the machine that vmserial runs on, to be copied. Execution refuses it when it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSource {
    /// Where it is.
    pub path: HostPath,
    /// Its digest when the plan was made.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// One command for a QMP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QmpCommand {
    /// The Unix socket.
    pub socket: HostPath,
    /// `execute`.
    pub execute: String,
    /// `arguments`, a JSON object or null.
    pub arguments: serde_json::Value,
}

/// Something that becomes true. It is observed without connecting to a VM's port: a probe would take its only slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A path is there (a socket that a VM makes).
    PathExists {
        /// Which.
        path: HostPath,
    },
    /// A path is gone (a lock).
    PathAbsent {
        /// Which.
        path: HostPath,
    },
    /// A TCP port listens, as `ss -ltn` tells.
    TcpListens {
        /// Which.
        port: u16,
    },
    /// A QMP socket greets and answers.
    QmpAnswers {
        /// Which.
        socket: HostPath,
    },
    /// A command that reads prints a line that equals this one.
    OutputHasLine {
        /// The command.
        invocation: Invocation,
        /// The line, compared without surrounding white space.
        line: String,
        /// True: the line must be there. False: it must not.
        present: bool,
    },
    /// A PowerShell script that reads gives a result in which this field has this value.
    Script {
        /// The script.
        call: ScriptCall,
        /// A field of the result by its name, or a JSON pointer (`/ports/0/path`).
        field: String,
        /// The value.
        value: serde_json::Value,
    },
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// For [`Action::Edit`]: our keys get back the values that the journal holds, where they still hold ours.
    Keys,
    /// For [`Action::Firewall`]: our rules go away, those of others stay.
    Firewall,
    /// For [`Action::Install`]: the file that was there returns, if ours is still in its place.
    File,
    /// Runs a command.
    Run(Invocation),
    /// Gives a setting that a command changed its value back, if it still has ours.
    Setting(SettingUndo),
    /// Gives boot settings of a Windows guest the values back that the journal holds, where they still hold ours.
    BootSettings(BootSettingsUndo),
    /// Lets BitLocker guard a drive again.
    BitLocker {
        /// The drive: `C:`.
        drive: String,
        /// Tells whether it does already.
        look: ScriptCall,
    },
    /// Sends a QMP command.
    Qmp(QmpCommand),
    /// Runs one of our PowerShell scripts.
    #[serde(rename = "powershell")]
    PowerShell(ScriptCall),
    /// For [`Action::Start`]: ends the process, if it is still the one that we started.
    StopProcess,
    /// There is nothing to take back, or no way to.
    Nothing {
        /// Why, as a fragment.
        reason: String,
    },
}

/// How a setting that lives with a tool and not in a file gets its value back. It is looked at first, also where it is not
/// known whether the change happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingUndo {
    /// What it is called.
    pub name: String,
    /// Prints its value.
    pub look: Invocation,
    /// What `look` prints, on either stream, where there is no value.
    pub absent: String,
    /// What we set; `None` is absent.
    pub ours: Option<String>,
    /// What was there before; `None` is absent.
    pub before: Option<String>,
    /// Sets what was there before.
    pub restore: Invocation,
}

/// How boot settings of a Windows guest get their values back. What was there before is looked at again and kept in the journal
/// before the change, all of it, and is in no plan: among it may be a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSettingsUndo {
    /// What it is called.
    pub name: String,
    /// The object of the store: `{dbgsettings}`, or a GUID in braces.
    pub object: String,
    /// Prints its elements.
    pub look: ScriptCall,
    /// Our elements as the plan found them; `None` is absent.
    pub before: BTreeMap<String, Option<String>>,
    /// What we give them.
    pub ours: BTreeMap<String, String>,
}

/// When the guest sees a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// At once.
    Live,
    /// When the guest boots again.
    NextBoot,
    /// When the VM was powered off and started.
    NeedsPowerOff,
}

/// What a step does to a VM's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerChange {
    /// Asks the guest to shut down.
    OffGraceful,
    /// Pulls the plug.
    OffHard,
    /// Powers it on.
    On,
}

/// Steps that can be planned from one observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `host`, `power off`, `settings`, `start`, `guest` …
    pub name: String,
    /// Its steps, or why they cannot be known yet.
    pub content: StageContent,
}

/// What is known of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageContent {
    /// Planned; may be applied.
    Planned(Vec<Step>),
    /// Its facts cannot be observed yet: it is planned, shown and confirmed when they are there.
    Later {
        /// After what: "after power-off".
        after: String,
        /// What may change then: "serial keys of the vmx".
        may_change: Vec<String>,
    },
}

/// What planning must know beside the present observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanContext {
    /// The VM's power state before the first stage of this apply: it is left in the state in which it was found.
    pub power_at_start: PowerState,
    /// Plan the removal of the wanted ports instead of their set-up (`--remove`).
    pub remove: bool,
    /// The start that a session needs is planned, too, when true: of a VM that the profile describes, or of one that is
    /// off. `apply` alone starts no VM.
    pub start_vm: bool,
}
