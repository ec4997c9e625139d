//! Rules, their effect, and the editor: tables, and properties of every byte that is not edited.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::{FileFormat, PortRange, Source};
use crate::render::edit::{self, EditError};
use proptest::prelude::*;

/// The file of a XenServer host.
const XENSERVER: &str = include_str!("../../../tests/data/iptables/xenserver");

const CHAIN: &str = "RH-Firewall-1-INPUT";

const OURS: &str = r#"-A RH-Firewall-1-INPUT -s 10.0.0.0/24 -p tcp -m tcp --dport 7001:7010 -m comment --comment "set by vmserial" -j ACCEPT"#;

fn ours() -> Rule {
    let source = "10.0.0.0/24".parse().unwrap();
    Rule::accept(CHAIN, source, "7001:7010".parse().unwrap(), "set by vmserial")
}

fn parse(text: &str) -> RuleFile {
    RuleFile::parse(text.as_bytes()).unwrap()
}

fn with(text: &str, key: &str) -> String {
    let mut file = parse(text);
    file.set(key, FILTER).unwrap();
    String::from_utf8(file.into_bytes()).unwrap()
}

fn without(text: &str, key: &str) -> String {
    let mut file = parse(text);
    file.remove(key).unwrap();
    String::from_utf8(file.into_bytes()).unwrap()
}

