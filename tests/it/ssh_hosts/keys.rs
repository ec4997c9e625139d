//! The host's key: known, unknown, changed, revoked.

use super::{Lab, key, on_terminal, refused};
use crate::kit::Sandbox;
use std::fs;
use std::process::Command;

/// Name and body of each trial.
pub const TRIALS: &[(&str, fn())] = &[
    (
        "an_unknown_key_is_not_taken_unasked",
        an_unknown_key_is_not_taken_unasked,
    ),
    (
        "an_unknown_key_is_asked_for_on_a_terminal",
        an_unknown_key_is_asked_for_on_a_terminal,
    ),
    ("a_changed_key_is_refused", a_changed_key_is_refused),
    ("a_revoked_key_is_refused", a_revoked_key_is_refused),
    ("a_broken_line_is_told", a_broken_line_is_told),
    (
        "only_the_known_type_of_key_is_asked_for",
        only_the_known_type_of_key_is_asked_for,
    ),
];

fn an_unknown_key_is_not_taken_unasked() {
    let lab = Lab::new();
    fs::write(lab.known_hosts(), "").unwrap();
    let ended = lab.setup(&["--plan"]);
    refused(
        &ended,
        5,
        &[
            "the key of `lab` is not known: ssh-ed25519 SHA256:",
            "--accept-new-host-key",
        ],
    );
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), "");
    let taken = lab.setup(&["--plan", "--accept-new-host-key"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    let line = fs::read_to_string(lab.known_hosts()).unwrap();
    assert!(
        line.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", lab.server.port)),
        "{line}"
    );
    assert_eq!(lab.setup(&["--plan"]).code, Some(0));
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), line);
    // What we wrote is what OpenSSH wants too, also hashed.
    fs::remove_file(lab.known_hosts()).unwrap();
    lab.add_to_config("Host lab\n HashKnownHosts yes\n");
    let taken = lab.setup(&["--plan", "--accept-new-host-key"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(fs::read_to_string(lab.known_hosts()).unwrap().starts_with("|1|"));
    let status = Command::new(lab.sandbox.path("bin/ssh"))
        .args([
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "lab",
            "true",
        ])
        .status()
        .unwrap();
    assert!(status.success());
}

fn an_unknown_key_is_asked_for_on_a_terminal() {
    for (answer, code) in [("n\n", 14), ("y\n", 0)] {
        let lab = Lab::new();
        fs::write(lab.known_hosts(), "").unwrap();
        let mut terminal = on_terminal(&lab);
        terminal.wait("SHA256:");
        terminal.wait("Take it? [y/N] ");
        terminal.press(answer.as_bytes());
        assert_eq!(terminal.end(), Some(code));
        let known = fs::read_to_string(lab.known_hosts()).unwrap();
        assert_eq!(!known.is_empty(), code == 0, "{known}");
    }
}

fn a_changed_key_is_refused() {
    let lab = Lab::new();
    let other = key(&lab, "other", "ed25519", "");
    let line = format!("# mine\n[127.0.0.1]:{} {other}", lab.server.port);
    fs::write(lab.known_hosts(), &line).unwrap();
    for more in [&["--plan"][..], &["--plan", "--accept-new-host-key"]] {
        let ended = lab.setup(more);
        refused(
            &ended,
            5,
            &[
                "the key of `lab` is not the one in ",
                "known_hosts:2: it shows ssh-ed25519 SHA256:",
                "ssh-keygen -R",
            ],
        );
    }
    assert_eq!(fs::read_to_string(lab.known_hosts()).unwrap(), line);
}

fn a_revoked_key_is_refused() {
    let lab = Lab::new();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    let host_key = fs::read_to_string(lab.sandbox.path("ssh/host_key.pub")).unwrap();
    fs::write(lab.known_hosts(), format!("{known}@revoked * {host_key}")).unwrap();
    refused(
        &lab.setup(&["--plan", "--accept-new-host-key"]),
        5,
        &["the key of `lab` is marked as revoked in ", "known_hosts:2"],
    );
}

fn a_broken_line_is_told() {
    let lab = Lab::new();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    fs::write(lab.known_hosts(), format!("half a line\n{known}")).unwrap();
    let ended = lab.setup(&["--plan"]);
    refused(&ended, 0, &["warning: ", "known_hosts:1: cannot be read"]);
}

fn only_the_known_type_of_key_is_asked_for() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("keys")).unwrap();
    let ecdsa = sandbox.path("keys/ecdsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
        .arg(&ecdsa)
        .status()
        .unwrap();
    assert!(made.success());
    let lab = Lab::with(&format!("HostKey {}\n", ecdsa.display()));
    let public = fs::read_to_string(sandbox.path("keys/ecdsa.pub")).unwrap();
    // The host has an ed25519 key too, of which nothing is known.
    fs::write(
        lab.known_hosts(),
        format!("[127.0.0.1]:{} {public}", lab.server.port),
    )
    .unwrap();
    let ended = lab.setup(&["--plan"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
