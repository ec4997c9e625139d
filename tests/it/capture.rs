//! The logs of a bridge: every byte, boots, rotation, disks that are full.

use crate::bridge_rig::{accepted, bridge, random, up, vm};
use crate::kit::{Running, Sandbox, connect, read_until, wait_until};
use crate::namespace;
use libtest_mimic::{Completion, Trial};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(format!("capture::{name}"), move || {
            test();
            Ok(())
        })
    };
    vec![
        trial("both_logs_have_every_byte", both_logs_have_every_byte),
        trial("boots_are_marked", boots_are_marked),
        trial(
            "rotated_files_together_are_the_stream",
            rotated_files_together_are_the_stream,
        ),
        trial("a_reader_follows_a_rotation", a_reader_follows_a_rotation),
        trial(
            "a_limit_of_a_files_size_is_survived",
            a_limit_of_a_files_size_is_survived,
        ),
        Trial::ignorable_test("capture::a_full_disk_is_told_and_survived", || {
            if let Some(reason) = namespace::missing() {
                return Ok(Completion::ignored_with(reason));
            }
            a_full_disk_is_told_and_survived();
            Ok(Completion::Completed)
        }),
        trial("the_logs_of_a_profile", the_logs_of_a_profile),
        trial("wrong_flags_are_exit_2", wrong_flags_are_exit_2),
    ]
}

