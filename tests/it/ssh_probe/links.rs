//! Connections: many commands and streams on one, deadlines, and what becomes of them when it is lost.

use super::{data, long, shell, within};
use crate::kit::has_ended;
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};
use vmserial::model::{FailureKind, Problem, SshHop};
use vmserial::runner::ssh::{Far, SshRunner, stream};
use vmserial::runner::{RunError, Runner};

pub fn a_deadline_ends_the_command_there(runner: &SshRunner) {
    // The first command also logs in.
    runner.run(&shell("true"), &long()).unwrap();
    let pid = data("pid");
    let text = format!("echo $$ > '{}'; exec sleep 1000", pid.display());
    let error = runner
        .run(&shell(&text), &within(Duration::from_secs(8)))
        .unwrap_err();
    assert!(matches!(error, RunError::DeadlinePassed { .. }), "{error}");
    let pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let limit = long();
    while !has_ended(pid) {
        assert!(!limit.deadline.passed(Instant::now()), "{pid} goes on");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let cancelled = long();
    cancelled.cancel.cancel();
    let error = runner.run(&shell("sleep 1000"), &cancelled).unwrap_err();
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
}

pub fn twenty_commands_at_once(runner: &SshRunner) {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..20)
            .map(|number| {
                scope.spawn(move || {
                    let output = runner.run(&shell(&format!("sleep 0.2; echo {number}")), &long());
                    assert_eq!(output.unwrap().stdout, format!("{number}\n").as_bytes());
                })
            })
            .collect();
        for running in running {
            running.join().unwrap();
        }
    });
}

pub fn streams_of_the_host_s_own(runner: &SshRunner) {
    let unix = std::os::unix::net::UnixListener::bind(data("vm.sock")).unwrap();
    let endpoint = format!("connect:unix:{}", data("vm.sock").display());
    let mut stream = runner.open(&endpoint.parse().unwrap(), &long()).unwrap();
    let (mut vm, _) = unix.accept().unwrap();
    stream.write_all(b"question").unwrap();
    let mut bytes = [0; 8];
    vm.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"question");
    vm.write_all(b"answer").unwrap();
    let mut bytes = [0; 6];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");
    drop(vm);
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("connect:tcp:127.0.0.1:{}", tcp.local_addr().unwrap().port());
    let mut stream = runner
        .open(&endpoint.parse().unwrap(), &within(Duration::from_secs(5)))
        .unwrap();
    let _vm = tcp.accept().unwrap();
    let error = stream.read(&mut bytes).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock
        ),
        "{error}"
    );
}

pub fn a_lost_connection_is_made_again(runner: &SshRunner) {
    runner.run(&shell("true"), &long()).unwrap();
    // The shell's parent is sshd's process for this connection.
    let error = runner
        .run(&shell("kill -KILL $PPID; sleep 1000"), &long())
        .unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(problem.kind, FailureKind::ConnectionLost, "{problem}");
    assert!(runner.run(&shell("true"), &long()).unwrap().success());
    // A connection that was lost while nobody used it is not noticed.
    let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
    let session = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    Command::new("kill").args(["-KILL", &session]).status().unwrap();
    let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
    assert_ne!(String::from_utf8(output.stdout).unwrap().trim(), session);
}

pub fn twenty_five_streams_share_it(runner: &SshRunner) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let connection = |runner: &SshRunner| {
        let output = runner.run(&shell("echo $PPID"), &long()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = connection(runner);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let echoes: Vec<_> = (0..25)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                std::thread::spawn(move || {
                    let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                    std::io::copy(&mut from, &mut to).unwrap();
                })
            })
            .collect();
        for echo in echoes {
            echo.join().unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let hops = [SshHop("lab".to_owned())];
    let far = Far::Tcp("127.0.0.1".to_owned(), port);
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..25 {
            streams.push(stream::open(&hops, &far).await.unwrap());
        }
        // One that nobody reads does not hold the others.
        let stalled = streams.pop().unwrap();
        let (mut stalled_read, mut stalled_write) = tokio::io::split(stalled);
        let flood = tokio::spawn(async move {
            let _ = stalled_write.write_all(&vec![7; 8 << 20]).await;
            stalled_write
        });
        let busy = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| async move {
                let sent: Vec<u8> = (0..1_000_000_u32)
                    .map(|at| (at as usize * (number + 3)) as u8)
                    .collect();
                let (mut read, mut write) = tokio::io::split(stream);
                let expected = sent.clone();
                let writing = async {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let reading = async {
                    let mut back = Vec::new();
                    read.read_to_end(&mut back).await.unwrap();
                    assert!(back == expected, "stream {number}: {} bytes", back.len());
                };
                tokio::join!(writing, reading);
            });
        let mut all = Vec::new();
        for one in busy {
            all.push(tokio::spawn(one));
        }
        for one in all {
            tokio::time::timeout(Duration::from_secs(60), one)
                .await
                .unwrap()
                .unwrap();
        }
        let mut rest = Vec::new();
        let reading = tokio::spawn(async move {
            let _ = stalled_read.read_to_end(&mut rest).await;
            rest.len()
        });
        flood.await.unwrap().shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), 8 << 20);
    });
    echo.join().unwrap();
    assert_eq!(connection(runner), before, "it was one connection all the time");
    // A command's input and output as a stream.
    runtime.block_on(async {
        let command = Far::Command("cat; echo said >&2; exit 4".to_owned());
        let stream = stream::open(&hops, &command).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        write.write_all(b"through").await.unwrap();
        write.shutdown().await.unwrap();
        let mut back = Vec::new();
        let error = read.read_to_end(&mut back).await.unwrap_err();
        assert_eq!(back, b"through");
        assert_eq!(error.to_string(), "ended with 4: said");
    });
}
