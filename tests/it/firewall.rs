//! A port of a Xen host that others may reach: real iptables in a network namespace, behind a real sshd.

mod rig;

use crate::kit::{is_fast, wait_until};
use libtest_mimic::{Completion, Failed, Trial};
use rig::{CHAIN, Lab, RULES, kill_at_once, missing, setup_line};

pub fn trials() -> Vec<Trial> {
    let left_out = || is_fast().then(|| "the firewall is left out (VMSERIAL_TEST_FAST=1)".to_owned());
    let reason = missing().or_else(left_out);
    let all: [(&str, fn()); 12] = [
        (
            "ours_is_above_the_refusal_live_and_in_the_file",
            ours_is_above_the_refusal_live_and_in_the_file,
        ),
        (
            "a_rule_made_by_hand_is_left_alone",
            a_rule_made_by_hand_is_left_alone,
        ),
        (
            "rules_that_do_not_pass_the_test_change_nothing",
            rules_that_do_not_pass_the_test_change_nothing,
        ),
        (
            "who_is_locked_out_gets_the_old_rules_back",
            who_is_locked_out_gets_the_old_rules_back,
        ),
        (
            "rules_of_others_survive_the_undo",
            rules_of_others_survive_the_undo,
        ),
        (
            "a_kill_in_the_middle_is_restored_by_the_host",
            a_kill_in_the_middle_is_restored_by_the_host,
        ),
        (
            "everybody_is_let_in_by_the_hosts_helper",
            everybody_is_let_in_by_the_hosts_helper,
        ),
        ("our_own_way_is_not_cut", our_own_way_is_not_cut),
        (
            "what_is_temporary_goes_with_the_session",
            what_is_temporary_goes_with_the_session,
        ),
        ("a_profile_opens_for_a_time", a_profile_opens_for_a_time),
        ("remove_closes_what_is_marked", remove_closes_what_is_marked),
        ("firewalld_gets_a_rich_rule", firewalld_gets_a_rich_rule),
    ];
    all.into_iter()
        .map(|(name, run)| {
            let reason = reason.clone();
            Trial::ignorable_test(format!("firewall::{name}"), move || match reason {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run();
                    Ok::<_, Failed>(Completion::Completed)
                }
            })
        })
        .collect()
}

const OPEN: &str = "--allow-from 10.99.0.0/24 --ports 7001:7010 --no-bridge --yes";

const OURS: &str = "-A RH-Firewall-1-INPUT -s 10.99.0.0/24 -p tcp -m tcp --dport 7001:7010 -m comment --comment \"set by vmserial for target win11-dev, taken back by vmserial undo\" -j ACCEPT";

const REFUSAL: &str = "-A RH-Firewall-1-INPUT -j REJECT --reject-with icmp-host-prohibited";

fn assert_above_the_refusal(lines: &[impl AsRef<str>]) {
    let at = lines
        .iter()
        .position(|line| line.as_ref() == OURS)
        .expect("our rule");
    assert_eq!(lines[at + 1].as_ref(), REFUSAL);
}

fn ours_is_above_the_refusal_live_and_in_the_file() {
    let lab = Lab::new();
    let before = lab.all_live();
    let (_open, _closed) = (lab.listen(7005 + 1), lab.listen(7011));
    assert!(!lab.can_connect(7006));
    let planned = lab.setup("--allow-from 10.99.0.0/24 --ports 7001:7010 --plan");
    assert_eq!(planned.code, Some(0), "{planned:?}");
    for part in [
        "open in the firewall: TCP ports 7001:7010 for 10.99.0.0/24",
        "iptables -w -I RH-Firewall-1-INPUT",
        "+-A RH-Firewall-1-INPUT -s 10.99.0.0/24",
        "iptables-restore --test",
        "restores its old rules after 30 s",
        "asks for no password",
    ] {
        assert!(planned.stdout.contains(part), "{part}: {planned:?}");
    }
    assert_eq!((lab.all_live(), lab.file().as_str()), (before.clone(), RULES));
    let applied = lab.must_setup(OPEN);
    assert!(
        applied
            .stderr
            .contains("Stays on lab: open in the firewall: TCP ports 7001:7010")
            && applied.stderr.contains("` closes it."),
        "{applied:?}"
    );
    assert_above_the_refusal(&lab.live(CHAIN));
    assert_above_the_refusal(&lab.file().lines().collect::<Vec<_>>());
    assert_eq!(lab.file().replace(&format!("{OURS}\n"), ""), RULES);
    assert!(lab.can_connect(7006) && !lab.can_connect(7011));
    lab.assert_nothing_left();
    // What the file says is what is in force: a restart of the service loses nothing.
    let live = lab.all_live();
    lab.must("service iptables restart");
    assert_eq!(lab.all_live(), live);
    let again = lab.must_setup(OPEN);
    assert!(
        again.stderr.contains("is open already by our rule") && again.stderr.contains("Nothing to change.\n"),
        "{again:?}"
    );
    let shown = lab.setup("--show");
    assert!(
        shown
            .stdout
            .contains("firewall: in force: port 7001 open for some: our rule `-A RH"),
        "{shown:?}"
    );
    let doctor = lab.run("doctor xen --host lab");
    assert!(doctor.stdout.contains("1 rule of ours"), "{doctor:?}");
    lab.must_undo();
    assert_eq!((lab.all_live(), lab.file().as_str()), (before, RULES));
    assert!(!lab.can_connect(7006));
    lab.assert_nothing_left();
}

