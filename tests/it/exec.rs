//! `exec:` endpoints: a command's standard input and output as a stream, and its whole life.

use crate::bridge_rig::{accepted, random, read_exactly, up, vm};
use crate::kit::{Running, Sandbox, connect, has_ended, read_until, wait_until};
use libtest_mimic::{Failed, Trial};
use std::io::{Read, Write};
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, run: fn()| {
        Trial::test(format!("exec::{name}"), move || -> Result<(), Failed> {
            run();
            Ok(())
        })
    };
    vec![
        trial("a_command_is_the_vms_side", a_command_is_the_vms_side),
        trial("a_command_is_a_client", a_command_is_a_client),
        trial(
            "words_are_split_and_no_shell_runs",
            words_are_split_and_no_shell_runs,
        ),
        trial(
            "megabytes_pass_both_ways_unchanged",
            megabytes_pass_both_ways_unchanged,
        ),
        trial(
            "what_it_says_is_told_line_by_line",
            what_it_says_is_told_line_by_line,
        ),
        trial(
            "a_command_that_ends_is_started_again",
            a_command_that_ends_is_started_again,
        ),
        trial(
            "a_command_that_fails_at_once_is_started_less_and_less",
            a_command_that_fails_at_once_is_started_less_and_less,
        ),
        trial("a_missing_program_is_a_state", a_missing_program_is_a_state),
        trial("its_end_with_the_bridge", its_end_with_the_bridge),
        trial(
            "a_deaf_command_is_killed_with_its_children",
            a_deaf_command_is_killed_with_its_children,
        ),
        trial("once_delivers_everything", once_delivers_everything),
        trial("a_break_by_command", a_break_by_command),
        trial(
            "many_starts_leave_nothing_behind",
            many_starts_leave_nothing_behind,
        ),
    ]
}

/// A bridge between a command and the Unix socket `c`.
fn bridge(sandbox: &Sandbox, words: &[&str], command: &str) -> Running {
    let mut all = vec!["-v".to_owned(), "bridge".to_owned()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all.push(format!("exec:{command}"));
    all.push(sandbox.endpoint("listen:unix", "c"));
    let mut bridge = sandbox.start(all);
    bridge.wait_line("ready");
    bridge
}

fn children_of(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .into_iter()
        .chain(
            std::fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
                .filter(|task| task.file_name() != *pid.to_string())
                .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()),
        )
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn a_command_is_the_vms_side() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(&sandbox, &[], "cat");
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    client.write_all(b"hello\n").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"hello\n");
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
}

fn a_command_is_a_client() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let _bridge = sandbox.bridge([
        sandbox.endpoint("connect:unix", "vm").as_str(),
        "exec:sh -c 'read line; echo \"got $line\"; cat'",
    ]);
    let mut vm = accepted(&listener);
    vm.write_all(b"boot\n").unwrap();
    assert_eq!(read_until(&mut vm, b"\n"), b"got boot\n");
    vm.write_all(b"more").unwrap();
    assert_eq!(read_exactly(&mut vm, 4), b"more");
}

fn words_are_split_and_no_shell_runs() {
    let sandbox = Sandbox::new();
    let _bridge = bridge(
        &sandbox,
        &["--hold", "1KiB"],
        r"printf '[%s]' 'a b' $HOME \* x\ y ';'",
    );
    let mut client = connect(&sandbox.path("c"));
    read_until(&mut client, br"[a b][$HOME][*][x y][;]");
}

fn megabytes_pass_both_ways_unchanged() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(&sandbox, &[], "cat");
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    let bytes = random(4 << 20);
    let mut writer = client.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(read_exactly(&mut client, bytes.len()) == bytes);
    writing.join().unwrap();
}

