//! A host's firewall as people read it.

use super::observed::{ObservedFirewall, Rules};
use super::steps::{Want, openings, ports_text};
use crate::model::{AddressRange, CheckState, Family, FirewallWanted, PortRange};
use crate::render::iptables::{Connection, Fate, Rule, RuleFile, fate};

/// By which comments our rules are known, whoever's target they are for.
const MARK: &str = "set by vmserial";

/// Tells for whom ports are open, by which rule, in force and in the file: a sentence a line.
pub fn told(observed: &ObservedFirewall, ports: PortRange) -> Vec<String> {
    let what = ports_text(ports);
    if let Some(firewalld) = &observed.firewalld {
        let mut lines = vec![format!(
            "firewalld, zone `{}`: ports in force: {}",
            firewalld.zone,
            or_none(&firewalld.ports)
        )];
        lines.extend(
            firewalld
                .rules
                .lines()
                .map(|rule| format!("firewalld, in force: {rule}")),
        );
        return lines;
    }
    let Some(rules) = observed.of(Family::V4) else {
        return vec!["no iptables and no firewalld that runs".to_owned()];
    };
    let mut lines = Vec::new();
    match &rules.live {
        Err(words) => lines.push(format!("the rules in force cannot be seen: {}", words.trim())),
        Ok(text) => lines.extend(of_rules("in force", text.as_bytes(), ports, &what)),
    }
    lines.extend(file_told(rules, ports, &what));
    lines
}

/// Tells in a line which firewall there is and how many of its rules are ours, and whether all is well with it.
pub fn summary(observed: &ObservedFirewall) -> (CheckState, String) {
    if let Some(firewalld) = &observed.firewalld {
        let rules = firewalld.rules.lines().count();
        return (
            CheckState::Good,
            format!("firewalld, zone `{}`, {rules} rich rules", firewalld.zone),
        );
    }
    let Some(rules) = observed.of(Family::V4) else {
        return (
            CheckState::Good,
            "no iptables and no firewalld that runs".to_owned(),
        );
    };
    let ours = |bytes: &[u8]| {
        let file = RuleFile::parse(bytes).ok()?;
        Some(file.all_rules().filter(|rule| is_ours(rule)).count())
    };
    let live = match &rules.live {
        Ok(text) => ours(text.as_bytes()),
        Err(words) => {
            return (
                CheckState::Advice,
                format!("the rules in force cannot be seen: {}", words.trim()),
            );
        }
    };
    let kept = rules.file.as_ref().and_then(|file| ours(file.bytes.as_deref()?));
    let number = |count: Option<usize>| match count {
        Some(1) => "1 rule of ours".to_owned(),
        Some(count) => format!("{count} rules of ours"),
        None => "rules that are not understood".to_owned(),
    };
    let file = match &rules.file {
        Some(file) => format!("{} in `{}`", number(kept), file.path),
        None => "no file of rules".to_owned(),
    };
    (
        CheckState::Good,
        format!("iptables: {} in force, {file}", number(live)),
    )
}

fn is_ours(rule: &Rule) -> bool {
    rule.comment().is_some_and(|comment| comment.starts_with(MARK))
}

fn or_none(text: &str) -> &str {
    if text.trim().is_empty() { "none" } else { text }
}

fn file_told(rules: &Rules, ports: PortRange, what: &str) -> Vec<String> {
    match rules
        .file
        .as_ref()
        .and_then(|file| Some((&file.path, file.bytes.as_deref()?)))
    {
        Some((path, bytes)) => of_rules(&format!("in `{path}`"), bytes, ports, what),
        None => vec!["no file of rules that the host reads when it starts".to_owned()],
    }
}

fn of_rules(place: &str, bytes: &[u8], ports: PortRange, what: &str) -> Vec<String> {
    let file = match RuleFile::parse(bytes) {
        Ok(file) => file,
        Err(error) => return vec![format!("{place}: not understood: {error}")],
    };
    let everybody = fate(&file, &Connection::new(AddressRange::all(Family::V4), ports));
    if everybody.is_surely_open() {
        let by = rule_at(&file, &everybody).map_or_else(|| "no rule refuses it".to_owned(), by);
        return vec![format!("{place}: {what} open for everybody ({by})")];
    }
    let some: Vec<String> = everybody
        .let_in_in_part
        .iter()
        .filter_map(|place| file.rules(&place.chain).get(place.index?).copied())
        .map(|rule| format!("{place}: {what} open for some: {}", by(rule)))
        .collect();
    match some.is_empty() {
        true => vec![format!("{place}: {what} closed")],
        false => some,
    }
}

fn by(rule: &Rule) -> String {
    match rule.comment() {
        Some(comment) if comment.starts_with(MARK) => format!("our rule `{rule}`"),
        _ => format!("a rule that vmserial did not make: `{rule}`"),
    }
}

fn rule_at<'a>(file: &'a RuleFile, fate: &Fate) -> Option<&'a Rule> {
    file.rules(&fate.by.chain).get(fate.by.index?).copied()
}

/// Tells what of the wants is there already, and by whose rules: nothing is done about those.
pub fn wants_told(wants: &[Want], observed: &ObservedFirewall) -> Vec<String> {
    let mut lines = Vec::new();
    let closes = wants
        .iter()
        .any(|want| matches!(want.spec.wanted, FirewallWanted::Closed));
    if closes && observed.firewalld.is_some() {
        lines.push(
            "firewalld keeps no mark of whose a rule is, so none of its rules is closed here: `vmserial undo` closes what vmserial opened (`vmserial journal` has the entry)"
                .to_owned(),
        );
    }
    for opening in openings(wants) {
        let Some(text) = observed
            .of(opening.family())
            .and_then(|rules| rules.live.as_ref().ok())
        else {
            continue;
        };
        let Ok(file) = RuleFile::parse(text.as_bytes()) else {
            continue;
        };
        let fate = fate(&file, &opening.connection());
        if !fate.open {
            continue;
        }
        let what = format!("TCP {} for {}", ports_text(opening.ports), opening.source);
        lines.push(match rule_at(&file, &fate) {
            Some(rule) if is_ours(rule) => {
                format!("{what} is open already by our rule `{rule}`")
            }
            Some(rule) => format!(
                "{what} is open already by a rule that vmserial did not make, which is left alone: `{rule}`"
            ),
            None => format!("{what} is open already: no rule refuses it"),
        });
    }
    lines
}
