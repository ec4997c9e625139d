//! Looks at VMs of XenServer and XCP-ng.

use super::device::{endpoint_of, listening_port};
use super::memory::Memory;
use super::port::{each_by_itself, is_live, located};
use super::records::{NOTHING, Record, in_map};
use super::xe::{self, MARK, OTHER_SERIAL, Parameter, SECURE_BOOT, SERIAL};
use super::{XAPI, fact, secure_boot, wanted_endpoint};
use crate::model::{
    EndpointSpec, FailureKind, HostPath, Observed, ObservedHost, ObservedPort, PortIndex, PowerState,
    Problem, TargetSpec, Wait,
};
use crate::runner::{RunError, Runner};
use std::collections::BTreeMap;

/// A host's own identifier is in this file of XenServer (`INSTALLATION_UUID='…'`).
const INVENTORY: &str = "/etc/xensource-inventory";

/// Where a host sends all consoles instead, if somebody told it to (xenopsd `device.ml`).
pub(super) const LOG_CONSOLE: &str = "/local/logconsole/@";

/// Looks at all wanted VMs, with the listing of all VMs of the pool.
pub(super) fn host(
    runner: &dyn Runner,
    wanted: &[TargetSpec],
    all: &[Record],
    wait: &Wait,
) -> Result<ObservedHost, Problem> {
    let pool = Pool::look(runner, wait)?;
    each_by_itself(runner, wanted, |target| vm(runner, target, all, &pool, wait))
}

/// The hosts of the pool, and which of them this one is.
struct Pool {
    hosts: Vec<Record>,
    here: Option<String>,
    logs_consoles: bool,
}

impl Pool {
    fn look(runner: &dyn Runner, wait: &Wait) -> Result<Self, Problem> {
        let hosts = xe::hosts(runner, wait)?;
        let here = this_host(runner, wait)?;
        let alone = match hosts.as_slice() {
            [one] => one.get("uuid").cloned(),
            _ => None,
        };
        let asked = crate::model::Invocation::reads("xenstore-read", [LOG_CONSOLE]);
        let logs_consoles = match runner.run(&asked, wait) {
            Ok(output) => output.success(),
            Err(RunError::ProgramNotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            hosts,
            here: here.or(alone),
            logs_consoles,
        })
    }

    fn has_several(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Names a host for people, with its address.
    fn named(&self, uuid: &str) -> String {
        let found = self
            .hosts
            .iter()
            .find(|host| host.get("uuid").is_some_and(|one| one == uuid));
        let field = |name: &str| found.and_then(|host| host.get(name)).map(String::as_str);
        match (field("name-label"), field("address")) {
            (Some(name), Some(address)) => format!("`{name}` ({address})"),
            (Some(name), None) => format!("`{name}`"),
            _ => format!("`{uuid}`"),
        }
    }
}

/// Asks the host for its own identifier; `None` if it does not say.
pub(super) fn this_host(runner: &dyn Runner, wait: &Wait) -> Result<Option<String>, Problem> {
    let inventory = runner.read(&HostPath::new(INVENTORY), wait)?;
    let text = inventory.map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    Ok(text.as_deref().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("INSTALLATION_UUID="))?;
        Some(line.trim().trim_matches(['\'', '"']).to_owned())
    }))
}

pub(super) fn field<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record
        .get(name)
        .map(String::as_str)
        .filter(|value| *value != NOTHING)
}

