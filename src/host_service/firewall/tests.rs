//! Plans of firewalls from what was seen: no host is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{
    CheckState, Digest, FailureKind, Family, FirewallSpec, FirewallWanted, HostPath, HostRef, ObservedFile,
    Problem, Source,
};
use crate::plan::{Action, FirewallChange, Step};
use crate::render::iptables::RuleFile;
use std::time::Duration;

const XENSERVER: &str = include_str!("../../../tests/data/iptables/xenserver");

fn rules(family: Family, live: &str, file: Option<&str>) -> Rules {
    let name = if family == Family::V4 {
        "iptables"
    } else {
        "ip6tables"
    };
    Rules {
        family,
        program: format!("/sbin/{name}"),
        save: format!("/sbin/{name}-save"),
        restore: format!("/sbin/{name}-restore"),
        live: Ok(live.to_owned()),
        file: file.map(|text| ObservedFile {
            path: HostPath::new(format!("/etc/sysconfig/{name}")),
            bytes: Some(text.as_bytes().to_vec()),
        }),
    }
}

fn observed() -> ObservedFirewall {
    ObservedFirewall {
        ssh: ObservedFirewall::parse(b"ssh 0 28\n192.0.2.7 50123 192.0.2.1 22\n").ssh,
        rules: vec![rules(Family::V4, XENSERVER, Some(XENSERVER))],
        firewalld: None,
        helper: None,
        waits: false,
    }
}

fn wants(allow_from: &str, temporary: bool) -> Vec<Want> {
    vec![Want {
        target: "dev".parse().unwrap(),
        spec: FirewallSpec {
            wanted: FirewallWanted::Open {
                ports: "7001:7002".parse().unwrap(),
                allow_from: Source::list(allow_from).unwrap(),
                temporary,
            },
            confirm_within: Duration::from_secs(40),
        },
    }]
}

fn plan(wants: &[Want], observed: &ObservedFirewall) -> Result<Vec<Step>, Problem> {
    steps(&HostRef::Local, wants, observed)
}

fn change(step: &Step) -> &FirewallChange {
    match &step.action {
        Action::Firewall(change) => change,
        other => panic!("{other:?}"),
    }
}

fn commands(step: &Step) -> Vec<String> {
    change(step).live.iter().map(|one| one.run.to_string()).collect()
}

#[test]
fn what_the_script_prints_is_taken_apart() {
    let printed = b"ssh 0 34\n10.0.0.9 50123 10.0.0.1 22        \niptables 0 14\n/sbin/iptables\niptables-save 0 5\na\nb\nc\niptables-save-program 0 1\ns\niptables-restore-program 0 1\nr\niptables-file 0 2\n/f\nhelper 0 2\n/h\nip6tables-save 1 0\n\nbroken\n";
    let seen = ObservedFirewall::parse(printed);
    let way = seen.ssh.unwrap();
    assert_eq!((way.from.to_string().as_str(), way.port), ("10.0.0.9", 22));
    assert_eq!(seen.rules.len(), 1);
    assert_eq!(seen.rules[0].live, Ok("a\nb\nc".to_owned()));
    assert_eq!(seen.rules[0].file.as_ref().unwrap().path, HostPath::new("/f"));
    assert_eq!((seen.helper.as_deref(), seen.firewalld), (Some("/h"), None));
    assert_eq!(
        ObservedFirewall::parse(b"ssh 0 999\nshort"),
        ObservedFirewall::default()
    );
}

#[test]
fn a_range_of_addresses_is_a_rule_of_ours_in_force_and_in_the_file() {
    let steps = plan(&wants("10.0.0.0/24,10.1.0.7", false), &observed()).unwrap();
    let [step] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    let place = RuleFile::parse(XENSERVER.as_bytes())
        .unwrap()
        .rules("RH-Firewall-1-INPUT")
        .len();
    let (first, second) = (place, place + 1);
    let words = "--dport 7001:7002 -m comment --comment 'set by vmserial for target dev, taken back by vmserial undo' -j ACCEPT";
    assert_eq!(
        commands(step),
        [
            format!("/sbin/iptables -w -I RH-Firewall-1-INPUT {first} -s 10.0.0.0/24 -p tcp -m tcp {words}"),
            format!("/sbin/iptables -w -I RH-Firewall-1-INPUT {second} -s 10.1.0.7/32 -p tcp -m tcp {words}"),
        ]
    );
    let change = change(step);
    let file = change.file.as_ref().unwrap();
    assert_eq!(
        (file.operations.len(), file.planned_on.clone()),
        (2, Some(Digest::of(XENSERVER.as_bytes())))
    );
    assert_eq!(change.guard.seconds, 40);
    assert!(
        step.notes
            .iter()
            .any(|note| note.contains("asks for no password")),
        "{:?}",
        step.notes
    );
}