fn what_it_says_is_told_line_by_line() {
    let sandbox = Sandbox::new();
    let mut bridge = sandbox.start([
        "--json",
        "bridge",
        "exec:sh -c 'echo one >&2; printf \"two\\nthree\" >&2; cat >/dev/null; exit 4'",
        &sandbox.endpoint("listen:unix", "c"),
        "--once",
    ]);
    bridge.wait_output(br#""event":"said","endpoint":"exec:sh"#);
    bridge.wait_output(br#""line":"one""#);
    bridge.wait_output(br#""line":"two""#);
    let client = connect(&sandbox.path("c"));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    bridge.wait_output(br#""line":"three""#);
    bridge.wait_output(br#""state":"away","reason":"ended with 4: three""#);
    drop(client);
    bridge.wait_end();
}

fn a_command_that_ends_is_started_again() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(
        &sandbox,
        &["--reconnect-every", "20ms"],
        "sh -c 'read line; echo \"$$ $line\"'",
    );
    bridge.wait_line("target up");
    let mut client = connect(&sandbox.path("c"));
    bridge.wait_line("client 1 attached");
    client.write_all(b"first\n").unwrap();
    let first = read_until(&mut client, b"first\n");
    bridge.wait_line("target away: ended");
    bridge.wait_line("target up");
    client.write_all(b"second\n").unwrap();
    let second = read_until(&mut client, b"second\n");
    assert_ne!(
        first.split(|&b| b == b' ').next(),
        second.split(|&b| b == b' ').next()
    );
}

fn a_command_that_fails_at_once_is_started_less_and_less() {
    let sandbox = Sandbox::new();
    let count = sandbox.path("count");
    let command = format!("sh -c 'echo x >> {}; exit 7'", count.display());
    let mut bridge = sandbox.start([
        "--json",
        "bridge",
        "--reconnect-every",
        "10ms",
        &format!("exec:{command}"),
        &sandbox.endpoint("listen:unix", "c"),
    ]);
    let starts = || std::fs::read_to_string(&count).map_or(0, |text| text.lines().count());
    // 10, 20, 40 … ms: the eighth start is 1.27 s after the first at the earliest.
    wait_until("it was started eight times", || (starts() >= 8).then_some(()));
    bridge.wait_output(br#""state":"away","reason":"ended with 7""#);
    let times: Vec<jiff::Timestamp> = bridge
        .output_so_far()
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter(|event| event["event"] == "target" && event["state"] == "up")
        .map(|event| event["time"].as_str().unwrap().parse().unwrap())
        .collect();
    let (first, last) = (times[0].as_nanosecond(), times[times.len() - 1].as_nanosecond());
    let least: i128 = (0..times.len() - 1).map(|index| 20_000_000_i128 << index).sum();
    assert!(times.len() >= 6 && last - first >= least / 2, "{times:?}");
}

fn a_missing_program_is_a_state() {
    let sandbox = Sandbox::new();
    let mut bridge = bridge(&sandbox, &["--wait", "300ms"], "no-such-program x");
    let line = bridge.wait_line("target away");
    assert!(line.ends_with("`no-such-program` was not found"), "{line}");
    assert_eq!(bridge.wait_end(), 7);
}

fn its_end_with_the_bridge() {
    let sandbox = Sandbox::new();
    let marks = sandbox.path("marks");
    // Standard input is closed first: a command that ends by that gets no signal.
    let script = format!(
        "trap 'echo term >> {0}' TERM; echo up; cat >/dev/null; echo eof >> {0}; exit 0",
        marks.display()
    );
    let mut bridge = bridge(&sandbox, &["--hold", "10"], &format!("sh -c {}", quoted(&script)));
    let mut client = connect(&sandbox.path("c"));
    read_until(&mut client, b"up\n");
    let [child] = children_of(bridge.pid())[..] else {
        panic!("one child: {:?}", children_of(bridge.pid()));
    };
    bridge.signal("TERM");
    assert_eq!(bridge.wait_end(), 0);
    assert!(is_gone(child), "the command is gone when the bridge is");
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "eof\n");
}

fn a_deaf_command_is_killed_with_its_children() {
    let sandbox = Sandbox::new();
    let pids = sandbox.path("pids");
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > {}; echo up; while :; do wait; done",
        pids.display()
    );
    let mut bridge = bridge(&sandbox, &["--hold", "10"], &format!("sh -c {}", quoted(&script)));
    let mut client = connect(&sandbox.path("c"));
    read_until(&mut client, b"up\n");
    let pids = std::fs::read_to_string(&pids).unwrap();
    bridge.signal("INT");
    assert_eq!(bridge.wait_end(), 130);
    for pid in pids.split_whitespace() {
        wait_until("it is gone", || has_ended(pid).then_some(()));
    }
}

fn once_delivers_everything() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["bridge", "exec:sh -c 'seq 1 20000; exit 0'", "stdio", "--once"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(ended.stdout == expected, "{} bytes", ended.stdout.len());
}

fn a_break_by_command() {
    let sandbox = Sandbox::new();
    let mark = sandbox.path("mark");
    let way = format!("exec:sh -c 'echo sent >> {}'", mark.display());
    let (_bridge, mut vm, _client) = up(&sandbox, &["--as", "console", "--break-with", &way]);
    let target = sandbox.endpoint("connect:unix", "vm");
    let ended = sandbox.run(["break", &target, "--only-break"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "BREAK sent (exec:sh).\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "sent\n");

    let second = Sandbox::new();
    let (mut bridge, _vm, _client) = up(&second, &["--as", "console", "--break-with", "exec:sleep 1000"]);
    let target = second.endpoint("connect:unix", "vm");
    let ended = second.run(["break", &target, "--only-break"]);
    assert_ne!(ended.code, Some(0));
    assert!(
        ended
            .stderr
            .contains("exec:sleep: it did not end within 500 ms and was killed"),
        "{}",
        ended.stderr
    );
    bridge.wait_line("break by exec:sleep: it did not end within 500 ms and was killed");
    wait_until("the command is gone", || {
        children_of(bridge.pid()).is_empty().then_some(())
    });
    vm.set_read_timeout(Some(std::time::Duration::from_millis(1)))
        .unwrap();
    assert!(vm.read(&mut [0; 8]).is_err(), "nothing reached the VM's stream");
}

fn many_starts_leave_nothing_behind() {
    let sandbox = Sandbox::new();
    let listener = vm(&sandbox);
    let bridge = sandbox.bridge([
        sandbox.endpoint("connect:unix", "vm").as_str(),
        "--reconnect-every",
        "1ms",
        "exec:cat",
    ]);
    let mut vm = accepted(&listener);
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", bridge.pid()))
            .unwrap()
            .count()
    };
    let mut before = None;
    // The pause doubles each time: ten starts within a second.
    for _ in 0..10 {
        let child = wait_until("the command runs", || children_of(bridge.pid()).first().copied());
        vm.write_all(b"x").unwrap();
        read_exactly(&mut vm, 1);
        before.get_or_insert_with(open);
        crate::kit::kill(child, "KILL");
        wait_until("it was reaped", || is_gone(child).then_some(()));
    }
    wait_until("as many descriptors are open as before", || {
        (Some(open()) <= before).then_some(())
    });
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
