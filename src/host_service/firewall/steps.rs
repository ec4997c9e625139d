//! Plans the rules that let others reach ports, and how they go away again.

use super::firewalld;
use super::observed::{ObservedFirewall, Rules};
use super::own_way::check_own_way;
use crate::model::{
    AddressRange, Digest, EditOperation, FailureKind, Family, FileEdit, FileFormat, FirewallSpec,
    FirewallWanted, HostRef, Invocation, PortRange, Problem, Source, TargetName,
};
use crate::plan::mark::mark;
use crate::plan::{Action, Effect, FirewallChange, Guard, LiveChange, LiveDigest, Step, Undo};
use crate::render::edit;
use crate::render::iptables::{Connection, FILTER, Rule, RuleFile, fate};

/// The chain of the host's own helper.
const HELPER_CHAIN: &str = "xapi-INPUT";

/// What one target wants of its host's firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// For which target.
    pub target: TargetName,
    /// What.
    pub spec: FirewallSpec,
}

/// One thing that is wanted open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening<'a> {
    pub target: &'a TargetName,
    pub ports: PortRange,
    pub source: Source,
    pub temporary: bool,
}

impl Opening<'_> {
    pub(super) fn family(&self) -> Family {
        match self.source {
            Source::Any => Family::V4,
            Source::Range(range) => range.family(),
        }
    }

    pub(super) fn connection(&self) -> Connection {
        let source = match self.source {
            Source::Any => AddressRange::all(Family::V4),
            Source::Range(range) => range,
        };
        Connection::new(source, self.ports)
    }
}

pub(super) fn openings(wants: &[Want]) -> Vec<Opening<'_>> {
    let each = wants.iter().filter_map(|want| match &want.spec.wanted {
        FirewallWanted::Open {
            ports,
            allow_from,
            temporary,
        } => Some(allow_from.iter().map(move |source| Opening {
            target: &want.target,
            ports: *ports,
            source: *source,
            temporary: *temporary,
        })),
        FirewallWanted::Closed => None,
    });
    each.flatten().collect()
}

/// Plans what is to be done to a host's firewall; nothing if it is as wanted.
///
/// # Errors
///
/// Precondition: there is no firewall that vmserial knows, its rules cannot be seen, or the change would lock us out;
/// configuration: the file of rules cannot be edited.
pub fn steps(host: &HostRef, wants: &[Want], observed: &ObservedFirewall) -> Result<Vec<Step>, Problem> {
    let mut steps = unmarked_steps(host, wants, observed)?;
    let openings = openings(wants);
    // One change is closed as one: it stays where a part of it is to stay.
    let temporary = !openings.is_empty() && openings.iter().all(|opening| opening.temporary);
    for step in &mut steps {
        if let Action::Firewall(change) = &mut step.action {
            change.temporary = temporary;
        }
    }
    Ok(steps)
}

fn unmarked_steps(host: &HostRef, wants: &[Want], observed: &ObservedFirewall) -> Result<Vec<Step>, Problem> {
    let longest = wants.iter().map(|want| want.spec.confirm_within).max();
    let guard_seconds = longest.unwrap_or(FirewallSpec::CONFIRM_WITHIN).as_secs().max(1);
    let openings = openings(wants);
    if let Some(own) = openings.iter().find(|opening| observed.is_own_way(opening.ports)) {
        let message = format!(
            "the ports {} have the one by which we are on {host}: closing them again would lock us out",
            own.ports
        );
        return Err(Problem::new(FailureKind::Precondition, message).hint("Take other ports."));
    }
    if let Some(firewalld) = &observed.firewalld {
        return Ok(firewalld::steps(host, wants, firewalld, guard_seconds));
    }
    let mut steps = Vec::new();
    for family in [Family::V4, Family::V6] {
        let wanted: Vec<Opening<'_>> = openings
            .iter()
            .filter(|opening| opening.family() == family)
            .copied()
            .collect();
        let closes = wants
            .iter()
            .any(|want| want.spec.wanted == FirewallWanted::Closed);
        if wanted.is_empty() && !closes {
            continue;
        }
        let Some(rules) = observed.of(family) else {
            if wanted.is_empty() {
                continue;
            }
            let message = format!(
                "{host} has neither iptables nor a firewalld that runs, so its firewall for {family} is not known"
            );
            return Err(Problem::new(FailureKind::Precondition, message)
                .hint("Leave `--allow-from` out and go through SSH, or open the port by hand."));
        };
        steps.extend(of_family(host, wants, &wanted, rules, observed, guard_seconds)?);
    }
    Ok(steps)
}

