//! What a Xen host has for its firewall: `service iptables`, xapi's `firewall-port`, `firewall-cmd`. They act on the real iptables
//! of the network namespace that they run in.
//!
//! `firewall-port` does what xapi's script does, line for line (`scripts/plugins/firewall-port`); its answers go where that
//! one's go. `firewall-cmd` keeps two lists of words, those in force and those that are kept, and puts the former into a chain
//! `IN_public_allow` that the tests' rules go to, as firewalld's do; `--state` says `running` while a file `running` is there.

#![expect(
    clippy::disallowed_methods,
    reason = "a stand-in acts on the real rules of its namespace"
)]

use super::{Refusal, State, refuse};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The file that the service reads at its start.
const FILE: &str = "/etc/sysconfig/iptables";

fn call(program: &str, words: &[&str]) -> Result<Output, Refusal> {
    Ok(Command::new(program).args(words).stdin(Stdio::null()).output()?)
}

fn must(program: &str, words: &[&str]) -> Result<String, Refusal> {
    let output = call(program, words)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Refusal(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn is(program: &str, words: &[&str]) -> Result<bool, Refusal> {
    Ok(call(program, words)?.status.success())
}

/// `service iptables save|restart`.
pub(super) fn service(_: &State, words: &[&str]) -> Result<String, Refusal> {
    match words {
        ["iptables", "save"] => {
            // As the service does: all tables, comments of the file are gone.
            let saved = must("iptables-save", &[])?;
            fs::write(FILE, saved)?;
            Ok(format!("iptables: Saving firewall rules to {FILE}: [  OK  ]\n"))
        }
        ["iptables", "restart"] => {
            must("iptables-restore", &[FILE])?;
            Ok("Redirecting to /bin/systemctl restart iptables.service\n".to_owned())
        }
        _ => {
            refuse("Usage: service < option > | --status-all | [ service_name [ command | --full-restart ] ]")
        }
    }
}

/// xapi's `firewall-port OPERATION PORT PROTOCOL`.
pub(super) fn firewall_port(state: &State, words: &[&str]) -> Result<String, Refusal> {
    let (operation, port) = match words {
        [operation, port] | [operation, port, "tcp"] => (*operation, *port),
        _ => return refuse("Usage: firewall-port {open|close|check} {port} {protocol}"),
    };
    let chain = if port == "80" {
        "RH-Firewall-1-INPUT"
    } else {
        "xapi-INPUT"
    };
    let rule = [
        "-p",
        "tcp",
        "-m",
        "conntrack",
        "--ctstate",
        "NEW",
        "-m",
        "tcp",
        "--dport",
        port,
        "-j",
        "ACCEPT",
    ];
    let with =
        |front: &[&'static str]| -> Vec<&str> { front.iter().copied().chain([chain]).chain(rule).collect() };
    let is_there = is("iptables", &with(&["-C"]))?;
    match operation {
        "open" if !is_there => {
            if is("iptables", &["-N", chain])? {
                must("iptables", &["-A", chain, "-j", "RETURN"])?;
                must("iptables", &["-I", "INPUT", "-j", chain])?;
            }
            must("iptables", &with(&["-I"]))?;
            service(state, &["iptables", "save"])
        }
        "close" if is_there => {
            must("iptables", &with(&["-D"]))?;
            service(state, &["iptables", "save"])
        }
        "open" | "close" => Ok(String::new()),
        // Inverted, as the real one's.
        "check" => Ok(format!("Port {port} open: {}\n", !is_there)),
        _ => refuse("Usage: firewall-port {open|close|check} {port} {protocol}"),
    }
}

const ALLOWED: &str = "IN_public_allow";

/// `firewall-cmd [--permanent] [--zone=public] --VERB[=WORD]`.
pub(super) fn firewall_cmd(state: &State, words: &[&str]) -> Result<String, Refusal> {
    let folder = state.root.join("firewalld");
    let is_kept = words.contains(&"--permanent");
    let list = folder.join(if is_kept { "kept" } else { "live" });
    let rest: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| *word != "--permanent" && !word.starts_with("--zone="))
        .collect();
    let [option] = rest.as_slice() else {
        return refuse("Wrong usage of 'direct' options.");
    };
    let (verb, word) = option.split_once('=').unwrap_or((option, ""));
    if !folder.join("running").exists() {
        return refuse("FirewallD is not running");
    }
    let lines = read(&list);
    let of_kind = |is_rule: bool| {
        lines
            .iter()
            .filter(|line| line.starts_with("rule ") == is_rule)
            .cloned()
            .collect::<Vec<_>>()
    };
    match verb {
        "--state" => Ok("running\n".to_owned()),
        "--get-default-zone" => Ok("public\n".to_owned()),
        "--list-ports" => Ok(format!("{}\n", of_kind(false).join(" "))),
        "--list-rich-rules" => Ok(of_kind(true).iter().map(|rule| format!("{rule}\n")).collect()),
        "--query-port" | "--query-rich-rule" => match lines.iter().any(|line| line == word) {
            true => Ok("yes\n".to_owned()),
            false => Err(Refusal("no\n".to_owned())),
        },
        "--add-port" | "--add-rich-rule" => {
            if !is_kept {
                let rule = rule(word)?;
                must("iptables", &front("-A", &rule))?;
            }
            write(&list, lines.into_iter().chain([word.to_owned()]))
        }
        "--remove-port" | "--remove-rich-rule" => {
            if !is_kept {
                let rule = rule(word)?;
                must("iptables", &front("-D", &rule))?;
            }
            write(&list, lines.into_iter().filter(|line| line != word))
        }
        _ => refuse(format!(
            "usage: see firewall-cmd man page\nfirewall-cmd: error: unrecognized arguments: {option}"
        )),
    }
}

fn read(list: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(list).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn write(list: &PathBuf, lines: impl Iterator<Item = String>) -> Result<String, Refusal> {
    fs::write(list, lines.map(|line| line + "\n").collect::<String>())?;
    Ok("success\n".to_owned())
}

fn front<'a>(verb: &'a str, rule: &'a [String]) -> Vec<&'a str> {
    [verb, ALLOWED]
        .into_iter()
        .chain(rule.iter().map(String::as_str))
        .collect()
}

/// What firewalld makes of a port or a rich rule.
fn rule(word: &str) -> Result<Vec<String>, Refusal> {
    let value = |name: &str| {
        let (_, rest) = word.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let (source, port) = match word.strip_suffix("/tcp") {
        Some(port) => (None, Some(port.to_owned())),
        None => (value("address"), value("port port")),
    };
    let Some(port) = port else {
        return refuse(format!("Error: INVALID_RULE: {word}"));
    };
    let mut rule: Vec<String> = source
        .into_iter()
        .flat_map(|source| ["-s".to_owned(), source])
        .collect();
    rule.extend(["-p", "tcp", "--dport", &port.replace('-', ":"), "-j", "ACCEPT"].map(str::to_owned));
    Ok(rule)
}
