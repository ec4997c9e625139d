//! Both logs together: what they hold, and what a full disk does to them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::model::base64;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn logs(folder: &Path) -> LogSpec {
    LogSpec {
        raw: Some(folder.join("raw")),
        json: Some(folder.join("json")),
        rotation: None,
    }
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The stream that a JSON log tells, with every offset checked.
fn stream(records: &[Value]) -> Vec<u8> {
    let mut stream = Vec::new();
    for record in records {
        assert_eq!(record["offset"], stream.len() as u64, "{record}");
        if let Some(text) = record["text"].as_str() {
            stream.extend_from_slice(text.as_bytes());
        } else if let Some(text) = record["base64"].as_str() {
            stream.extend(base64::decode(text).unwrap());
        } else {
            assert!(record["mark"].is_string(), "{record}");
        }
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]
    #[test]
    fn both_logs_have_every_byte_however_it_came(
        parts in proptest::collection::vec(prop_oneof![
            "[a-z äß\n]{0,50}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..50),
            Just(vec![b'x'; 5000]),
            Just("ß".repeat(3000).into_bytes()),
        ], 0..12),
        cut in 1usize..20,
        ticks in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spec = logs(folder.path());
        let mut capture = Capture::open(&spec).unwrap();
        let start = Instant::now();
        let sent = parts.concat();
        let mut offset = 0;
        for (index, part) in sent.chunks(if sent.len() > 200 { 1000 } else { cut }).enumerate() {
            let now = start + LINE_WAIT * u32::try_from(index).unwrap();
            prop_assert_eq!(capture.write(now, offset, part), []);
            offset += part.len() as u64;
            if ticks {
                prop_assert_eq!(capture.tick(now + LINE_WAIT), []);
                prop_assert_eq!(capture.deadline(), None);
            }
        }
        drop(capture);
        prop_assert_eq!(fs::read(spec.raw.unwrap()).unwrap(), sent.clone());
        let records = records(&spec.json.unwrap());
        prop_assert_eq!(stream(&records), sent);
    }
}

#[test]
fn a_line_is_a_record_and_boots_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let spec = logs(folder.path());
    let mut capture = Capture::open(&spec).unwrap();
    let now = Instant::now();
    capture.mark(0, Mark::Up("connected"));
    for (offset, byte) in b"boot\r\nlogin: ".iter().enumerate() {
        capture.write(now, offset as u64, &[*byte]);
    }
    assert_eq!(capture.deadline(), Some(now + LINE_WAIT));
    capture.tick(now + LINE_WAIT);
    capture.write(now, 13, b"root");
    capture.mark(17, Mark::Reset);
    capture.write(now, 17, b"boot\r\n");
    capture.mark(23, Mark::Away("ended"));
    let records = records(&spec.json.unwrap());
    let shown: Vec<(u64, u64, &str)> = records
        .iter()
        .map(|record| {
            let what = record["text"].as_str().or(record["mark"].as_str()).unwrap();
            (
                record["boot"].as_u64().unwrap(),
                record["offset"].as_u64().unwrap(),
                what,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (0, 0, "opened"),
            (1, 0, "up"),
            (1, 0, "boot\r\n"),
            (1, 6, "login: "),
            (1, 13, "root"),
            (2, 17, "reset"),
            (2, 17, "boot\r\n"),
            (2, 23, "away"),
        ]
    );
    assert_eq!(records[1]["reason"], "connected");
}

#[test]
fn a_full_disk_is_told_once_and_its_bytes_are_counted() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let spec = LogSpec {
        raw: Some(full.to_owned()),
        json: Some(full.to_owned()),
        rotation: None,
    };
    let mut capture = Capture::open(&spec).unwrap();
    let now = Instant::now();
    let failed = capture.write(now, 0, b"abc\n");
    assert!(
        matches!(
            &failed[..],
            [
                Event::Log { state: "failed", .. },
                Event::Log { state: "failed", .. }
            ]
        ),
        "{failed:?}"
    );
    assert_eq!(capture.write(now, 4, b"defg\n"), []);
    assert_eq!(capture.mark(9, Mark::Away("ended")), []);
    let room = |path: PathBuf| LogFile::open(&path, None).unwrap();
    capture.raw.as_mut().unwrap().file = room(path.clone());
    capture.json.as_mut().unwrap().file = room(folder.path().join("json"));
    let again = capture.write(now, 9, b"hi\n");
    let reasons: Vec<&str> = again
        .iter()
        .map(|event| match event {
            Event::Log {
                state: "written",
                reason,
            } => reason.split(" in ").next().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons, ["9 bytes are missing", "9 bytes are missing"]);
    assert_eq!(fs::read(&path).unwrap(), b"hi\n");
    let records = records(&folder.path().join("json"));
    assert_eq!(records[0]["offset"], 0);
    assert_eq!(
        (&records[0]["mark"], &records[0]["bytes"]),
        (&"lost".into(), &9.into())
    );
    assert_eq!(
        (&records[1]["text"], &records[1]["offset"]),
        (&"hi\n".into(), &9.into())
    );
}

#[test]
fn half_a_record_does_not_spoil_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("json");
    let spec = LogSpec {
        json: Some(path.clone()),
        ..LogSpec::default()
    };
    let mut capture = Capture::open(&spec).unwrap();
    let log = capture.json.as_mut().unwrap();
    log.flush(&mut Vec::new());
    log.file.append(b"{\"v\":1,\"ti", Cut::Anywhere).unwrap();
    (log.torn, log.missing, log.failing) = (true, 4, true);
    capture.write(Instant::now(), 0, b"whole\n");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "{\"v\":1,\"ti");
    assert!(lines[2].ends_with(r#""mark":"lost","bytes":4}"#), "{text}");
    assert!(lines[3].ends_with(r#""text":"whole\n"}"#), "{text}");
}

#[test]
fn a_log_that_cannot_be_opened_leaves_the_one_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let spec = logs(folder.path());
    let mut capture = Capture::open(&spec).unwrap();
    assert!(capture.set_raw(Some(Path::new("/nowhere/log"))).is_err());
    assert_eq!(capture.raw_path(), spec.raw.as_deref());
}
