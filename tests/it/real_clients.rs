//! socat as a client, a hundred one after the other: every byte arrives, and no descriptor or client is left.

use crate::control::Asker;
use crate::kit::{PATIENCE, Sandbox, finish, wait_until};
use libtest_mimic::Trial;
use serde_json::json;
use std::process::Command;
use vmserial_testkit::faults::{Action, HypervisorEnd};

const CYCLES: usize = 100;

pub fn trials() -> Vec<Trial> {
    let clients: [(&str, &[&str], &str); 2] = [
        ("socat_over_unix", &["socat", "-u", "-"], "UNIX-CONNECT:"),
        ("socat_over_tcp", &["socat", "-u", "-"], "TCP:"),
    ];
    clients
        .into_iter()
        .map(|(name, words, prefix)| {
            Trial::test(format!("real_clients::a_hundred_of_{name}"), move || {
                hundred(words, prefix, name.ends_with("unix"));
                Ok(())
            })
        })
        .collect()
}

fn hundred(words: &[&str], prefix: &str, unix: bool) {
    let sandbox = Sandbox::new();
    let mut vm = HypervisorEnd::listen_unix(sandbox.path("vm"), PATIENCE).unwrap();
    let client = if unix {
        sandbox.endpoint("listen:unix", "c")
    } else {
        "listen:tcp:127.0.0.1:0".into()
    };
    let mut bridge = sandbox.start([
        "bridge".to_owned(),
        sandbox.endpoint("connect:unix", "vm"),
        client,
    ]);
    let line = bridge.wait_line("listening client 1");
    let address = match line.rsplit_once("127.0.0.1:") {
        Some((_, port)) => format!("127.0.0.1:{port}"),
        None => sandbox.path("c").display().to_string(),
    };
    bridge.wait_line("ready");
    vm.play(&[Action::Connect]).unwrap();
    let mut asker = Asker::new(&sandbox);
    let nobody_left = |asker: &mut Asker| {
        wait_until("the last client is detached", || {
            asker.result("status", json!({}))["clients"]
                .as_array()?
                .is_empty()
                .then_some(())
        });
    };
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", bridge.pid()))
            .unwrap()
            .count()
    };
    let mut before = 0;
    for cycle in 0..CYCLES {
        let said = format!("client {cycle};").into_bytes();
        let ended = finish(
            Command::new(words[0])
                .args(&words[1..])
                .arg(format!("{prefix}{address}")),
            &said,
        );
        assert_eq!(ended.code, Some(0), "{ended:?}");
        vm.play(&[Action::Expect(said)]).unwrap();
        if cycle == 0 {
            nobody_left(&mut asker);
            before = open();
        }
    }
    nobody_left(&mut asker);
    assert_eq!(open(), before, "descriptors are left");
}
