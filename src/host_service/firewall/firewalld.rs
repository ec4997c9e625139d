//! firewalld: rules in force and rules after its next start, both by its own program. It has no place for a mark.

use super::observed::Firewalld;
use super::steps::{Opening, Want, openings, ports_text, step, summary, warning};
use crate::model::{HostRef, Invocation, PortRange, Source};
use crate::plan::{FirewallChange, Guard, LiveChange, Step};

/// Plans what is wanted open. firewalld cannot tell whose a rule is, so nothing is closed but by an undo.
pub(super) fn steps(host: &HostRef, wants: &[Want], firewalld: &Firewalld, guard_seconds: u64) -> Vec<Step> {
    let (mut live, mut summaries) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();
    for opening in openings(wants) {
        let word = word(&opening);
        let before = live.len();
        if !covers(&firewalld.ports, &firewalld.rules, &opening, &word) {
            live.push(change(firewalld, &[], &word));
        }
        if !opening.temporary && !covers(&firewalld.kept_ports, &firewalld.kept_rules, &opening, &word) {
            live.push(change(firewalld, &["--permanent"], &word));
        }
        if live.len() > before {
            summaries.push(format!(
                "TCP {} for {}",
                ports_text(opening.ports),
                opening.source
            ));
        }
        if opening.temporary {
            notes.push("only until this session ends, and never in what firewalld keeps".to_owned());
        }
    }
    if live.is_empty() {
        return Vec::new();
    }
    notes.push(format!(
        "firewalld's zone `{}`; it is not restarted and not reloaded",
        firewalld.zone
    ));
    notes.extend(warning(true));
    let change = FirewallChange {
        live,
        file: None,
        test: None,
        planned_on: None,
        guard: Guard {
            seconds: guard_seconds,
            file: None,
            save: None,
            restore: None,
        },
        temporary: false,
    };
    vec![step(host, summary(true, &summaries), change, notes)]
}

/// What is added, queried and removed: `port=7001/tcp` for everybody, else a rich rule.
fn word(opening: &Opening<'_>) -> (&'static str, String) {
    let ports = dashed(opening.ports);
    match opening.source {
        Source::Any => ("port", format!("{ports}/tcp")),
        Source::Range(range) => {
            let family = match range.family() {
                crate::model::Family::V4 => "ipv4",
                crate::model::Family::V6 => "ipv6",
            };
            let rule = format!(
                "rule family=\"{family}\" source address=\"{range}\" port port=\"{ports}\" protocol=\"tcp\" accept"
            );
            ("rich-rule", rule)
        }
    }
}

fn dashed(ports: PortRange) -> String {
    ports.to_string().replace(':', "-")
}

fn change(firewalld: &Firewalld, kind: &[&str], (name, value): &(&str, String)) -> LiveChange {
    let zone = format!("--zone={}", firewalld.zone);
    let words = |verb: &str| {
        let last = format!("--{verb}-{name}={value}");
        kind.iter()
            .map(|word| (*word).to_owned())
            .chain([zone.clone(), last])
            .collect::<Vec<_>>()
    };
    LiveChange {
        run: Invocation::changes(&firewalld.program, words("add")),
        back: Invocation::changes(&firewalld.program, words("remove")),
        look: Invocation::reads(&firewalld.program, words("query")),
        adds: true,
        rule: None,
    }
}

/// Tells whether the ports are open already: by a port of everybody, or by the very rule.
fn covers(ports: &str, rules: &str, opening: &Opening<'_>, (_, value): &(&str, String)) -> bool {
    let by_port = ports.split_whitespace().any(|port| {
        port.strip_suffix("/tcp")
            .and_then(|range| range.replace('-', ":").parse::<PortRange>().ok())
            .is_some_and(|range| range.contains(opening.ports))
    });
    by_port || rules.lines().any(|rule| rule.trim() == value)
}
