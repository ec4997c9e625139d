//! Ranges: many targets of one.

use super::{base, errors, tables};
use crate::config::load::parse;
use crate::config::yaml::to_yaml;

#[test]
fn a_range_makes_a_target_for_each_number() {
    let text = "\
version: 1
targets:
  \"lab-{{ '%02d' | format(n) }}\":
    range: {from: 9, to: 11}
    host: qemu
    vm: \"{{ n }}\"
    transport: {gdbstub: {port: \"{{ 1200 + n }}\"}}
    ports: [{port: 1, as: console, serve: [\"listen:tcp:127.0.0.1:{{ 7000 + n }}\"], log: \"{{ n }}/log\"}]
";
    let (profile, targets) = parse(text, &base()).unwrap();
    let made: Vec<String> = targets
        .iter()
        .map(|target| {
            let port = &target.ports[0];
            format!(
                "{} {} {} {} {}",
                target.name,
                target.vm,
                target.gdb_stub.as_ref().unwrap().port,
                port.serve[0],
                port.log.raw.as_ref().unwrap().display()
            )
        })
        .collect();
    assert_eq!(
        made,
        [
            "lab-09 9 1209 listen:tcp:127.0.0.1:7009 /p/9/log",
            "lab-10 10 1210 listen:tcp:127.0.0.1:7010 /p/10/log",
            "lab-11 11 1211 listen:tcp:127.0.0.1:7011 /p/11/log",
        ]
    );
    // What is shown has the targets themselves, and reads the same again.
    assert_eq!(
        parse(&to_yaml(&profile).unwrap(), &base()).unwrap(),
        (profile, targets)
    );
}

#[test]
fn wrong_ranges_are_told_once_with_their_places() {
    insta::assert_snapshot!(errors(
        "\
version: 1
targets:
  \"a{{ n }}\": {range: {from: 1, to: 50}, host: qemu, vm: x, restart: nver}
  \"b{{ n }}\": {range: {from: 3, to: 1}, host: qemu, vm: x}
  \"c{{ n }}\": {range: {from: 1, to: 9}, host: qemu, vm: \"x{{ m }}\"}
  \"d{{ n }}\": {range: {from: 1}, host: qemu, vm: x}
  \"e{{ n }}\": {host: qemu, vm: x}
  f: {host: qemu, vm: \"x{{ n }}\"}
  g: {range: {from: 1, to: 2}, host: qemu, vm: x}
  \"h{{ n }}\": {range: {from: 0, to: 4000000000}, host: qemu, vm: x}
  \"i{{ n }}\": {range: {from: 1, to: 9}, host: qemu, vm: x, ports: [{port: \"{{ 30 + n }}\", as: console}]}
  j2: {host: qemu, vm: x}
  \"j{{ n }}\": {range: {from: 1, to: 3}, host: qemu, vm: x}
  \"k {{ n }}\": {range: {from: 1, to: 3}, host: qemu, vm: x}
"
    ));
}

#[test]
fn braces_of_other_programs_are_left_alone() {
    let text = tables::target(
        "ports: [{port: 1, as: console, break_with: \"exec:docker inspect -f {{.State}} x\"}]",
    );
    assert!(parse(&text, &base()).is_ok());
}