fn words(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let own = |name: &str| sandbox.path(name).display().to_string();
    words
        .iter()
        .map(|word| match word.split_once('@') {
            Some((flag, name)) => format!("{flag}={}", own(name)),
            None => (*word).to_owned(),
        })
        .collect()
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn decode(text: &str) -> Vec<u8> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// The stream that a JSON log tells.
fn stream(records: &[Value]) -> Vec<u8> {
    let mut stream = Vec::new();
    for record in records {
        assert_eq!(record["offset"], stream.len() as u64, "{record}");
        assert_eq!(record["v"], 1);
        record["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        if let Some(text) = record["text"].as_str() {
            stream.extend(text.as_bytes());
        } else if let Some(text) = record["base64"].as_str() {
            stream.extend(decode(text));
        }
    }
    stream
}

fn both_logs_have_every_byte() {
    let sandbox = Sandbox::new();
    let words = words(&sandbox, &["--log@raw", "--log-json@json", "--as=console"]);
    let (mut bridge, mut target, mut client) = up(&sandbox, &refs(&words));
    let mut sent = "Grüße\r\n".repeat(2000).into_bytes();
    sent.extend(random(20_000));
    sent.extend(b"\nlogin: ");
    target.write_all(&sent).unwrap();
    read_until(&mut client, b"login: ");
    // It is written before anybody gets it.
    assert!(fs::read(sandbox.path("raw")).unwrap() == sent);
    assert_eq!(
        fs::metadata(sandbox.path("json")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A line that does not go on is in the file soon.
    wait_until("the prompt is logged", || {
        let text = fs::read_to_string(sandbox.path("json")).unwrap();
        text.ends_with("login: \"}\n").then_some(())
    });
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    let records = records(&sandbox.path("json"));
    assert!(stream(&records) == sent);
    let lines = records
        .iter()
        .filter(|record| record["text"] == "Grüße\r\n")
        .count();
    assert_eq!(lines, 2000);
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn boots_are_marked() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let words = words(&sandbox, &["--log-json@json", "--as=console"]);
    let mut bridge = bridge(&sandbox, &refs(&words), &["listen:unix@c"]);
    for boot in ["first", "second"] {
        let mut target = accepted(&listener);
        bridge.wait_line("target up");
        target.write_all(boot.as_bytes()).unwrap();
        drop(target);
        bridge.wait_line("target away");
    }
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    let shown: Vec<String> = records(&sandbox.path("json"))
        .iter()
        .map(|record| {
            let what = record["text"].as_str().or(record["mark"].as_str()).unwrap();
            format!("{} {} {what}", record["boot"], record["offset"])
        })
        .collect();
    let expected = [
        "0 0 opened",
        "1 0 up",
        "1 0 first",
        "1 5 away",
        "2 5 up",
        "2 5 second",
        "2 11 away",
    ];
    assert_eq!(shown, expected);
}

/// The files of a log, the oldest first, put together.
fn together(path: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for number in (1..100).rev() {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        all.extend(fs::read(name).unwrap_or_default());
    }
    all.extend(fs::read(path).unwrap());
    all
}

fn rotated_files_together_are_the_stream() {
    for (keep, all) in [("--log-keep=90", true), ("--log-keep=2", false)] {
        let sandbox = Sandbox::new();
        let flags = [
            "--log@raw",
            "--log-json@json",
            "--log-max=20KiB",
            keep,
            "--as=console",
        ];
        let words = words(&sandbox, &flags);
        let (mut bridge, mut target, mut client) = up(&sandbox, &refs(&words));
        let sent: Vec<u8> = (0..20_000)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect();
        let reader = std::thread::spawn(move || read_until(&mut client, b"line 19999\n"));
        target.write_all(&sent).unwrap();
        reader.join().unwrap();
        bridge.signal("TERM");
        assert_eq!(bridge.wait_end(), 0);
        let raw = together(&sandbox.path("raw"));
        assert!(sent.ends_with(&raw), "the newest part, complete");
        assert_eq!(raw.len() == sent.len(), all, "{} of {}", raw.len(), sent.len());
        for name in ["raw", "raw.1", "raw.2", "json", "json.1", "json.2"] {
            let size = fs::metadata(sandbox.path(name)).unwrap().len();
            assert!(size <= 20 << 10, "{name}: {size}");
        }
        assert_eq!(sandbox.path("raw.3").exists(), all);
        let json: Vec<u8> = together(&sandbox.path("json"));
        let text: String = String::from_utf8(json)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|record| record["text"].as_str().map(str::to_owned))
            .collect();
        assert!(!text.is_empty() && sent.ends_with(text.as_bytes()));
        assert!(bridge.said().contains("log rotated"), "{}", bridge.said());
    }
}

fn a_reader_follows_a_rotation() {
    let sandbox = Sandbox::new();
    let words = words(&sandbox, &["--log@raw", "--log-max=1KiB", "--as=console"]);
    let (_bridge, mut target, mut client) = up(&sandbox, &refs(&words));
    let mut tail = Running::start(
        Command::new("tail")
            .args(["-F", "-s", "0.01", "-c", "+1"])
            .arg(sandbox.path("raw")),
    );
    let mut sent = Vec::new();
    for line in 0..40 {
        let text = format!("{line:099}\n");
        target.write_all(text.as_bytes()).unwrap();
        read_until(&mut client, text.as_bytes());
        sent.extend(text.into_bytes());
        // The reader keeps up, as one does that is woken by the system.
        tail.wait_output(&sent);
    }
    assert!(sandbox.path("raw.3").exists());
}

/// A bridge with both logs.
fn with_logs(sandbox: &Sandbox) -> Command {
    sandbox.vmserial([
        "-v",
        "bridge",
        "--as=console",
        "--log=logs/raw",
        "--log-json=logs/json",
        "connect:unix:vm",
        "listen:unix:c",
    ])
}

fn a_limit_of_a_files_size_is_survived() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("logs")).unwrap();
    let listener = vm(&sandbox);
    // Blocks of 512 bytes, or of 1,024 in some shells.
    let mut limited = namespace::after(Command::new("env"), &with_logs(&sandbox), "ulimit -f 8", &[]);
    let mut bridge = Running::start(&mut limited);
    bridge.wait_line("ready");
    let mut target = accepted(&listener);
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let sent: Vec<u8> = (0..3000)
        .flat_map(|line| format!("line {line}\n").into_bytes())
        .collect();
    target.write_all(&sent).unwrap();
    let got = read_until(&mut client, b"line 2999\n");
    assert!(got == sent, "whoever is attached loses nothing");
    bridge.wait_line("log failed: cannot write `logs/raw`: File too large");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    let raw = fs::read(sandbox.path("logs/raw")).unwrap();
    assert!(!raw.is_empty() && sent.starts_with(&raw));
    // No half record.
    assert!(sent.starts_with(&stream(&records(&sandbox.path("logs/json")))));
}

