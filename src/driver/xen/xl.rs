//! Looks at VMs of plain Xen: the VM's file, and what `xl` says of its domain.

use super::device::{self, endpoint_of};
use super::memory::Memory;
use super::port::{each_by_itself, is_live, located, unless_missing};
use super::{MAX_PORTS, XL, fact, no_toolstack, wanted_endpoint};
use crate::model::{
    Address, EndpointSpec, FailureKind, HostPath, Invocation, Observed, ObservedFile, ObservedHost,
    ObservedPort, PortIndex, PowerState, Problem, Role, TargetSpec, Wait,
};
use crate::render::edit::EditError;
use crate::render::xl_cfg::{XlCfg, devices};
use crate::runner::listening::{UnixListener, unix_listener};
use crate::runner::local::must_succeed;
use crate::runner::{RunError, Runner};
use std::collections::BTreeMap;

/// Where distributions keep the files of VMs.
const FOLDER: &str = "/etc/xen";

/// The setting.
pub(super) const SERIAL: &str = "serial";

/// A VM's file.
pub(super) struct Cfg {
    pub path: HostPath,
    pub bytes: Vec<u8>,
    pub file: XlCfg,
    /// What `xl` calls the domain.
    pub name: String,
}

/// A domain as `xl list` shows it.
struct Domain {
    id: String,
    state: String,
}

/// Looks at all wanted VMs; `xl` is asked once.
pub(super) fn host(runner: &dyn Runner, wanted: &[TargetSpec], wait: &Wait) -> Result<ObservedHost, Problem> {
    let domains = list(runner, wait)?;
    each_by_itself(runner, wanted, |target| vm(runner, target, &domains, wait))
}

