//! One wrong thing a row, and what is said of it.

use super::errors;

/// A profile with one target of these keys.
pub(super) fn target(keys: &str) -> String {
    format!("version: 1\ntargets: {{a: {{host: qemu, vm: x, {keys}}}}}\n")
}

#[test]
fn wrong_documents_are_told_apart() {
    for (text, part) in [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("---\n...\n", "is empty"),
        ("- a\n", "got a list, expected a map"),
        ("text\n", "got `text`, expected a map"),
        ("targets: {}\n", "the key `version` is missing"),
        ("version: 2\nfuture: yes\n", "reads version 1"),
        ("version: 0\n", "reads version 1"),
        ("version: 99999999999999999999\n", "reads version 1"),
        ("version: one\n", "got `one`, expected a whole number"),
        ("version: \"1\"\n", "got `1`, expected a whole number"),
        (
            "version: 1\nversion: 1\n",
            "`version`: the key stands on line 1 already",
        ),
        ("version: 1\n---\nversion: 1\n", "a second document begins here"),
        ("version: !int 1\n", "`version`: a tag"),
        ("version: 1\n? [a]\n: b\n", "expected a text as a key"),
        ("version: 1\n\ttargets: {}\n", "this is no YAML"),
        ("version: 1\ntargets: {a: *b}\n", "this is no YAML"),
        ("version: 1\ntargets: &a {b: *a}\n", "inside of its own anchor"),
        (
            "version: 1\ntargets: {a b: {host: qemu, vm: x}}\n",
            "no target name",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu}}\n",
            "the key `vm` is missing",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: 12}}\n",
            "write it in quotes: \"12\"",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm:}}\n",
            "got nothing, expected a text or a map",
        ),
        ("version: 1\ntargets:\n", "`targets`: got nothing, expected a map"),
        ("version: 1\n<<: {targets: {}}\n", "`\"<<\"`: unknown key"),
        (
            "version: 1\ntargets: {a: {host: vmware, vm: {name: x, kernel: k}}}\n",
            "starts no VM of `vmware`",
        ),
        (
            "version: 1\ntargets: {a: {host: qemu, vm: {name: x, start: true}}}\n",
            "needs a `kernel` or `disks`",
        ),
        (
            "version: 1\ntargets: {a: {host: hyper, vm: x}}\n",
            "did you mean `hyperv`?",
        ),
    ] {
        let told = errors(text);
        assert!(told.contains(part), "{text:?}: {told}");
    }
}