fn vm(
    runner: &dyn Runner,
    target: &TargetSpec,
    all: &[Record],
    pool: &Pool,
    wait: &Wait,
) -> Result<Observed, Problem> {
    let record = the_one(target, all)?;
    let uuid = field(record, "uuid").unwrap_or_default();
    // The listing says which keys there are. Their values are asked for one by one: one with a semicolon cannot be told there.
    let read = |parameter: Parameter| match parameter {
        Parameter::Key(map, key) if field(record, map).is_some_and(|map| !map.contains(key)) => Ok(None),
        parameter => parameter.read(runner, uuid, wait),
    };
    let (serial, other, mark) = (read(SERIAL)?, read(OTHER_SERIAL)?, read(MARK)?);
    let mut facts = BTreeMap::from([
        (fact::TOOLSTACK.to_owned(), XAPI.to_owned()),
        (fact::UUID.to_owned(), uuid.to_owned()),
    ]);
    let mut note = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    let power = power_of(field(record, "power-state").unwrap_or_default());
    let domain = field(record, "dom-id").filter(|domain| *domain != "-1");
    let resident = field(record, "resident-on").filter(|_| power != PowerState::Off);
    let elsewhere = resident.filter(|host| pool.here.as_deref().is_some_and(|here| here != *host));
    note(fact::ELSEWHERE, elsewhere.map(|host| pool.named(host)));
    let affinity = field(record, "affinity");
    note(fact::AFFINITY, affinity.map(ToOwned::to_owned));
    if pool.has_several() {
        note(fact::POOL_HOST, pool.here.clone());
        let other_home = affinity.filter(|home| pool.here.as_deref().is_some_and(|here| here != *home));
        if elsewhere.is_none() && resident.is_none() {
            note(fact::ELSEWHERE, other_home.map(|host| pool.named(host)));
        }
    }
    note(fact::NO_PORT, no_port(record, pool));
    note(fact::DOMAIN, domain.map(ToOwned::to_owned));
    let runs_here = domain.filter(|_| power == PowerState::Running && elsewhere.is_none());
    secure_boot::look(runner, record, read(SECURE_BOOT)?, runs_here, &mut note, wait)?;
    note(fact::SERIAL, serial.clone());
    note(fact::OTHER_SERIAL, other.clone());
    note(fact::MARK, mark);
    note(fact::TAKEN, Some(taken(uuid, resident.or(affinity), all)));
    let endpoint = endpoint_of(serial.as_deref().or(other.as_deref()).unwrap_or("pty"));
    if let Some(domain) = runs_here {
        let wanted = wanted_endpoint(target, PortIndex::FIRST, endpoint.clone());
        if !is_live(runner, domain, PortIndex::FIRST, &wanted, wait)? {
            note(fact::NOT_LIVE, Some(PortIndex::FIRST.to_string()));
        }
    }
    Ok(Observed {
        vm: target.vm.clone(),
        power,
        ports: vec![ObservedPort {
            port: PortIndex::FIRST,
            endpoint: endpoint.map(super::device::seen_from_host),
            text: shown(serial.as_deref(), other.as_deref()),
        }],
        gdb_stub: None,
        files: Vec::new(),
        facts,
    })
}

/// Writes the setting as xapi has it, for people.
fn shown(serial: Option<&str>, other: Option<&str>) -> String {
    match (serial, other) {
        (None, None) => "no hvm_serial, so it is xapi's default `pty`".to_owned(),
        (Some(serial), None) => format!("platform:hvm_serial={serial}"),
        (None, Some(other)) => format!("other-config:hvm_serial={other}"),
        (Some(serial), Some(other)) if serial == other => {
            format!("platform:hvm_serial={serial} (other-config:hvm_serial says the same)")
        }
        (Some(serial), Some(other)) => {
            format!(
                "platform:hvm_serial={serial} (other-config:hvm_serial={other} is there too and does not count)"
            )
        }
    }
}

fn power_of(word: &str) -> PowerState {
    match word.to_ascii_lowercase().as_str() {
        "running" => PowerState::Running,
        "halted" => PowerState::Off,
        "paused" => PowerState::Paused,
        "suspended" => PowerState::Suspended,
        _ => PowerState::Unknown,
    }
}

/// Finds the VM that is meant.
///
/// # Errors
///
/// None or several.
fn the_one<'a>(target: &TargetSpec, all: &'a [Record]) -> Result<&'a Record, Problem> {
    let name = target.vm.as_str();
    let by = if xe::is_uuid(name) { "uuid" } else { "name-label" };
    let found: Vec<&Record> = all
        .iter()
        .filter(|record| field(record, by).is_some_and(|value| value == name))
        .collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(no_such_vm(name)),
        several => Err(several_vms(
            name,
            several.iter().filter_map(|one| field(one, "uuid")),
        )),
    }
}

fn no_such_vm(name: &str) -> Problem {
    Problem::new(FailureKind::NotFound, format!("xapi knows no VM `{name}`"))
        .hint("`xe vm-list` on the host shows names and UUIDs; templates and snapshots do not count.")
}