#[test]
fn what_is_there_is_not_planned_again() {
    let mut seen = observed();
    let first = plan(&wants("10.0.0.0/24", false), &seen).unwrap();
    let edit = change(&first[0]).file.clone().unwrap();
    let after = crate::render::edit::apply(edit.format, edit.before.as_deref(), &edit.operations).unwrap();
    let after = String::from_utf8(after.unwrap()).unwrap();
    seen.rules = vec![rules(Family::V4, &after, Some(&after))];
    assert_eq!(plan(&wants("10.0.0.0/24", false), &seen).unwrap(), []);
    assert!(wants_told(&wants("10.0.0.0/24", false), &seen)[0].contains("open already by our rule"));
    // Part of it is open by it, and no more.
    assert_eq!(plan(&wants("10.0.0.64/26", false), &seen).unwrap(), []);
    assert_eq!(plan(&wants("10.0.0.0/16", false), &seen).unwrap().len(), 1);
    // In the file alone, in force alone: the other one is mended.
    for (live, file, in_force, in_file) in [
        (XENSERVER, after.as_str(), 1, 0),
        (after.as_str(), XENSERVER, 0, 1),
    ] {
        seen.rules = vec![rules(Family::V4, live, Some(file))];
        let steps = plan(&wants("10.0.0.0/24", false), &seen).unwrap();
        let change = change(&steps[0]);
        let operations = change.file.as_ref().map_or(0, |file| file.operations.len());
        assert_eq!((change.live.len(), operations), (in_force, in_file));
    }
    // Closing takes it away from both.
    seen.rules = vec![rules(Family::V4, &after, Some(&after))];
    let mut close = wants("any", false);
    close[0].spec.wanted = FirewallWanted::Closed;
    let steps = plan(&close, &seen).unwrap();
    assert!(
        steps[0]
            .summary
            .starts_with("close in the firewall: what is open for dev"),
        "{}",
        steps[0].summary
    );
    assert!(commands(&steps[0])[0].starts_with("/sbin/iptables -w -D RH-Firewall-1-INPUT -s 10.0.0.0/24"));
    close[0].target = "other".parse().unwrap();
    assert_eq!(plan(&close, &seen).unwrap(), [], "somebody else's");
}

#[test]
fn everybody_is_the_helpers_and_what_is_temporary_is_in_no_file() {
    let mut seen = observed();
    let own = plan(&wants("any", false), &seen).unwrap();
    assert!(
        commands(&own[0])[0].contains("-p tcp -m tcp --dport 7001:7002"),
        "no helper: a rule of ours"
    );
    seen.helper = Some("/h/firewall-port".to_owned());
    let helped = plan(&wants("any", false), &seen).unwrap();
    assert_eq!(commands(&helped[0]), ["/h/firewall-port open 7001:7002 tcp"]);
    assert_eq!(
        change(&helped[0]).live[0].back.to_string(),
        "/h/firewall-port close 7001:7002 tcp"
    );
    assert!(change(&helped[0]).file.is_none());
    let temporary = plan(&wants("any", true), &seen).unwrap();
    assert!(
        commands(&temporary[0])[0].starts_with("/sbin/iptables -w -I")
            && change(&temporary[0]).file.is_none()
    );
}

#[test]
fn ipv6_has_rules_of_its_own() {
    let mut seen = observed();
    seen.rules.push(rules(Family::V6, XENSERVER, None));
    let steps = plan(&wants("10.0.0.0/24,fd00::/8", false), &seen).unwrap();
    assert_eq!(steps.len(), 2);
    assert!(commands(&steps[1])[0].starts_with("/sbin/ip6tables -w -I RH-Firewall-1-INPUT"));
    assert!(
        steps[1]
            .notes
            .iter()
            .any(|note| note.contains("no file of rules")),
        "{:?}",
        steps[1].notes
    );
}

