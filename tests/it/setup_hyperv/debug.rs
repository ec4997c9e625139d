//! `vmserial debug` on a Windows guest: the plan, the bridge, and the debugger or its command line.

use super::{Lab, trial};
use libtest_mimic::Trial;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_debugger_that_is_elsewhere_is_told_its_command_line", elsewhere),
        trial("a_debugger_that_is_here_is_started", here),
    ]
}

const PROFILE: &str = "version: 1
targets:
  win:
    host: hyperv
    vm: win
    ports: [{port: 1, as: kd, attach: \"listen:pipe:win-kd\", serve: [\"listen:tcp:127.0.0.1:0\"]}]
    guest: {os: windows}
    debugger: {kind: kd}
";

fn lab() -> Lab {
    let lab = Lab::new(|_| {});
    fs::write(lab.sandbox.path("win.yaml"), PROFILE).unwrap();
    lab
}

const WORDS: [&str; 5] = ["debug", "win.yaml", "--yes", "--confirm", "secure-boot"];

fn elsewhere() {
    let lab = lab();
    let mut debug = lab.sandbox.start(WORDS);
    let line = debug.wait_line("listening on listen:tcp:127.0.0.1:");
    let port = line.rsplit(':').next().unwrap().to_owned();
    debug.wait_output(format!("kd -k com:ipport={port},port=127.0.0.1\n").as_bytes());
    debug.wait_line("until Ctrl-C");
    assert_eq!(lab.host().vms[1].secure_boot.as_deref(), Some("Off"));
    debug.signal("INT");
    assert_eq!(debug.wait_end_with_input_open(), 130, "{}", debug.said());
}

fn here() {
    for (code, expected) in [(0, 0), (3, 6)] {
        let lab = lab();
        let program = lab.sandbox.path("bin/kd.exe");
        fs::write(
            &program,
            format!("#!/bin/sh\necho \"$@\" >kd.said\nexit {code}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let ended = lab.sandbox.run(WORDS.iter().chain(&["--", "-bonc"]));
        assert_eq!(ended.code, Some(expected), "{ended:?}");
        let said = fs::read_to_string(lab.sandbox.path("kd.said")).unwrap();
        assert!(
            said.starts_with("-k com:ipport=") && said.ends_with(",port=127.0.0.1 -bonc\n"),
            "{said}"
        );
    }
}