fn a_full_disk_is_told_and_survived() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("logs")).unwrap();
    let mount = "mount -t tmpfs -o size=64k none logs && echo mounted >&2";
    let listener = vm(&sandbox);
    let mut bridge = Running::start(&mut namespace::inside(&with_logs(&sandbox), mount, &[]));
    bridge.wait_line("mounted");
    bridge.wait_line("ready");
    let mut target = accepted(&listener);
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let sent = random(200_000);
    let writer = {
        let mut target = target.try_clone().unwrap();
        let sent = sent.clone();
        std::thread::spawn(move || target.write_all(&sent).unwrap())
    };
    let mut got = vec![0; sent.len()];
    client.read_exact(&mut got).unwrap();
    writer.join().unwrap();
    assert!(got == sent, "whoever is attached loses nothing");
    bridge.wait_line("log failed");
    // Room again: the next bytes are written, and how many are missing is told. The disk is the bridge's own.
    let inside = |words: &[&str]| {
        let output = namespace::command(&namespace::way().enter(bridge.pid()))
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let folder = sandbox.path("logs").display().to_string();
    // With the source named, `mount` does not repeat the options as they are: a plain user may not give them.
    inside(&["mount", "-o", "remount,size=1m", "none", &folder]);
    target.write_all(b"\nroom again\n").unwrap();
    read_until(&mut client, b"room again\n");
    let raw = inside(&["cat", &format!("{folder}/raw")]);
    let json = inside(&["cat", &format!("{folder}/json")]);
    bridge.wait_line("log written");
    assert!(raw.ends_with(b"room again\n"));
    let json = String::from_utf8(json).unwrap();
    // Every byte is in the log, or told to be missing at its place.
    let (mut at, mut lost) = (0, 0);
    for line in json.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["offset"], at, "{record}");
        if let Some(text) = record["base64"].as_str() {
            at += decode(text).len() as u64;
        }
        at += record["text"].as_str().map_or(0, |text| text.len() as u64);
        at += record["bytes"].as_u64().unwrap_or(0);
        lost += record["bytes"].as_u64().unwrap_or(0);
    }
    assert_eq!(at, sent.len() as u64 + 12, "{json}");
    assert!(lost > 0, "{json}");
    assert!(json.lines().last().unwrap().contains("room again"), "{json}");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn the_logs_of_a_profile() {
    let sandbox = Sandbox::new();
    let text = "version: 1\ntargets:\n  dev:\n    host: qemu\n    vm: dev\n    ports:\n      - {port: 1, as: console, attach: 'listen:unix:vm', log: raw, log_json: json, log_max: 1KiB, log_keep: 1}\n";
    fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let listener = vm(&sandbox);
    let mut console = sandbox.start(["console", "dev"]);
    let mut target = accepted(&listener);
    let lines = b"0123456789abcde\n".repeat(150);
    target.write_all(&lines).unwrap();
    target.write_all(b"last").unwrap();
    console.wait_output(b"last");
    assert_eq!(fs::read(sandbox.path("raw.1")).unwrap().len(), 1024);
    assert!(fs::read(sandbox.path("raw")).unwrap().ends_with(b"last"));
    assert!(!sandbox.path("raw.2").exists());
    assert!(sandbox.path("json.1").exists());
    let text = text.replace("log_max: 1KiB, ", "");
    fs::write(sandbox.path("vmserial.yaml"), text).unwrap();
    let ended = sandbox.run(["profile", "check"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("`log_keep` needs `log_max`"),
        "{}",
        ended.stderr
    );
}

fn wrong_flags_are_exit_2() {
    let sandbox = Sandbox::new();
    for flags in [
        &["--log=x", "--log-json=x"][..],
        &["--log=x", "--log-max=0"],
        &["--log=x", "--log-keep=2"],
        &["--log=x", "--log-max=1KB"],
    ] {
        let mut all = vec!["bridge", "connect:unix:vm", "listen:unix:c"];
        all.extend(flags);
        assert_eq!(sandbox.run(&all).code, Some(2), "{flags:?}");
    }
}
