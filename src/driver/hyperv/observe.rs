//! Looks at VMs of a host, all in one call of a script.

use super::facts::{self, ComPort, HostAnswer, Vm, VmFacts};
use super::{refusal, scripts};
use crate::model::{
    EndpointSpec, FailureKind, HostRef, Observed, ObservedHost, ObservedPort, PortIndex, Problem, SshHop,
    TargetSpec, Wait,
};
use crate::runner::Runner;
use std::collections::BTreeMap;

/// Looks at all wanted VMs.
pub(super) fn host(runner: &dyn Runner, wanted: &[TargetSpec], wait: &Wait) -> Result<ObservedHost, Problem> {
    let words: Vec<&str> = wanted.iter().map(|target| target.vm.as_str()).collect();
    let answer = ask(runner, &words, wait)?;
    let (mut vms, mut problems) = (Vec::new(), Vec::new());
    for (target, asked) in wanted.iter().zip(&answer.vms) {
        match one(target, &asked.found, &answer, &runner.host().to_string()) {
            Ok(vm) => vms.push(observed(target, vm, &answer.ports)?),
            Err(problem) => problems.push(problem),
        }
    }
    let all = problems.into_iter().reduce(|mut all, problem: Problem| {
        all.message = format!("{}\n    {}", all.message, problem.message);
        let new = problem.hints.into_iter().filter(|hint| !all.hints.contains(hint));
        let new: Vec<String> = new.collect();
        all.hints.extend(new);
        all
    });
    if let Some(problem) = all {
        return Err(problem);
    }
    let facts = [
        ("computer", answer.computer),
        ("user", answer.user),
        ("elevated", answer.elevated.to_string()),
        ("hyperv-administrator", answer.hyperv_administrator.to_string()),
    ];
    Ok(ObservedHost {
        host: runner.host().clone(),
        vms,
        refused: Vec::new(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}

fn ask(runner: &dyn Runner, words: &[&str], wait: &Wait) -> Result<HostAnswer, Problem> {
    let call = scripts::observe(words);
    let result = runner
        .powershell(&call, wait)
        .map_err(|error| refusal::problem(&call, error))?;
    let answer: HostAnswer = serde_json::from_value(result).map_err(|error| {
        let message = format!(
            "the script `{}` gave another answer than it should: {error}",
            call.script
        );
        Problem::new(FailureKind::Internal, message)
    })?;
    if answer.vms.len() == words.len() {
        return Ok(answer);
    }
    let message = format!(
        "the script `{}` told of {} VMs, expected {}",
        call.script,
        answer.vms.len(),
        words.len()
    );
    Err(Problem::new(FailureKind::Internal, message))
}

/// Returns the one VM that is meant.
fn one<'a>(target: &TargetSpec, found: &'a [Vm], answer: &HostAnswer, host: &str) -> Result<&'a Vm, Problem> {
    match found {
        [vm] => Ok(vm),
        // Some hosts refuse who may not look; others show no VM.
        [] if !answer.may_manage() => Err(refusal::not_permitted(
            host,
            &answer.user,
            &format!(": it shows no VM `{}`", target.vm),
        )),
        [] => {
            let problem = Problem::new(
                FailureKind::NotFound,
                format!("{} ({host}) has no VM `{}`", answer.computer, target.vm),
            );
            let has_pattern = target.vm.as_str().contains(['*', '?', '[']);
            Err(if has_pattern {
                problem.hint("Wildcards are not taken: name one VM, whole.")
            } else {
                problem.hint("Name it as `Get-VM` lists it, or by its GUID.")
            })
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|vm| vm.id.as_str()).collect();
            Err(Problem::new(
                FailureKind::Precondition,
                format!(
                    "{} VMs on {} ({host}) have the name `{}`: {}",
                    several.len(),
                    answer.computer,
                    target.vm,
                    ids.join(", ")
                ),
            )
            .hint("Name the one that is meant by its GUID."))
        }
    }
}

fn observed(target: &TargetSpec, vm: &Vm, all: &[ComPort]) -> Result<Observed, Problem> {
    let is_ours = |port: &&ComPort| port.vm.eq_ignore_ascii_case(&vm.id);
    let facts = VmFacts {
        vm: vm.clone(),
        ports: all.iter().filter(is_ours).cloned().collect(),
        others: all
            .iter()
            .filter(|port| !is_ours(port) && !port.path.is_empty())
            .cloned()
            .collect(),
    };
    let ports = facts.ports.iter().filter(|port| !port.path.is_empty());
    let ports = ports.filter_map(|port| {
        Some(ObservedPort {
            port: PortIndex::new(port.number).ok()?,
            endpoint: port.endpoint(),
            text: format!(
                "`{}`, debugger mode {}",
                port.path,
                port.debugger_mode.to_lowercase()
            ),
        })
    });
    let text = serde_json::to_string(&facts).map_err(|error| {
        Problem::new(
            FailureKind::Internal,
            format!("what was observed cannot be kept: {error}"),
        )
    })?;
    Ok(Observed {
        vm: target.vm.clone(),
        power: vm.power(),
        ports: ports.collect(),
        gdb_stub: None,
        files: Vec::new(),
        facts: BTreeMap::from([(facts::VM.to_owned(), text)]),
    })
}

/// Returns where a port is, with the VM's role. A pipe that the profile or the command line names is not looked up: it is
/// asked for before every dial, a PowerShell takes a second, and a pipe's name changes only while the VM is off.
///
/// # Errors
///
/// The VM has no such port, or it is on no pipe that can be opened.
pub(super) fn locate(
    runner: &dyn Runner,
    wanted: &TargetSpec,
    port: PortIndex,
    wait: &Wait,
) -> Result<EndpointSpec, Problem> {
    let from_here = |mut endpoint: EndpointSpec| {
        // A pipe is its host's own: whoever is elsewhere goes through SSH.
        if let HostRef::Ssh(destination) = &wanted.host
            && endpoint.via.is_empty()
        {
            endpoint.via.push(SshHop(destination.clone()));
        }
        endpoint
    };
    if let Some(endpoint) = wanted.port(port).and_then(|spec| spec.attach.clone()) {
        return Ok(from_here(endpoint));
    }
    let seen = host(runner, std::slice::from_ref(wanted), wait)?;
    let vm = seen.vms.first().map(VmFacts::of).transpose()?;
    let com = vm.and_then(|vm| vm.ports.into_iter().find(|com| com.number == port.number()));
    let hint = "Set it up with `vmserial setup hyperv` or `vmserial apply`.";
    match com.filter(|com| !com.path.is_empty()) {
        None => Err(Problem::new(
            FailureKind::NotFound,
            format!("port {port} of the VM `{}` has no pipe", wanted.vm),
        )
        .hint(hint)),
        Some(com) => com.endpoint().map(from_here).ok_or_else(|| {
            Problem::new(
                FailureKind::Precondition,
                format!(
                    "port {port} of the VM `{}` is on `{}`, which is no pipe of its host",
                    wanted.vm, com.path
                ),
            )
            .hint(hint)
        }),
    }
}
