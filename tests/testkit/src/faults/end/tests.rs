//! The kit's own faults are real ones: a plain client sees each of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use std::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// Plays on a thread, since both sides of a socket are here.
fn playing(mut end: HypervisorEnd, script: Vec<Action>) -> std::thread::JoinHandle<HypervisorEnd> {
    std::thread::spawn(move || {
        end.play(&script).unwrap();
        end
    })
}

#[test]
fn a_tcp_end_sends_resets_and_keeps_what_it_read() {
    let end = HypervisorEnd::listen_tcp(PATIENCE).unwrap();
    let address = end.address().unwrap();
    let script = vec![
        Action::Connect,
        Action::Expect(b"question".to_vec()),
        Action::Trickle(b"ab".to_vec()),
        Action::Flood(0xff, 100_000),
        Action::Expect(b"!".to_vec()),
        Action::Reset,
        Action::Away(Duration::from_millis(20)),
        Action::Connect,
        Action::HalfClose,
        Action::Expect(b"still".to_vec()),
        Action::ExpectEnd,
    ];
    let playing = playing(end, script);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"question").unwrap();
    let mut all = vec![0; 100_002];
    client.read_exact(&mut all).unwrap();
    assert!(all.starts_with(b"ab\xff") && all.ends_with(b"\xff\xff"));
    client.write_all(b"!").unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let until = Instant::now() + PATIENCE;
    // Until the end has gone away a connection may still come into its backlog, and goes with it.
    let mut client = loop {
        let mut client = Place::DialTcp(address).dial(until).unwrap();
        match client.read(&mut [0]) {
            Ok(count) => {
                assert_eq!(count, 0, "half-closed");
                break client;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    };
    client.write_all(b"still").unwrap();
    drop(client);
    let end = playing.join().unwrap();
    let [first, second] = end.connections() else {
        panic!("two connections")
    };
    assert_eq!((&*first.read, first.written), (&b"question!"[..], 100_002));
    assert_eq!((&*second.read, second.written), (&b"still"[..], 0));
}

#[test]
fn what_does_not_come_about_is_named() {
    let mut end = HypervisorEnd::listen_tcp(Duration::from_millis(20)).unwrap();
    let broken = end.play(&[Action::Connect]).unwrap_err();
    assert!(
        broken
            .to_string()
            .starts_with("action 0: Connect did not come about"),
        "{broken}"
    );
    let mut client = TcpStream::connect(end.address().unwrap()).unwrap();
    client.write_all(b"abX").unwrap();
    let broken = end
        .play(&[Action::Connect, Action::Expect(b"abc".to_vec())])
        .unwrap_err();
    assert!(
        broken.to_string().contains("byte 2 is another one: `abX`"),
        "{broken}"
    );
}

#[cfg(unix)]
#[test]
fn a_unix_end_refuses_fills_up_and_comes_back() {
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm");
    let mut end = HypervisorEnd::listen_unix(&path, PATIENCE).unwrap();
    end.play(&[Action::Refuse]).unwrap();
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    end.play(&[Action::Listen, Action::FillBacklog]).unwrap();
    assert!(
        Place::DialUnix(path.clone()).dial_once().unwrap().is_none(),
        "full"
    );
    end.play(&[Action::FreeBacklog]).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    end.play(&[Action::Connect, Action::Unlink]).unwrap();
    assert!(!path.exists());
    client.write_all(b"unread").unwrap();
    end.play(&[Action::Reset]).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_question_of_the_bridges_own_is_answered_wherever_it_comes() {
    let mut end = HypervisorEnd::listen_tcp(PATIENCE).unwrap();
    end.answer(b"$qC#b4", b"+$QC1b#f7", b"+");
    let address = end.address().unwrap();
    let wanted = || Action::Expect(b"+$m1#9e".to_vec());
    let playing = playing(end, vec![Action::Connect, wanted(), wanted(), wanted()]);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"+$m1#9e").unwrap();
    // In its place, and before everything.
    for (before, after) in [("+$qC#b4", "+$m1#9e"), ("$qC#b4", "++$m1#9e")] {
        client.write_all(before.as_bytes()).unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+$QC1b#f7");
        client.write_all(b"+").unwrap();
        client.write_all(&after.as_bytes()[1..]).unwrap();
    }
    playing.join().unwrap();

    let mut end = HypervisorEnd::listen_tcp(PATIENCE).unwrap();
    end.answer(b"$qC#b4", b"+$QC1b#f7", b"+");
    let address = end.address().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"+$qD#b5").unwrap();
    let broken = end.play(&[Action::Connect, wanted()]).unwrap_err();
    assert!(broken.message.contains("byte 2 is another one"), "{broken}");
}