#[test]
fn what_cannot_be_done_is_refused() {
    let refused = |wants: &[Want], seen: &ObservedFirewall| {
        let problem = plan(wants, seen).unwrap_err();
        (problem.kind, problem.message)
    };
    let want = wants("10.0.0.0/24", false);
    let (kind, message) = refused(&want, &ObservedFirewall::default());
    assert_eq!(kind, FailureKind::Precondition);
    assert!(message.contains("neither iptables nor a firewalld"), "{message}");
    let mut seen = observed();
    seen.rules[0].live = Err("Permission denied (you must be root)\n".to_owned());
    let (kind, message) = refused(&want, &seen);
    assert!(
        kind == FailureKind::Precondition && message.ends_with("(you must be root)"),
        "{message}"
    );
    let mut seen = observed();
    seen.rules = vec![rules(Family::V4, XENSERVER, Some("*filter\n"))];
    assert_eq!(refused(&want, &seen).0, FailureKind::Configuration);
    let mut seen = observed();
    seen.ssh.as_mut().unwrap().port = 7002;
    assert!(refused(&want, &seen).1.contains("would lock us out"));
}

#[test]
fn our_way_in_is_not_cut() {
    let way = observed().ssh;
    let file = |text: &str| RuleFile::parse(text.as_bytes()).unwrap();
    let ssh = "-A RH-Firewall-1-INPUT -m conntrack --ctstate NEW -m tcp -p tcp --dport 22 -j ACCEPT\n";
    let before = file(XENSERVER);
    let without = file(&XENSERVER.replace(ssh, ""));
    let problem = check_own_way(way, &before, &without).unwrap_err();
    assert!(
        problem
            .message
            .contains("new connections by SSH from 192.0.2.7 to port 22"),
        "{problem}"
    );
    assert_eq!(check_own_way(way, &before, &before), Ok(()));
    assert_eq!(check_own_way(way, &without, &without), Ok(()), "it was so before");
    assert_eq!(
        check_own_way(None, &before, &without),
        Ok(()),
        "we are on the host"
    );
    let old = "-A RH-Firewall-1-INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";
    let problem = check_own_way(way, &before, &file(&XENSERVER.replace(old, ""))).unwrap_err();
    assert!(problem.message.contains("this connection by SSH"), "{problem}");
    // What may refuse is as bad.
    let maybe = XENSERVER.replace(
        ssh,
        &format!("-A RH-Firewall-1-INPUT -m recent --name x -j DROP\n{ssh}"),
    );
    assert!(check_own_way(way, &before, &file(&maybe)).is_err());
}

#[test]
fn a_doctor_tells_whose_the_rules_are() {
    assert_eq!(
        summary(&observed()),
        (
            CheckState::Good,
            "iptables: 0 rules of ours in force, 0 rules of ours in `/etc/sysconfig/iptables`".to_owned()
        )
    );
    let mut seen = observed();
    seen.rules[0].live = Err("no".to_owned());
    assert_eq!(summary(&seen).0, CheckState::Advice);
    assert_eq!(
        told(&observed(), "22".parse().unwrap())[0].split(" (").next(),
        Some("in force: port 22 open for everybody")
    );
    assert_eq!(
        told(&observed(), "7001".parse().unwrap())[0],
        "in force: port 7001 closed"
    );
}

#[test]
fn firewalld_s_rules_are_closed_by_an_undo_only_and_that_is_told() {
    let mut closes = wants("any", false);
    closes[0].spec.wanted = FirewallWanted::Closed;
    let seen = ObservedFirewall {
        firewalld: Some(Firewalld {
            program: "firewall-cmd".to_owned(),
            zone: "public".to_owned(),
            ports: "7001/tcp".to_owned(),
            rules: String::new(),
            kept_ports: String::new(),
            kept_rules: String::new(),
        }),
        ..observed()
    };
    assert_eq!(plan(&closes, &seen).unwrap(), []);
    let lines = wants_told(&closes, &seen);
    assert!(
        lines[0].contains("`vmserial undo` closes what vmserial opened"),
        "{lines:?}"
    );
    assert_eq!(wants_told(&closes, &observed()), Vec::<String>::new());
}