fn list(runner: &dyn Runner, wait: &Wait) -> Result<BTreeMap<String, Domain>, Problem> {
    let invocation = Invocation::reads("xl", ["list"]);
    let Some(output) = unless_missing(runner.run(&invocation, wait))? else {
        return Err(no_toolstack(runner));
    };
    let output = must_succeed(runner.host(), &invocation, output)?;
    Ok(domains(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `xl list`: name, ID, memory, CPUs, state, time. A name may have blanks, the columns behind it have none.
fn domains(listing: &str) -> BTreeMap<String, Domain> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let columns = words.len().checked_sub(5).filter(|&count| count > 0)?;
        let (name, rest) = words.split_at(columns);
        let domain = Domain {
            id: rest[0].to_owned(),
            state: rest[3].to_owned(),
        };
        Some((name.join(" "), domain))
    };
    listing.lines().skip(1).filter_map(row).collect()
}

/// The flags of `xl list`: `r`unning, `b`locked, `p`aused, `s`hut down, `c`rashed, `d`ying.
fn power_of(state: &str) -> PowerState {
    match state {
        _ if state.contains('p') => PowerState::Paused,
        _ if state.contains(['s', 'c', 'd']) => PowerState::Unknown,
        _ => PowerState::Running,
    }
}

fn vm(
    runner: &dyn Runner,
    target: &TargetSpec,
    domains: &BTreeMap<String, Domain>,
    wait: &Wait,
) -> Result<Observed, Problem> {
    let cfg = find(runner, target.vm.as_str(), wait)?;
    let domain = domains.get(&cfg.name);
    let mut facts = BTreeMap::from([
        (fact::TOOLSTACK.to_owned(), XL.to_owned()),
        (fact::NAME.to_owned(), cfg.name.clone()),
    ]);
    if let Some(reason) = no_port(&cfg.file) {
        facts.insert(fact::NO_PORT.to_owned(), reason);
    }
    let present = present(&cfg)?;
    let (mut not_live, mut heard) = (Vec::new(), Vec::new());
    for spec in &target.ports {
        let endpoint = wanted_endpoint(
            target,
            spec.port,
            of_port(&present, spec.port).and_then(endpoint_of),
        );
        let (Address::Unix(path), Some(Role::Connect)) = (&endpoint.address, endpoint.role) else {
            continue;
        };
        let listener = unix_listener(&path.to_string_lossy(), runner, wait)?;
        if listener != UnixListener::None {
            heard.push(spec.port.to_string());
        }
        // QEMU connects once, when it starts.
        if listener == UnixListener::Waiting && domain.is_some() {
            not_live.push(spec.port.to_string());
        }
    }
    if !heard.is_empty() {
        facts.insert(fact::HEARD.to_owned(), heard.join(" "));
    }
    if let Some(domain) = domain {
        facts.insert(fact::DOMAIN.to_owned(), domain.id.clone());
        for spec in &target.ports {
            let endpoint = wanted_endpoint(
                target,
                spec.port,
                of_port(&present, spec.port).and_then(endpoint_of),
            );
            if !is_live(runner, &domain.id, spec.port, &endpoint, wait)? {
                not_live.push(spec.port.to_string());
            }
        }
    }
    if !not_live.is_empty() {
        facts.insert(fact::NOT_LIVE.to_owned(), not_live.join(" "));
    }
    let port = |number: u32| {
        let port = PortIndex::new(number).ok()?;
        let device = of_port(&present, port)?;
        let shown = ObservedPort {
            port,
            endpoint: endpoint_of(device).map(device::seen_from_host),
            text: format!("serial[{}] = {device}", port.zero_based()),
        };
        Some(shown)
    };
    Ok(Observed {
        vm: target.vm.clone(),
        power: domain.map_or(PowerState::Off, |domain| power_of(&domain.state)),
        ports: (1..=MAX_PORTS).filter_map(port).collect(),
        gdb_stub: None,
        files: vec![ObservedFile {
            path: cfg.path,
            bytes: Some(cfg.bytes),
        }],
        facts,
    })
}

/// Returns the devices of all ports.
pub(super) fn present(cfg: &Cfg) -> Result<Vec<String>, Problem> {
    let failed = |error| malformed(&cfg.path, &error);
    let text = cfg.file.value(SERIAL).map_err(failed)?;
    text.map_or_else(|| Ok(Vec::new()), |text| devices(&text))
        .map_err(failed)
}

/// Returns the device of one port.
pub(super) fn of_port(present: &[String], port: PortIndex) -> Option<&str> {
    let index = usize::try_from(port.zero_based()).ok()?;
    present.get(index).map(String::as_str)
}

/// Finds a VM's file: by its path, else among the files of the usual folder, by the name of the domain.
pub(super) fn find(runner: &dyn Runner, vm: &str, wait: &Wait) -> Result<Cfg, Problem> {
    let hint =
        "Name the VM by the path of its file (`/etc/xen/dev.cfg`), or by the `name` that stands in it.";
    if vm.contains('/') {
        let path = HostPath::new(vm);
        return match read(runner, &path, wait)? {
            Some(bytes) => parse(path, bytes),
            None => Err(Problem::new(FailureKind::NotFound, format!("there is no file `{path}`")).hint(hint)),
        };
    }
    let mut found = Vec::new();
    for file in runner.list(&HostPath::new(FOLDER), wait)? {
        let path = HostPath::new(format!("{FOLDER}/{file}"));
        // Folders, scripts and examples lie there too; what is no configuration is nobody's VM.
        let Ok(Some(bytes)) = read(runner, &path, wait) else {
            continue;
        };
        if let Ok(cfg) = parse(path, bytes)
            && cfg.name == vm
        {
            found.push(cfg);
        }
    }
    if found.len() > 1 {
        let paths: Vec<String> = found.iter().map(|cfg| format!("`{}`", cfg.path)).collect();
        let message = format!("{} files name a VM `{vm}`: {}", found.len(), paths.join(", "));
        return Err(
            Problem::new(FailureKind::NotFound, message).hint("Name the one that is meant by its path.")
        );
    }
    found.pop().ok_or_else(|| {
        Problem::new(
            FailureKind::NotFound,
            format!("no file in {FOLDER} names a VM `{vm}`"),
        )
        .hint(hint)
    })
}

fn read(runner: &dyn Runner, path: &HostPath, wait: &Wait) -> Result<Option<Vec<u8>>, RunError> {
    Ok(runner.read(path, wait)?.map(|snapshot| snapshot.bytes))
}

/// Takes a VM's file apart.
pub(super) fn parse(path: HostPath, bytes: Vec<u8>) -> Result<Cfg, Problem> {
    let file = XlCfg::parse(&bytes).map_err(|error| malformed(&path, &error))?;
    match file.plain("name") {
        Some(name) => Ok(Cfg {
            path,
            bytes,
            file,
            name,
        }),
        None => Err(Problem::new(
            FailureKind::Configuration,
            format!("`{path}` has no `name`, so it is no VM's file"),
        )),
    }
}

/// Says that a VM's file cannot be edited, and what to do.
pub(super) fn malformed(path: &HostPath, error: &EditError) -> Problem {
    Problem::new(
        FailureKind::Configuration,
        format!("cannot edit `{path}`: {error}"),
    )
    .hint("Nothing was changed. Mend the file by hand; xl would not read it either, or not as it looks.")
}

/// Returns why the VM can have no port, as a fragment.
fn no_port(file: &XlCfg) -> Option<String> {
    let is = |key: &str, value: &str| file.plain(key).is_some_and(|there| there == value);
    if !is("type", "hvm") && !is("builder", "hvm") {
        return Some(
            "it is no HVM guest (`type = \"hvm\"`), so it has no COM port; its console is `hvc0`".to_owned(),
        );
    }
    let stub = is("device_model_stubdomain_override", "1");
    stub.then(|| {
        "its device model runs in a domain of its own, where no file or port of this host is".to_owned()
    })
}

/// What does not move of a VM, as it was found last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    path: HostPath,
    /// What `xl` calls the domain.
    name: String,
    /// The devices of a domain that runs: the file counts for the next one only.
    running: Option<(String, Vec<String>)>,
}