#[test]
fn wrong_keys_of_a_target_are_told_apart() {
    for (keys, part) in [
        ("restart: maybe", "expected one of never, ask, graceful, hard"),
        ("restart: aks", "did you mean `ask`?"),
        ("restart:", "got nothing, expected one of never"),
        ("restart: {ask: now}", "got a map, expected a text"),
        ("nested: yes", "expected true or false; did you mean `true`?"),
        ("nested: \"true\"", "expected true or false"),
        ("ports: {port: 1, as: console}", "got a map, expected a list"),
        (
            "ports: [{port: 33, as: console}]",
            "got 33, expected a number from 1 to 32",
        ),
        (
            "ports: [{port: -1, as: console}]",
            "got -1, expected a number from 1 to 32",
        ),
        (
            "ports: [{port: 1.5, as: console}]",
            "got the number `1.5`, expected a whole number",
        ),
        (
            "ports: [{port: COM1, as: console}]",
            "got `COM1`, expected a whole number",
        ),
        (
            "ports: [{port: 1, as: console, replay: 64}]",
            "expected a size with its unit",
        ),
        (
            "ports: [{port: 1, as: console, replay: 64MB}]",
            "`64MB` is no size",
        ),
        (
            "ports: [{port: 1, as: gdb}, {port: 2, as: kd}]",
            "two ports have a debug policy",
        ),
        (
            "ports: [{port: 1, as: console, attach: \"listen:tpc:1\"}]",
            "column 8",
        ),
        (
            "ports: [{port: 1, as: console, attach: \"pipe:x\"}]",
            "role: got nothing",
        ),
        (
            "ports: [{port: 1, as: console, serve: listen:tcp:1}]",
            "got `listen:tcp:1`, expected a list",
        ),
        (
            "ports: [{port: 1, as: console, break_with: sysrq}]",
            "expected telnet, rfc2217",
        ),
        (
            "ports: [{port: 1, as: gdb, one_writer: true}]",
            "`one_writer` is for consoles (`as: console` or `console+gdb`), and the port has `as: gdb`",
        ),
        (
            "ports: [{port: 1, as: console, one_writer: 1}]",
            "expected true or false",
        ),
        (
            "ports: [{port: 1, as: console, attach: {exec: []}}]",
            "`targets.a.ports[0].attach",
        ),
        (
            "ports: [{port: 1, as: console, attach: {run: [a]}}]",
            "`targets.a.ports[0].attach",
        ),
        (
            "ports: [{port: 1, as: console, attach: {exec: [\"\", a]}}]",
            "attach.exec[0]`: got an empty text, expected a program",
        ),
        (
            "ports: [{port: 1, as: console, attach: {exec: [a, \"b\\0\"]}}]",
            "attach.exec[1]`: a word of a command cannot hold a NUL",
        ),
        (
            "ports: [{port: 1, as: console, tunnel: vpn}]",
            "expected one of ssh",
        ),
        (
            "ports: [{port: 1, as: raw, serve: [\"ro=listen:tcp:0\"]}]",
            "a `ro=` client contradicts `as: raw`",
        ),
        (
            "ports: [{port: 1, as: kd, serve: [\"gdb=listen:tcp:0\"]}]",
            "a `gdb=` client contradicts `as: kd`",
        ),
        (
            "ports: [{port: 1, as: kd, tunnel: ssh}]",
            "a tunnel goes to a host with `ssh`",
        ),
        (
            "ports: [{port: 1, as: kd, firewall: {allow_from: 10.0.0.1/8}}]",
            "bits behind its first 8",
        ),
        ("transport: gdbstub", "got `gdbstub`, expected a map"),
        ("transport: {}", "got an empty map, expected gdbstub"),
        ("transport: {gdbstubb: {port: 1}}", "did you mean `gdbstub`?"),
        (
            "transport: {gdbstub: {port: 70000}}",
            "got 70000, expected a number from 1 to 65535",
        ),
        ("transport: {gdbstub: {port: 1}, kdnet: {}}", "unknown key"),
        (
            "guest: {os: linux, password: {env: A, command: b}}",
            "a secret is never in a profile",
        ),
        (
            "guest: {os: linux, password: {}}",
            "a secret is never in a profile",
        ),
        (
            "guest: {os: linux, password: {command: \" \"}}",
            "got an empty command",
        ),
        (
            "guest: {os: linux, bitlocker: suspend}",
            "`bitlocker` is for guests with `os: windows`",
        ),
        (
            "guest: {os: windows, console: persistent}",
            "`console` is for guests with `os: linux`",
        ),
        ("guest: {os: plan9}", "expected one of linux, windows"),
        ("debugger: {kind: gdb, break_in: [qpm]}", "did you mean `qmp`?"),
        ("debugger: {kind: gdb, source: [a]}", "got a list, expected a map"),
        (
            "debugger: {kind: gdb, modules: [1]}",
            "`targets.a.debugger.modules[0]`",
        ),
        (
            "ports: [{port: 1, as: console, attach: \"listen:unix:/s\"}, {port: 2, as: gdb, attach: \"listen:unix:/s\"}]",
            "`targets.a.ports[1].attach`: port 1 of this VM has the endpoint `unix:/s` already",
        ),
        (
            "ports: [{port: 1, as: console, log: l}, {port: 2, as: gdb, log_json: l}]",
            "`targets.a.ports[1].log_json`: port 1 of this VM has the log",
        ),
        (
            "ports: [{port: 2, as: console, log: l}, {port: 1, as: gdb, log: l}]",
            "`targets.a.ports[1].log`: port 2 of this VM has the log",
        ),
        ("range: {from: 1, to: 2}", "needs `{{ n }}` in its name"),
        (
            "restart: ask, nested: false, secure_boot: true",
            "expected one of auto, keep, off",
        ),
    ] {
        let told = errors(&target(keys));
        assert!(told.contains(part), "{keys:?}: {told}");
    }
}
