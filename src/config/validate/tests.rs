//! What a profile asks for that nobody does yet is known by its field path.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::load::parse;

fn unserved(text: &str) -> Vec<(String, Vec<String>)> {
    let base = Base {
        folder: "/p".into(),
        home: None,
    };
    parse(text, &base)
        .unwrap()
        .1
        .into_iter()
        .map(|target| (target.name.to_string(), target.unserved))
        .collect()
}

#[test]
fn keys_that_nobody_acts_on_yet_are_named() {
    let text = "\
version: 1
hosts: {h: {hypervisor: xen, ssh: h, sudo: true, password: {env: A}}, here: {hypervisor: xen, sudo: true, password: {env: A}}}
targets:
  a:
    host: h
    vm: \"x*\"
    secure_boot: off
    host_sysrq: off
    ports: [{port: 1, as: kd, tunnel: ssh}, {port: 2, as: console, attach: \"listen:tcp:0.0.0.0:7001\", firewall: {allow_from: any}}]
    guest: {os: linux, ssh: g, sudo: true, password: {env: A}, console: persistent, boot_entry: {}}
    debugger: {kind: gdb, modules: [m]}
  b: {host: here, vm: y, ports: [{port: 1, as: kd}], guest: {os: windows, ssh: w, password: {env: A}, bitlocker: suspend}}
joins: [{a: a/1, b: b/1, as: kd}]
";
    let of_host = ["hosts.here.password", "hosts.here.sudo"];
    let a = ["vm", "debugger.modules"];
    let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        unserved(text),
        [("a".to_owned(), strings(&a)), ("b".to_owned(), strings(&of_host)),]
    );
}

#[test]
fn what_only_describes_is_served() {
    let text = "version: 1\ntargets: {a: {host: vmware, vm: x.vmx, guest: {os: linux, console: off}, secure_boot: keep, nested: true}}\n";
    assert_eq!(unserved(text), [("a".to_owned(), Vec::new())]);
    // Who has no switch for it says so, where it is wanted off.
    let text = "version: 1\ntargets: {a: {host: vmware, vm: x.vmx, secure_boot: off}, b: {host: xen, vm: y, secure_boot: off}}\n";
    let of_a = vec!["secure_boot".to_owned()];
    assert_eq!(
        unserved(text),
        [("a".to_owned(), of_a), ("b".to_owned(), Vec::new())]
    );
}