/// Returns where a port is now. Asks `xl` once, reads the VM's file once for each start, and asks xenstore where a pseudo
/// terminal is.
pub(super) fn locate(
    runner: &dyn Runner,
    wanted: &TargetSpec,
    port: PortIndex,
    memory: &Memory<Known>,
    wait: &Wait,
) -> Result<EndpointSpec, Problem> {
    let (mut known, mut cfg) = match memory.get(wanted) {
        Some(known) => (known, None),
        None => {
            let cfg = find(runner, wanted.vm.as_str(), wait)?;
            let known = Known {
                path: cfg.path.clone(),
                name: cfg.name.clone(),
                running: None,
            };
            (known, Some(cfg))
        }
    };
    let domain = domain_of(runner, &known.name, wait)?;
    let present = match (&known.running, &domain) {
        (Some((id, devices)), Some(domain)) if id == domain => devices.clone(),
        _ => {
            let cfg = match cfg.take() {
                Some(cfg) => cfg,
                None => match read(runner, &known.path, wait)? {
                    Some(bytes) => parse(known.path.clone(), bytes)?,
                    None => {
                        memory.forget(wanted);
                        let message = format!("there is no file `{}` any more", known.path);
                        return Err(Problem::new(FailureKind::NotFound, message));
                    }
                },
            };
            known.name.clone_from(&cfg.name);
            present(&cfg)?
        }
    };
    known.running = domain.clone().map(|domain| (domain, present.clone()));
    let path = known.path.clone();
    memory.put(wanted, known);
    let hint = "Set it up with `vmserial setup xen` or `vmserial apply`.";
    let Some(device) = of_port(&present, port) else {
        let message = format!("`{path}` has no port {port}");
        return Err(Problem::new(FailureKind::NotFound, message).hint(hint));
    };
    let Some(endpoint) = endpoint_of(device) else {
        let message = format!("port {port} of `{path}` is nothing that can be opened: `{device}`");
        return Err(Problem::new(FailureKind::Precondition, message).hint(hint));
    };
    located(runner, domain.as_deref(), port, endpoint, wait)
}

/// Asks for the number of a domain; `None` if it does not run.
fn domain_of(runner: &dyn Runner, name: &str, wait: &Wait) -> Result<Option<String>, Problem> {
    let asked = Invocation::reads("xl", ["domid", name]);
    let Some(output) = unless_missing(runner.run(&asked, wait))? else {
        return Err(no_toolstack(runner));
    };
    let domain = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.success() && !domain.is_empty()).then_some(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_xl_is_read() {
        let listing = "\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  4096     4     r-----     812.3
debuggee                                     7  2048     2     -b----      10.1
stopped one                                  9  2048     2     --p---       0.0
gone                                        11     0     1     --ps-d       0.0
";
        let found = domains(listing);
        assert_eq!(found["debuggee"].id, "7");
        assert_eq!(power_of(&found["debuggee"].state), PowerState::Running);
        assert_eq!(power_of(&found["stopped one"].state), PowerState::Paused);
        assert_eq!(found.len(), 4);
        assert!(domains("").is_empty());
    }
}