fn a_rule_made_by_hand_is_left_alone() {
    let rule = "-A RH-Firewall-1-INPUT -p tcp -m tcp --dport 7001:7010 -j ACCEPT";
    let rules = RULES.replace(REFUSAL, &format!("{rule}\n{REFUSAL}"));
    let lab = Lab::with(&rules);
    let before = lab.all_live();
    let applied = lab.must_setup(OPEN);
    assert!(
        applied
            .stderr
            .contains("a rule that vmserial did not make, which is left alone")
            && applied.stderr.contains(rule),
        "{applied:?}"
    );
    assert_eq!(
        (lab.all_live(), lab.file().as_str()),
        (before.clone(), rules.as_str())
    );
    lab.must_undo();
    assert_eq!((lab.all_live(), lab.file().as_str()), (before, rules.as_str()));
    // In the file alone: it is put in force.
    lab.must(&format!("iptables {}", rule.replacen("-A", "-D", 1)));
    lab.must_setup(OPEN);
    assert_above_the_refusal(&lab.live(CHAIN));
    assert_eq!(lab.file(), rules);
}

fn rules_that_do_not_pass_the_test_change_nothing() {
    let lab = Lab::new();
    let before = lab.all_live();
    // Somebody's mistake in the file: the host would start without rules.
    lab.must(&format!(
        "sed -i 's/^-A {CHAIN} -i lo/-A {CHAIN} -m nosuchmatch -i lo/' /etc/sysconfig/iptables"
    ));
    let broken = lab.file();
    let ended = lab.setup(OPEN);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(
        ended.stderr.contains("so nothing was changed") && ended.stderr.contains("nosuchmatch"),
        "{ended:?}"
    );
    assert_eq!((lab.all_live(), lab.file()), (before, broken));
    lab.assert_nothing_left();
    let undone = lab.run("undo --yes");
    assert!(undone.stderr.contains("Nothing to undo"), "{undone:?}");
}

fn who_is_locked_out_gets_the_old_rules_back() {
    let lab = Lab::new();
    let before = lab.all_live();
    // Rules that go wrong: with ours come some that refuse everything, our own connection too.
    lab.in_front_of(
        "iptables",
        "case \"$*\" in *' -I RH'*) \"$real\" \"$@\"; exec \"$real\" -w -I INPUT 1 -i v0 -j DROP;; esac",
    );
    let ended = lab.setup(&format!("{OPEN} --confirm-within 3s"));
    assert!(matches!(ended.code, Some(6 | 7 | 13)), "{ended:?}");
    assert!(
        ended.stderr.contains("The firewall on lab is as it was before."),
        "{ended:?}"
    );
    assert_eq!((lab.all_live(), lab.file().as_str()), (before, RULES));
    assert!(lab.can_connect(22));
    lab.assert_nothing_left();
    // Nothing of it is left to be undone.
    let undone = lab.run("undo --yes");
    assert!(undone.stderr.contains("Nothing to undo"), "{undone:?}");
}

fn rules_of_others_survive_the_undo() {
    let lab = Lab::new();
    lab.must_setup(OPEN);
    let theirs = "-s 192.0.2.9/32 -p tcp -m tcp --dport 9000 -j ACCEPT";
    lab.must(&format!("iptables -I {CHAIN} 3 {theirs}"));
    // Whoever saves the rules has ours in the file, in another spelling, and no comments of the file.
    lab.must("service iptables save");
    lab.must(&format!("iptables -A INPUT {theirs}"));
    assert!(!lab.file().contains("# dlm"));
    let before = lab.file();
    lab.must_undo();
    for chain in [CHAIN, "INPUT"] {
        assert!(
            lab.live(chain).contains(&format!("-A {chain} {theirs}")),
            "{:?}",
            lab.live(chain)
        );
    }
    assert!(!lab.all_live().contains("vmserial"));
    assert_eq!(lab.file(), before.replace(&format!("{OURS}\n"), ""));
}