/// The change of one family's rules that is being put together.
struct Draft<'a> {
    rules: &'a Rules,
    /// Rules in force, as they will be.
    live: RuleFile,
    /// The file's, as they will be.
    file: Option<RuleFile>,
    changes: Vec<LiveChange>,
    operations: Vec<EditOperation>,
    notes: Vec<String>,
    summaries: Vec<String>,
    uses_helper: bool,
}

fn of_family(
    host: &HostRef,
    wants: &[Want],
    openings: &[Opening<'_>],
    rules: &Rules,
    observed: &ObservedFirewall,
    guard_seconds: u64,
) -> Result<Option<Step>, Problem> {
    // Without rights to see them nothing of ours can be there.
    if openings.is_empty() && rules.live.is_err() {
        return Ok(None);
    }
    let live_text = rules.live.as_ref().map_err(|words| {
        Problem::new(
            FailureKind::Precondition,
            format!("the rules in force on {host} cannot be seen: {}", words.trim()),
        )
        .hint(
            "Go there as root (`--host root@HOST`), or with `sudo: true` in the host's entry of the profile.",
        )
    })?;
    let live = parsed(&format!("`{}`", rules.save), live_text.as_bytes())?;
    let present = rules
        .file
        .as_ref()
        .and_then(|file| Some((file, file.bytes.as_deref()?)));
    let file = present
        .map(|(file, bytes)| parsed(&format!("`{}`", file.path), bytes))
        .transpose()?;
    let mut draft = Draft {
        rules,
        live: live.clone(),
        file,
        changes: Vec::new(),
        operations: Vec::new(),
        notes: Vec::new(),
        summaries: Vec::new(),
        uses_helper: false,
    };
    for want in wants
        .iter()
        .filter(|want| want.spec.wanted == FirewallWanted::Closed)
    {
        draft.close(want)?;
    }
    for opening in openings {
        draft.open(opening, observed.helper.as_deref())?;
    }
    check_own_way(observed.ssh, &live, &draft.live)?;
    Ok(draft.step(host, guard_seconds, LiveDigest::of(live_text)))
}

fn parsed(what: &str, bytes: &[u8]) -> Result<RuleFile, Problem> {
    RuleFile::parse(bytes).map_err(|error| cannot_edit(what, &error))
}

fn cannot_edit(what: &str, error: &edit::EditError) -> Problem {
    Problem::new(
        FailureKind::Configuration,
        format!("{what} cannot be edited: {error}"),
    )
    .hint("Open the port by hand; vmserial sees it then and leaves it alone.")
}

impl Draft<'_> {
    fn open(&mut self, opening: &Opening<'_>, helper: Option<&str>) -> Result<(), Problem> {
        let connection = opening.connection();
        let what = format!("TCP {} for {}", ports_text(opening.ports), opening.source);
        let is_open = fate(&self.live, &connection).open;
        if let Some(helper) = helper.filter(|_| opening.source == Source::Any && !opening.temporary) {
            if !is_open {
                self.by_helper(helper, opening)?;
                self.summaries.push(what);
            }
            return Ok(());
        }
        let mut changed = false;
        if !is_open {
            let chain = fate(&self.live, &connection).by.chain;
            let rule = rule(&chain, opening);
            self.insert(&rule)?;
            changed = true;
        }
        let file_chain = match (&self.file, opening.temporary) {
            (Some(file), false) => Some(fate(file, &connection))
                .filter(|fate| !fate.open)
                .map(|fate| fate.by.chain),
            _ => None,
        };
        if let Some(chain) = file_chain {
            let rule = rule(&chain, opening);
            let key = rule.to_string();
            let path = self
                .rules
                .file
                .as_ref()
                .map(|file| file.path.to_string())
                .unwrap_or_default();
            if let Some(file) = &mut self.file {
                file.set(&key, FILTER)
                    .map_err(|error| cannot_edit(&format!("`{path}`"), &error))?;
            }
            self.operations.push(EditOperation::Set {
                key,
                value: FILTER.to_owned(),
            });
            changed = true;
        }
        if changed {
            self.summaries.push(what);
            let refused = fate(&self.live, &connection).refused_in_part.len();
            if refused > 0 {
                self.notes.push(format!(
                    "{refused} of the host's own rules stand above ours and may refuse some of these connections; they are left alone"
                ));
            }
            if opening.temporary {
                self.notes.push(
                    "only until this session ends, and never in the file that the host reads when it starts"
                        .to_owned(),
                );
            } else if self.file.is_none() {
                self.notes.push(
                    "no file of rules was found: the rule is gone when the host starts again".to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Puts a rule of ours among those in force, at the place that the file's editor would give it.
    fn insert(&mut self, rule: &Rule) -> Result<(), Problem> {
        let key = rule.to_string();
        self.live
            .set(&key, FILTER)
            .map_err(|error| cannot_edit("the rules in force", &error))?;
        let position = position(&self.live, rule);
        self.changes.push(LiveChange {
            run: self.command("-I", rule, Some(position)),
            back: self.command("-D", rule, None),
            look: Invocation {
                purpose: crate::model::Purpose::Reads,
                ..self.command("-C", rule, None)
            },
            adds: true,
            rule: Some(key),
        });
        Ok(())
    }

    fn by_helper(&mut self, helper: &str, opening: &Opening<'_>) -> Result<(), Problem> {
        let ports = opening.ports.to_string();
        let line =
            format!("-A {HELPER_CHAIN} -p tcp -m conntrack --ctstate NEW -m tcp --dport {ports} -j ACCEPT");
        let rule =
            Rule::parse(&line).map_err(|error| Problem::new(FailureKind::Internal, error.to_string()))?;
        let run = |verb: &str| Invocation::changes(helper, [verb, &ports, "tcp"]);
        self.changes.push(LiveChange {
            run: run("open"),
            back: run("close"),
            look: Invocation {
                purpose: crate::model::Purpose::Reads,
                ..self.command("-C", &rule, None)
            },
            adds: true,
            rule: Some(line),
        });
        self.uses_helper = true;
        self.notes.push(
            "the host's own helper writes its file of rules anew from those in force: comments in that file are lost".to_owned(),
        );
        Ok(())
    }

    /// Takes away what is marked as the target's.
    fn close(&mut self, want: &Want) -> Result<(), Problem> {
        let words = mark(&want.target);
        let marked = |file: &RuleFile| -> Vec<Rule> {
            file.all_rules()
                .filter(|rule| rule.comment() == Some(&words))
                .cloned()
                .collect()
        };
        let live = marked(&self.live);
        for rule in &live {
            let key = rule.to_string();
            let position = position(&self.live, rule);
            self.live
                .remove(&key)
                .map_err(|error| cannot_edit("the rules in force", &error))?;
            self.changes.push(LiveChange {
                run: self.command("-D", rule, None),
                back: self.command("-I", rule, Some(position)),
                look: Invocation {
                    purpose: crate::model::Purpose::Reads,
                    ..self.command("-C", rule, None)
                },
                adds: false,
                rule: Some(key),
            });
        }
        let kept = self.file.as_ref().map(marked).unwrap_or_default();
        for rule in &kept {
            let key = rule.to_string();
            if let Some(file) = &mut self.file {
                file.remove(&key)
                    .map_err(|error| cannot_edit("the file of rules", &error))?;
            }
            self.operations.push(EditOperation::Remove { key });
        }
        if !live.is_empty() || !kept.is_empty() {
            self.summaries.push(format!("what is open for {}", want.target));
        }
        Ok(())
    }

    fn command(&self, verb: &str, rule: &Rule, position: Option<usize>) -> Invocation {
        // Whoever else changes the rules is waited for.
        let front = ["-w", verb, rule.chain()].map(str::to_owned).into_iter();
        let words = front
            .chain(position.map(|position| position.to_string()))
            .chain(rule.words().iter().cloned());
        Invocation::changes(self.rules.program.clone(), words)
    }

    fn step(self, host: &HostRef, guard_seconds: u64, live: Digest) -> Option<Step> {
        if self.changes.is_empty() && self.operations.is_empty() {
            return None;
        }
        let rules = self.rules;
        let opens = self.changes.iter().any(|change| change.adds)
            || self
                .operations
                .iter()
                .any(|operation| operation.value().is_some());
        let observed = rules.file.as_ref().filter(|_| !self.operations.is_empty());
        let file = observed.map(|file| FileEdit {
            path: file.path.clone(),
            format: FileFormat::Iptables,
            planned_on: file.digest(),
            operations: self.operations.clone(),
            before: file.bytes.clone(),
        });
        let guarded = rules.file.as_ref().filter(|file| file.bytes.is_some());
        let mut notes = self.notes;
        notes.extend(warning(opens));
        let change = FirewallChange {
            live: self.changes,
            test: file
                .as_ref()
                .map(|_| Invocation::reads(rules.restore.clone(), ["--test"])),
            file,
            planned_on: Some(LiveDigest {
                look: Invocation::reads(rules.save.clone(), ["-t", FILTER]),
                digest: live,
            }),
            guard: Guard {
                seconds: guard_seconds,
                file: guarded.map(|file| file.path.clone()),
                save: Some(rules.save.clone()),
                restore: Some(rules.restore.clone()),
            },
            temporary: false,
        };
        Some(step(host, summary(opens, &self.summaries), change, notes))
    }
}

/// What a plan says of every port that is opened.
pub(super) fn warning(opens: bool) -> Option<String> {
    opens.then(|| {
        "whoever may connect has a kernel debugger or a console that asks for no password; it stays open until it is taken back".to_owned()
    })
}

pub(super) fn summary(opens: bool, parts: &[String]) -> String {
    format!(
        "{} in the firewall: {}",
        if opens { "open" } else { "close" },
        parts.join(", ")
    )
}

pub(super) fn step(host: &HostRef, summary: String, change: FirewallChange, notes: Vec<String>) -> Step {
    Step {
        summary,
        host: host.clone(),
        target: None,
        action: Action::Firewall(Box::new(change)),
        undo: Undo::Firewall,
        effect: Effect::Live,
        power: None,
        notes,
        confirm: None,
    }
}

pub(super) fn ports_text(ports: PortRange) -> String {
    match ports.first() == ports.last() {
        true => format!("port {ports}"),
        false => format!("ports {ports}"),
    }
}

fn rule(chain: &str, opening: &Opening<'_>) -> Rule {
    Rule::accept(chain, opening.source, opening.ports, &mark(opening.target))
}

/// Where a rule stands in its chain, from 1.
fn position(file: &RuleFile, rule: &Rule) -> usize {
    let rules = file.rules(rule.chain());
    rules
        .iter()
        .position(|other| other.says_the_same(rule))
        .map_or(1, |index| index + 1)
}