fn several_vms<'a>(name: &str, uuids: impl Iterator<Item = &'a str>) -> Problem {
    let uuids: Vec<String> = uuids.map(|uuid| format!("`{uuid}`")).collect();
    Problem::new(
        FailureKind::NotFound,
        format!("{} VMs have the name `{name}`: {}", uuids.len(), uuids.join(", ")),
    )
    .hint("Name the one that is meant by its UUID.")
}

/// Returns why a VM can have no port, as a fragment.
fn no_port(record: &Record, pool: &Pool) -> Option<String> {
    if field(record, "is-control-domain") == Some("true") {
        return Some("it is the host's own system (dom0), no VM".to_owned());
    }
    let hvm = match field(record, "domain-type") {
        Some("hvm") => true,
        Some("pv" | "pvh" | "pv_in_pvh") => false,
        // Before XenServer 7.5, and until its first start.
        _ => field(record, "HVM-boot-policy").is_some_and(|policy| !policy.is_empty()),
    };
    if !hvm {
        return Some("it is no HVM guest, so it has no COM port; its console is `hvc0`".to_owned());
    }
    let logs = "the host logs all consoles to files instead (xenstore `/local/logconsole/@`)";
    pool.logs_consoles.then(|| logs.to_owned())
}

/// Lists the TCP ports that other VMs have where this one runs: a line each, the port and the VM's name.
fn taken(uuid: &str, home: Option<&str>, all: &[Record]) -> String {
    let line = |other: &Record| {
        if field(other, "uuid") == Some(uuid) {
            return None;
        }
        let map = |name: &str| field(other, name).and_then(|map| in_map(map, "hvm_serial"));
        let device = map("platform").or(map("other-config"))?;
        let port = listening_port(&endpoint_of(device)?)?;
        // Two that are at home on different hosts do not meet.
        let theirs = field(other, "resident-on").or(field(other, "affinity"));
        let apart = matches!((home, theirs), (Some(home), Some(theirs)) if home != theirs);
        (!apart).then(|| format!("{port} {}", field(other, "name-label").unwrap_or_default()))
    };
    all.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// What does not move of a VM.
#[derive(Debug, Clone)]
pub(super) struct Known {
    uuid: String,
    /// The host that we ask, where it says who it is.
    here: Option<String>,
}

/// Returns where the port is now; `None` if the host has no `xe`. Asks xapi once, and xenstore where a pseudo terminal is.
pub(super) fn locate(
    runner: &dyn Runner,
    wanted: &TargetSpec,
    port: PortIndex,
    memory: &Memory<Known>,
    wait: &Wait,
) -> Result<Option<EndpointSpec>, Problem> {
    let name = wanted.vm.as_str();
    let known = memory.get(wanted);
    let by = known.as_ref().map_or(name, |known| known.uuid.as_str());
    let Some(found) = xe::named(runner, by, wait)? else {
        return Ok(None);
    };
    let record = match found.as_slice() {
        [one] => one,
        [] => {
            memory.forget(wanted);
            return Err(no_such_vm(name));
        }
        several => {
            return Err(several_vms(
                name,
                several.iter().filter_map(|one| field(one, "uuid")),
            ));
        }
    };
    let known = match known {
        Some(known) => known,
        None => {
            let known = Known {
                uuid: field(record, "uuid").unwrap_or_default().to_owned(),
                here: this_host(runner, wait)?,
            };
            memory.put(wanted, known.clone());
            known
        }
    };
    super::xapi_stages::check_port(port)?;
    let map = |name: &str| field(record, name).and_then(|map| in_map(map, "hvm_serial"));
    let value = map("platform").or(map("other-config")).unwrap_or("pty");
    let endpoint = endpoint_of(value).ok_or_else(|| {
        Problem::new(
            FailureKind::Precondition,
            format!("port {port} of `{name}` is nothing that can be opened: `{value}`"),
        )
        .hint("Set it up with `vmserial setup xen` or `vmserial apply`.")
    })?;
    // A domain's number is its own host's: another host may have one of the same number, which is another VM.
    if let (Some(here), Some(there)) = (&known.here, field(record, "resident-on"))
        && here != there
    {
        let message = format!("`{name}` runs on another host of the pool now: `{there}`");
        return Err(Problem::new(FailureKind::Precondition, message)
            .hint("Name that host, or move the VM back: its port is on the host that runs it."));
    }
    let domain = field(record, "dom-id").filter(|domain| *domain != "-1");
    located(runner, domain, port, endpoint, wait).map(Some)
}