fn a_kill_in_the_middle_is_restored_by_the_host() {
    for (hangs, changed) in [("before", false), ("after", true)] {
        let lab = Lab::new();
        let before = lab.all_live();
        let flag = lab.sandbox.path("hang");
        std::fs::write(&flag, "").unwrap();
        let hang = format!(
            "touch {0}.now; while [ -e {0} ]; do sleep 0.1; done",
            flag.display()
        );
        let script = match hangs {
            "before" => format!("case \"$*\" in *' -I RH'*) {hang}; exit 1;; esac"),
            _ => format!("case \"$*\" in *' -I RH'*) \"$real\" \"$@\"; {hang}; exit;; esac"),
        };
        lab.in_front_of("iptables", &script);
        let mut setup = lab.start(&setup_line(&format!("{OPEN} --confirm-within 3s")));
        wait_until("the rule is about to be put in", || {
            lab.sandbox.path("hang.now").exists().then_some(())
        });
        kill_at_once(&mut setup);
        assert_eq!(lab.all_live() != before, changed, "{hangs}");
        // The file was changed first; both are back when the host's time is over. An undo waits for that.
        let undone = lab.run("undo --yes");
        assert_eq!(undone.code, Some(0), "{undone:?}");
        std::fs::remove_file(&flag).unwrap();
        assert_eq!((lab.all_live(), lab.file().as_str()), (before, RULES), "{hangs}");
        lab.assert_nothing_left();
    }
}

fn everybody_is_let_in_by_the_hosts_helper() {
    let lab = Lab::new();
    lab.give("firewall-port", "/etc/xapi.d/plugins/firewall-port");
    let before = lab.all_live();
    let _listens = lab.listen(7001);
    let planned = lab.setup("--allow-from any --plan");
    assert!(
        planned
            .stdout
            .contains("/etc/xapi.d/plugins/firewall-port open 7001 tcp")
            && planned.stdout.contains("comments in that file are lost"),
        "{planned:?}"
    );
    lab.must_setup("--allow-from any --no-bridge --yes");
    assert!(lab.can_connect(7001));
    assert!(
        lab.file()
            .contains("-A xapi-INPUT -p tcp -m conntrack --ctstate NEW -m tcp --dport 7001 -j ACCEPT")
    );
    lab.assert_nothing_left();
    let again = lab.must_setup("--allow-from any --no-bridge --yes");
    assert!(again.stderr.contains("Nothing to change.\n"), "{again:?}");
    lab.must_undo();
    assert!(!lab.can_connect(7001) && !lab.file().contains("7001"));
    // The helper's own chain stays, as it does when its user closes a port.
    let chain = ":xapi-INPUT -\n-A INPUT -j xapi-INPUT\n-A xapi-INPUT -j RETURN\n";
    let without: String = lab
        .all_live()
        .lines()
        .filter(|line| !chain.contains(line))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(without, before);
}

fn our_own_way_is_not_cut() {
    let lab = Lab::new();
    let before = lab.all_live();
    let ended = lab.setup("--allow-from 10.99.0.0/24 --endpoint listen:tcp:0.0.0.0:21 --ports 20:30 --yes");
    assert_eq!(ended.code, Some(2), "one endpoint: {ended:?}");
    let line = setup_line("--allow-from 10.99.0.0/24 --ports 20:30 --yes").replace(":7001 ", ":21 ");
    let ended = lab.run(&line);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("would lock us out"), "{ended:?}");
    assert_eq!((lab.all_live(), lab.file().as_str()), (before, RULES));
    // The server listens on 7005 too, and ours is the rule that lets us in there.
    lab.must_setup(OPEN);
    lab.reach_by(7005);
    let refused = lab.run("undo --yes");
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("new connections by SSH from 10.99.0.2 to port 7005"),
        "{refused:?}"
    );
    assert_above_the_refusal(&lab.live(CHAIN));
}