fn refused(result: Result<(), EditError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_rule_of_ours_is_written_as_iptables_saves_it() {
    assert_eq!(ours().to_string(), OURS);
    assert_eq!(Rule::parse(OURS).unwrap().to_string(), OURS);
    assert_eq!(ours().comment(), Some("set by vmserial"));
    let everybody = Rule::accept("INPUT", Source::Any, PortRange::one(7001), "x");
    assert_eq!(
        everybody.to_string(),
        "-A INPUT -p tcp -m tcp --dport 7001 -m comment --comment x -j ACCEPT"
    );
}

#[test]
fn rules_that_say_the_same_are_the_same() {
    for (one, other, same) in [
        (
            "-A C -p tcp --dport 22 -j ACCEPT",
            "-A C -m tcp -p tcp --dport 22 -j ACCEPT",
            true,
        ),
        (
            "-A C -s 10.0.0.7 -j DROP",
            "[1:60] -A C -s 10.0.0.7/32 -j DROP",
            true,
        ),
        (
            "-A C -s 10.0.0.0/255.0.0.0 -j DROP",
            "-A C --source 10.0.0.0/8 --jump DROP",
            true,
        ),
        ("-A C ! -i lo -j DROP", "-A C -i ! lo -j DROP", true),
        ("-A C -i lo -j DROP", "-A C ! -i lo -j DROP", false),
        ("-A C -j DROP", "-A D -j DROP", false),
        ("-A C -s 10.0.0.7 -j DROP", "-A C -s 10.0.0.8 -j DROP", false),
        (
            r#"-A C -m comment --comment "a \"b\"" -j DROP"#,
            r#"-A C -m comment --comment "a b" -j DROP"#,
            false,
        ),
        ("-A C -s 0.0.0.0/0 -j DROP", "-A C -j DROP", true),
    ] {
        let (one, other) = (Rule::parse(one).unwrap(), Rule::parse(other).unwrap());
        assert_eq!(one.says_the_same(&other), same, "{one} / {other}");
    }
    for wrong in ["", "COMMIT", "-I C -j DROP", r#"-A C --comment "open"#] {
        assert!(Rule::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn ours_goes_above_the_refusal_and_comes_out_again() {
    let edited = with(XENSERVER, OURS);
    let lines: Vec<&str> = edited.lines().collect();
    let at = lines.iter().position(|line| *line == OURS).unwrap();
    assert_eq!(
        lines[at + 1],
        "-A RH-Firewall-1-INPUT -j REJECT --reject-with icmp-host-prohibited"
    );
    assert_eq!(with(&edited, OURS), edited, "twice is once");
    assert_eq!(without(&edited, OURS), XENSERVER);
    // As another program saved it.
    let saved = edited.replace(
        "-p tcp -m tcp --dport 7001:7010",
        "-m tcp -p tcp --dport 7001:7010",
    );
    assert_ne!(saved, edited);
    assert_eq!(without(&saved, OURS), XENSERVER);
}

#[test]
fn places_of_a_new_rule() {
    let rule = "-A INPUT -s 10.0.0.0/24 -p tcp -m tcp --dport 7001 -m comment --comment x -j ACCEPT";
    for (before, after) in [
        // No refusal: the end of the chain, before other chains' rules.
        (
            "*filter\n:INPUT DROP [0:0]\n:C - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A C -j DROP\nCOMMIT\n",
            "*filter\n:INPUT DROP [0:0]\n:C - [0:0]\n-A INPUT -i lo -j ACCEPT\n[NEW]\n-A C -j DROP\nCOMMIT\n",
        ),
        // No rule yet.
        (
            "*filter\n:INPUT DROP\nCOMMIT\n",
            "*filter\n:INPUT DROP\n[NEW]\nCOMMIT\n",
        ),
        // Somebody's refusal of one address stays above ours; that of all is below. Ends of lines stay as they are.
        (
            "*filter\r\n:INPUT ACCEPT [0:0]\r\n-A INPUT -s 10.0.0.9/32 -j DROP\r\n-A INPUT -p tcp -j DROP\r\nCOMMIT\r\n",
            "*filter\r\n:INPUT ACCEPT [0:0]\r\n-A INPUT -s 10.0.0.9/32 -j DROP\r\n[NEW]\r\n-A INPUT -p tcp -j DROP\r\nCOMMIT\r\n",
        ),
        // Other tables are not looked at.
        (
            "*nat\n:INPUT ACCEPT\n-A INPUT -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT\n-A INPUT -j DROP\nCOMMIT",
            "*nat\n:INPUT ACCEPT\n-A INPUT -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT\n[NEW]\n-A INPUT -j DROP\nCOMMIT",
        ),
    ] {
        assert_eq!(with(before, rule), after.replace("[NEW]", rule));
        assert_eq!(without(&with(before, rule), rule), before);
    }
}

#[test]
fn files_that_cannot_be_edited_are_told_with_their_line() {
    for (text, message) in [
        (
            "*filter\n:INPUT ACCEPT\n",
            "line 1: the table that begins here has no COMMIT",
        ),
        ("-A INPUT -j DROP\n", "line 1: it stands in no table"),
        ("*filter\nCOMMIT\n:X -\n", "line 3: it stands in no table"),
        (
            "*filter\n*nat\nCOMMIT\n",
            "line 2: `*nat` begins before the last table's COMMIT",
        ),
        (
            "*filter\n:INPUT\nCOMMIT\n",
            "line 2: `:INPUT` is no chain: expected `:NAME POLICY`",
        ),
        ("hello\n", "line 1: `hello` is nothing that iptables-save writes"),
        (
            "*filter\n-A I --comment \"x\nCOMMIT\n",
            "line 2: a quote is not closed",
        ),
    ] {
        assert_eq!(RuleFile::parse(text.as_bytes()).unwrap_err().to_string(), message);
    }
    let mut file = parse("*filter\n:INPUT ACCEPT\n-I INPUT -j DROP\nCOMMIT\n");
    assert!(refused(file.set("-A INPUT -j ACCEPT", FILTER)).contains("`-I INPUT -j DROP` is no `-A`"));
    let mut file = parse("*filter\n:INPUT ACCEPT\nCOMMIT\n");
    assert!(refused(file.set("-A C -j ACCEPT", FILTER)).contains("there is no chain `C`"));
    assert!(refused(file.set("-A INPUT -j ACCEPT", "nat")).contains("the table `filter` only"));
    assert!(refused(file.set("nonsense", FILTER)).contains("appends no rule"));
    assert_eq!(RuleFile::parse(b"").unwrap().into_bytes(), b"");
}

fn connection(source: &str, ports: &str) -> Connection {
    Connection::new(source.parse().unwrap(), ports.parse().unwrap())
}

fn place(chain: &str, index: usize) -> Place {
    Place {
        chain: chain.to_owned(),
        index: Some(index),
    }
}

#[test]
fn the_default_rules_let_ssh_in_and_nothing_of_ours() {
    let file = parse(XENSERVER);
    let ssh = fate(&file, &connection("192.0.2.7", "22"));
    assert!(ssh.is_surely_open(), "{ssh:?}");
    let port = fate(&file, &connection("10.0.0.0/24", "7001:7010"));
    assert!(port.is_surely_closed(), "{port:?}");
    let last = file.rules(CHAIN).len() - 1;
    assert_eq!(port.by, place(CHAIN, last));
    // A session that is open goes on.
    let old = Connection {
        state: State::Established,
        ..connection("192.0.2.7", "7001")
    };
    assert!(fate(&file, &old).is_surely_open());
    let ours = fate(
        &parse(&with(XENSERVER, OURS)),
        &connection("10.0.0.0/24", "7001:7010"),
    );
    assert!(ours.is_surely_open() && ours.by == place(CHAIN, last), "{ours:?}");
    // Ours is not for everybody.
    let others = fate(&parse(&with(XENSERVER, OURS)), &connection("10.0.0.0/16", "7001"));
    assert!(!others.open && !others.is_surely_closed(), "{others:?}");
}

#[test]
fn a_rule_that_covers_the_ports_is_known_however_it_is_written() {
    for (rule, open) in [
        // The line of the users' instructions.
        ("-p tcp -m tcp --dport 7001:7010 -j ACCEPT", true),
        ("-p tcp --dport 7000: -j ACCEPT", true),
        (
            "-p 6 -m multiport --dports 80,7001:7009,7002:7020 -j ACCEPT",
            false,
        ),
        ("-p tcp -m multiport --dports 80,7000:8000 -j ACCEPT", true),
        (
            "-p tcp -m conntrack --ctstate NEW -m tcp --dport 7001:7010 -j ACCEPT",
            true,
        ),
        (
            "-p tcp -m tcp --dport 7001:7010 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
            true,
        ),
        ("-s 10.0.0.0/8 -j ACCEPT", true),
        ("-s 10.0.0.0/25 -j ACCEPT", false),
        ("! -s 10.0.0.0/8 -j ACCEPT", false),
        ("! -s 192.168.0.0/16 -j ACCEPT", true),
        ("! -i lo -j ACCEPT", true),
        ("-p udp -m udp --dport 7001:7010 -j ACCEPT", false),
        (
            "-p tcp -m tcp --dport 7001:7010 -m recent --name x -j ACCEPT",
            false,
        ),
        ("-p tcp -m tcp --dport 7001 -j ACCEPT", false),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", false),
        ("-d 192.0.2.1 -j ACCEPT", false),
        ("-i eth0 -j ACCEPT", false),
    ] {
        let text = format!("*filter\n:INPUT ACCEPT\n-A INPUT {rule}\n-A INPUT -j REJECT\nCOMMIT\n");
        let fate = fate(&parse(&text), &connection("10.0.0.0/24", "7001:7010"));
        assert_eq!(fate.open, open, "{rule}: {fate:?}");
        assert_eq!(fate.by, place("INPUT", usize::from(!open)), "{rule}");
    }
}

#[test]
fn chains_are_followed_as_iptables_does() {
    for (rules, open, sure) in [
        (
            ":C - [0:0]\n-A INPUT -j C\n-A C -j RETURN\n-A C -j DROP\n",
            true,
            true,
        ),
        (":C - [0:0]\n-A INPUT -g C\n-A INPUT -j DROP\n", true, true),
        (
            ":C - [0:0]\n-A INPUT -p tcp -j C\n-A INPUT -j DROP\n-A C -j ACCEPT\n",
            true,
            true,
        ),
        (":C - [0:0]\n-A INPUT -i eth0 -j C\n-A C -j DROP\n", true, false),
        (
            ":C - [0:0]\n-A INPUT -j C\n-A C -i eth0 -j RETURN\n-A C -j DROP\n",
            false,
            false,
        ),
        (
            "-A INPUT -j NFQUEUE --queue-num 1\n-A INPUT -j ACCEPT\n",
            true,
            false,
        ),
        ("-A INPUT -j LOG --log-prefix \"in \"\n", true, true),
        ("-A INPUT -s 10.0.0.9/32 -j DROP\n", true, false),
        (
            ":A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -j A\n",
            true,
            true,
        ),
    ] {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n{rules}COMMIT\n");
        let fate = fate(&parse(&text), &connection("10.0.0.0/24", "7001"));
        let is_sure = fate.is_surely_open() || fate.is_surely_closed();
        assert_eq!((fate.open, is_sure), (open, sure), "{rules}: {fate:?}");
    }
    let closed = fate(
        &parse("*filter\n:INPUT DROP [0:0]\nCOMMIT\n"),
        &connection("10.0.0.1", "1"),
    );
    assert_eq!((closed.open, closed.by.index), (false, None));
    assert!(fate(&parse(""), &connection("10.0.0.1", "1")).is_surely_open());
}

#[test]
fn it_is_a_format_of_files_like_the_others() {
    let value = |text: &str| {
        edit::values(FileFormat::Iptables, Some(text.as_bytes()), &[OURS]).unwrap()[OURS].clone()
    };
    assert_eq!(value(XENSERVER), None);
    assert_eq!(value(&with(XENSERVER, OURS)).as_deref(), Some(FILTER));
}

/// Lines of a table as people's files have them.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "# [ -~]{0,20}",
        Just(String::new()),
        Just("-A INPUT -i lo -j ACCEPT".to_owned()),
        Just("-A INPUT -j REJECT --reject-with icmp-host-prohibited".to_owned()),
        Just("-A INPUT -s 10.0.0.9 -j DROP".to_owned()),
        Just("[12:345] -A C -p tcp -j DROP".to_owned()),
        "-A (INPUT|C) -s 10\\.0\\.[0-9]\\.0/24 -p (tcp|udp) --dport [1-9][0-9]{0,3} -j (ACCEPT|DROP)",
        "-A C -m comment --comment \"[ a-z]{0,9}\" -j ACCEPT",
    ]
}

fn file() -> impl Strategy<Value = String> {
    let table = (prop::collection::vec(line(), 0..8), "[a-z]{1,4}");
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    (table, end, any::<bool>()).prop_map(|((lines, other), end, nat)| {
        let mut all = vec![format!("# {other}")];
        if nat {
            all.extend(["*nat", ":INPUT ACCEPT [0:0]", "-A INPUT -j DROP", "COMMIT"].map(str::to_owned));
        }
        all.extend(["*filter", ":INPUT ACCEPT [0:0]", ":C - [0:0]"].map(str::to_owned));
        all.extend(lines);
        all.extend(["COMMIT".to_owned(), String::new()]);
        all.join(end)
    })
}

fn key() -> impl Strategy<Value = String> {
    let source = prop_oneof![
        Just(Source::Any),
        (0_u8..10).prop_map(|third| format!("10.0.{third}.0/24").parse().unwrap())
    ];
    let chain = prop_oneof![Just("INPUT"), Just("C")];
    (chain, source, 1_u16..9999, 0_u16..9, "[ -~]{1,12}").prop_map(|(chain, source, first, more, comment)| {
        Rule::accept(chain, source, PortRange::between(first, first + more), &comment).to_string()
    })
}

proptest! {
    #[test]
    fn a_rule_is_read_as_it_is_written(key in key()) {
        let rule = Rule::parse(&key).unwrap();
        prop_assert_eq!(rule.to_string(), key.clone());
        prop_assert!(rule.says_the_same(&Rule::parse(&key).unwrap()));
    }

    #[test]
    fn other_bytes_stay(text in file(), key in key()) {
        let edited = with(&text, &key);
        prop_assert_eq!(with(&edited, &key), edited.clone(), "twice is once");
        prop_assert_eq!(without(&edited, &key), text.clone());
        let old: Vec<&str> = text.split_inclusive('\n').collect();
        let new: Vec<&str> = edited.split_inclusive('\n').collect();
        prop_assert_eq!(new.len(), old.len() + 1);
        let at = new.iter().position(|line| line.trim_end() == key).unwrap();
        prop_assert_eq!(&new[..at], &old[..at]);
        prop_assert_eq!(&new[at + 1..], &old[at..]);
    }

    #[test]
    fn what_a_rule_of_ours_lets_in_comes_in(text in file(), ports in 1_u16..9999) {
        let source = "10.0.3.0/24";
        let rule = Rule::accept("INPUT", source.parse().unwrap(), PortRange::one(ports), "x");
        let after = fate(&parse(&with(&text, &rule.to_string())), &connection(source, &ports.to_string()));
        prop_assert!(after.open, "{:?}", after);
    }

    #[test]
    fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = RuleFile::parse(&bytes) {
            let _ = fate(&file, &connection("10.0.0.0/24", "7001"));
            prop_assert_eq!(file.into_bytes(), bytes);
        }
    }
}
