//! What `vmrun` says and does: which VMs run, power off, power on.

use super::fact;
use super::place::HostStyle;
use crate::model::{
    Deadline, HostPath, HostRef, Invocation, Observed, Problem, RestartPolicy, TargetSpec, Wait,
};
use crate::plan::{Action, Condition, Effect, PowerChange, Step, Undo};
use crate::render::vmx::lock_of;
use crate::runner::{RunError, Runner};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// `vmrun list` answers in a second or hangs for ever (GNS3 gives it two minutes).
const ANSWER: Duration = Duration::from_secs(15);

/// The program, and where its Windows installer puts it without adding it to the PATH.
const PROGRAMS: [&str; 2] = [
    "vmrun",
    r"C:\Program Files (x86)\VMware\VMware Workstation\vmrun.exe",
];

/// `-T`: Workstation, Player, Fusion.
const PRODUCTS: [&str; 3] = ["ws", "player", "fusion"];

/// What `vmrun list` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listing {
    /// There is no `vmrun`.
    NoProgram,
    /// It gave no answer, for this reason.
    Failed(String),
    /// It answered.
    Running {
        program: &'static str,
        product: &'static str,
        vms: Vec<String>,
    },
}

fn list(program: &str, product: &str) -> Invocation {
    Invocation::reads(program, ["-T", product, "list"])
}

/// Asks which VMs run.
///
/// # Errors
///
/// Interrupted. That `vmrun` is missing, fails or hangs is an answer.
pub(super) fn running_vms(runner: &dyn Runner, windows: bool, wait: &Wait) -> Result<Listing, Problem> {
    let programs = if windows { &PROGRAMS[..] } else { &PROGRAMS[..1] };
    for program in programs {
        let mut failure = None;
        for product in PRODUCTS {
            let invocation = list(program, product);
            let deadline = Deadline::after(Instant::now(), ANSWER).min(wait.deadline);
            let short = Wait::new(deadline, wait.cancel.clone(), format!("`{invocation}`"));
            let output = match runner.run(&invocation, &short) {
                Ok(output) => output,
                Err(RunError::ProgramNotFound { .. }) => break,
                Err(error @ RunError::Cancelled { .. }) => return Err(error.into()),
                Err(RunError::DeadlinePassed { .. }) if !wait.deadline.passed(Instant::now()) => {
                    let seconds = ANSWER.as_secs();
                    return Ok(Listing::Failed(format!(
                        "`{invocation}` gave no answer within {seconds} s"
                    )));
                }
                Err(error) => return Err(error.into()),
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines = text.lines().map(str::trim);
            match lines.next() {
                Some(count) if output.success() && count.starts_with("Total running VMs:") => {
                    let vms = lines
                        .filter(|line| !line.is_empty())
                        .map(ToOwned::to_owned)
                        .collect();
                    return Ok(Listing::Running {
                        program,
                        product,
                        vms,
                    });
                }
                // It complains on standard output.
                first => {
                    let words = first.filter(|line| !line.is_empty()).unwrap_or("nothing");
                    failure.get_or_insert(format!("`{invocation}` said: {words}"));
                }
            }
        }
        if let Some(failure) = failure {
            return Ok(Listing::Failed(failure));
        }
    }
    Ok(Listing::NoProgram)
}

/// Puts into the facts what the listing says of a VM.
pub(super) fn note(listing: &Listing, path: &HostPath, facts: &mut BTreeMap<String, String>) {
    match listing {
        Listing::NoProgram => {}
        Listing::Failed(reason) => {
            facts.insert(fact::VMRUN_FAILURE.to_owned(), reason.clone());
        }
        Listing::Running {
            program,
            product,
            vms,
        } => {
            facts.insert(fact::VMRUN.to_owned(), (*program).to_owned());
            facts.insert(fact::PRODUCT.to_owned(), (*product).to_owned());
            if let Some(listed) = vms.iter().find(|vm| same_path(vm, path)) {
                facts.insert(fact::LISTED_AS.to_owned(), listed.clone());
            }
        }
    }
}

/// On Windows `list` may differ from the path in case and slashes.
fn same_path(listed: &str, path: &HostPath) -> bool {
    let plain = |text: &str| text.replace('/', "\\").to_lowercase();
    listed == path.as_str()
        || (HostStyle::of(path) == HostStyle::Windows && plain(listed) == plain(path.as_str()))
}

/// The VM's `vmrun`, as it answered.
pub(super) struct Vmrun<'a> {
    program: &'a str,
    product: &'a str,
    /// The VM as `list` spells it while it runs.
    listed_as: Option<&'a str>,
}

impl<'a> Vmrun<'a> {
    /// Finds it in the facts.
    pub(super) fn of(observed: &'a Observed) -> Option<Self> {
        let fact = |name: &str| observed.facts.get(name).map(String::as_str);
        Some(Self {
            program: fact(fact::VMRUN)?,
            product: fact(fact::PRODUCT)?,
            listed_as: fact(fact::LISTED_AS),
        })
    }

    fn changes(&self, command: &str, vm: &str, how: &str) -> Invocation {
        Invocation::changes(self.program, ["-T", self.product, command, vm, how])
    }

    /// The steps that power a running VM off and wait until VMware has let its file go.
    pub(super) fn power_off(&self, host: &HostRef, target: &TargetSpec, path: &HostPath) -> Vec<Step> {
        let vm = self.listed_as.unwrap_or(path.as_str());
        let (how, power, summary) = match target.restart {
            RestartPolicy::Hard => ("hard", PowerChange::OffHard, "pull the plug of"),
            _ => ("soft", PowerChange::OffGraceful, "shut down"),
        };
        let mut off = step(
            host,
            target,
            format!("{summary} `{vm}`"),
            Action::Run(self.changes("stop", vm, how)),
        );
        off.power = Some(power);
        off.notes = vec![
            "a window of VMware that has the VM open keeps its file locked: close the VM's tab".to_owned(),
        ];
        let gone = Condition::OutputHasLine {
            invocation: list(self.program, self.product),
            line: vm.to_owned(),
            present: false,
        };
        let free = Condition::PathAbsent { path: lock_of(path) };
        vec![
            off,
            step(
                host,
                target,
                "wait until the VM is off".to_owned(),
                Action::WaitFor(gone),
            ),
            step(
                host,
                target,
                "wait until VMware has let the file go".to_owned(),
                Action::WaitFor(free),
            ),
        ]
    }

    /// The step that powers the VM on again. `vmrun start` returns when it runs.
    pub(super) fn power_on(&self, host: &HostRef, target: &TargetSpec, path: &HostPath) -> Vec<Step> {
        let mut on = step(
            host,
            target,
            format!("start `{path}` again"),
            Action::Run(self.changes("start", path.as_str(), "nogui")),
        );
        on.power = Some(PowerChange::On);
        on.notes = vec!["it is started without a window".to_owned()];
        vec![on]
    }
}

fn step(host: &HostRef, target: &TargetSpec, summary: String, action: Action) -> Step {
    Step {
        summary,
        host: host.clone(),
        target: Some(target.name.clone()),
        action,
        undo: Undo::Nothing {
            reason: "an undo leaves the VM's power as it finds it".to_owned(),
        },
        effect: Effect::Live,
        power: None,
        notes: Vec::new(),
        confirm: None,
    }
}