fn what_is_temporary_goes_with_the_session() {
    let lab = Lab::new();
    let before = lab.all_live();
    let none = lab.setup("--allow-from 10.99.0.0/24 --temporary --yes");
    assert_eq!(none.code, Some(2), "{none:?}");
    let words = "--allow-from 10.99.0.0/24 --temporary --serve listen:tcp:127.0.0.1:0 --yes";
    let mut session = lab.start(&setup_line(words));
    session.wait_line("ready");
    assert!(lab.all_live().contains("--dport 7001 "));
    assert_eq!(lab.file(), RULES, "not in the file");
    session.signal("TERM");
    assert_eq!(session.wait_end_with_input_open(), 0);
    assert_eq!(lab.all_live(), before);
    assert!(!session.said().contains("Stays on"), "{}", session.said());
    lab.assert_nothing_left();
    // All else that the session set up is still there.
    let shown = lab.setup("--show");
    assert!(
        shown.stdout.contains("firewall: in force: port 7001 closed"),
        "{shown:?}"
    );
}

/// In a profile: what is open for a time goes with `down`, what is open for longer is told.
fn a_profile_opens_for_a_time() {
    let lab = Lab::new();
    let before = lab.all_live();
    let profile = |rest: &str| {
        format!(
            "version: 1\nhosts: {{lab: {{hypervisor: xen, ssh: lab}}}}\ntargets:\n  dev: {{host: lab, vm: win11-dev, restart: never, ports: [{{port: 1, as: kd, attach: \"listen:tcp:0.0.0.0:7001\", firewall: {{allow_from: 10.99.0.0/24{rest}}}}}]}}\n"
        )
    };
    std::fs::write(lab.sandbox.path("lab.yaml"), profile(", temporary: true")).unwrap();
    let up = lab.run("up lab.yaml --yes");
    assert_eq!(up.code, Some(0), "{up:?}");
    assert!(lab.all_live().contains("--dport 7001 "), "{up:?}");
    assert_eq!(lab.file(), RULES, "not in the file");
    let told = "`vmserial undo ";
    assert!(
        up.stderr.contains("Stays on lab: open in the firewall") && up.stderr.contains(told),
        "{up:?}"
    );
    let json = lab.setup("--show --json");
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json["firewall"][0].to_string().contains("our rule"), "{json}");
    let down = lab.run("down lab.yaml");
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(lab.all_live(), before, "{down:?}");
    // Without it the rule is kept, and `down` leaves it.
    std::fs::write(lab.sandbox.path("lab.yaml"), profile("")).unwrap();
    let up = lab.run("up lab.yaml --yes");
    assert_eq!(up.code, Some(0), "{up:?}");
    assert_ne!(lab.file(), RULES);
    let down = lab.run("down lab.yaml");
    assert!(down.stderr.contains("Nothing to stop"), "{down:?}");
    assert_ne!(lab.all_live(), before);
}

fn remove_closes_what_is_marked() {
    let lab = Lab::new();
    let before = lab.all_live();
    lab.must_setup(OPEN);
    let open = lab.all_live();
    lab.must("cp /etc/sysconfig/iptables /etc/sysconfig/open");
    let removed = lab.run("setup xen --host lab --vm win11-dev --remove --yes");
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!((lab.all_live(), lab.file().as_str()), (before, RULES));
    lab.must_undo();
    assert_eq!(lab.all_live(), open, "its place too");
    lab.must("cmp /etc/sysconfig/iptables /etc/sysconfig/open");
}

fn firewalld_gets_a_rich_rule() {
    let rules = "*filter\n:INPUT DROP [0:0]\n:IN_public_allow - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j IN_public_allow\nCOMMIT\n";
    let lab = Lab::with(rules);
    lab.give("firewall-cmd", "");
    let state = lab.sandbox.path("far/xen.state/firewalld");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("running"), "").unwrap();
    let before = lab.all_live();
    let _listens = lab.listen(7001);
    lab.must_setup(OPEN);
    let rule = "rule family=\"ipv4\" source address=\"10.99.0.0/24\" port port=\"7001-7010\" protocol=\"tcp\" accept\n";
    let list = |name: &str| std::fs::read_to_string(state.join(name)).unwrap_or_default();
    assert_eq!((list("live").as_str(), list("kept").as_str()), (rule, rule));
    assert!(lab.can_connect(7001));
    assert_eq!(lab.file(), rules, "firewalld has its own files");
    lab.assert_nothing_left();
    let again = lab.must_setup(OPEN);
    assert!(again.stderr.contains("Nothing to change.\n"), "{again:?}");
    lab.must_undo();
    assert_eq!((list("live").as_str(), list("kept").as_str()), ("", ""));
    assert_eq!(lab.all_live(), before);
    // A port that its admin opened is enough.
    lab.must("firewall-cmd --add-port=7000-7100/tcp; firewall-cmd --permanent --add-port=7000-7100/tcp");
    let open = lab.must_setup(OPEN);
    assert!(!open.stderr.contains("open in the firewall"), "{open:?}");
}
