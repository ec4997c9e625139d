//! Consoles and a gdb on one port, with the real protocol machine and a kernel that the test plays.

use super::debug::TestBreaker;
use super::*;
use crate::bridge::event::KernelState;
use crate::bridge::{AttachRefused, BreakMeans, GdbPolicy, GdbPolicySpec, TargetSource};
use crate::rsp::framing::packet;

const STOPPED: &[u8] = b"KGDB: Waiting for connection from remote gdb...\r\n";
const HELD: &str = "[vmserial: kernel stopped, input held]\r\n";

fn shared(change: impl FnOnce(&mut BridgeSpec)) -> Rig {
    Rig::new(Policy::ConsoleGdb, |spec| {
        spec.mediator = Some(Box::new(GdbPolicy::new(GdbPolicySpec {
            break_way: Some("test".into()),
            ..GdbPolicySpec::shared_port()
        })));
        spec.break_means = BreakMeans::Beside(std::sync::Arc::new(TestBreaker));
        let TargetSource::Fixed(endpoint) = &spec.target else {
            unreachable!("the rig has a fixed target")
        };
        let Address::Unix(path) = &endpoint.address else {
            unreachable!("the rig dials a Unix socket")
        };
        let of = |prefix: &str, name: &str| {
            let path = path.with_file_name(name);
            format!("{prefix}listen:unix:{}", path.display()).parse().unwrap()
        };
        spec.clients = vec![of("gdb=", "gdb"), of("", "console"), of("ro=", "ro")];
        change(spec);
    })
}

impl Rig {
    /// Connects to one of the bridge's sockets and waits until it is attached.
    async fn comes(&mut self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join(name)).await.unwrap();
        self.until(|event| matches!(event, Event::ClientAttached { .. }))
            .await;
        stream
    }

    async fn until_kernel(&mut self, wanted: KernelState) {
        self.until(|event| matches!(event, Event::Kernel { state } if *state == wanted))
            .await;
    }
}

/// Reads until the bytes are there, and returns them as text.
async fn read_text(stream: &mut (impl AsyncReadExt + Unpin), wanted: &str) {
    let bytes = read(stream, wanted.len()).await;
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

async fn ask(gdb: &mut UnixStream, vm: &mut UnixStream, request: &str) {
    let request = packet(request.as_bytes());
    gdb.write_all(&request).await.unwrap();
    assert_eq!(read(vm, request.len()).await, request);
}

/// A kernel that stopped, with a gdb that has asked for something and has its answer.
async fn in_kgdb(rig: &mut Rig) -> (UnixStream, UnixStream) {
    let mut vm = rig.up().await;
    vm.write_all(STOPPED).await.unwrap();
    rig.until_kernel(KernelState::Stopped).await;
    let mut gdb = rig.comes("gdb").await;
    ask(&mut gdb, &mut vm, "?").await;
    vm.write_all(b"+$S05#b8").await.unwrap();
    read_text(&mut gdb, "+$S05#b8").await;
    gdb.write_all(b"+").await.unwrap();
    read_text(&mut vm, "+").await;
    (vm, gdb)
}

#[tokio::test(start_paused = true)]
async fn text_is_the_consoles_and_packets_are_gdbs() {
    let mut rig = shared(|_| {});
    let (mut vm, mut gdb) = in_kgdb(&mut rig).await;
    let (mut replayed, _) = rig.client(1 << 20, AttachMode::ReadOnly, Since::Offset(0)).await;
    read_text(&mut replayed, std::str::from_utf8(STOPPED).unwrap()).await;
    let mut first = rig.comes("console").await;
    let mut second = rig.comes("ro").await;
    ask(&mut gdb, &mut vm, "c").await;
    vm.write_all(b"+tick 3 $5 + 3 - 1 #42\r\nuser@host:~$ $T05thread:1b;#39")
        .await
        .unwrap();
    read_text(&mut gdb, "+$T05thread:1b;#39").await;
    for console in [&mut first, &mut second] {
        read_text(console, "tick 3 $5 + 3 - 1 #42\r\nuser@host:~$ ").await;
    }
    let slice = rig.handle.history(Since::Offset(0), 1 << 20).await.unwrap();
    assert_eq!(slice.end, slice.bytes.len() as u64);
    assert!(slice.bytes.starts_with(STOPPED) && slice.bytes.ends_with(b"host:~$ "));
    let status = rig.handle.status().await.unwrap();
    assert_eq!(status.dropped_from_target, 0);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_consoles_and_one_gdb_are_served() {
    let mut rig = shared(|_| {});
    let _vm = rig.up().await;
    let _gdb = rig.comes("gdb").await;
    let _console = rig.comes("console").await;
    let _another = rig.comes("console").await;
    let _reader = rig.comes("ro").await;
    let mut refused = UnixStream::connect(rig.folder.path().join("gdb")).await.unwrap();
    let event = rig
        .until(|event| matches!(event, Event::ClientRefused { .. }))
        .await;
    assert!(
        matches!(&event, Event::ClientRefused { reason, .. } if reason.contains("serves one gdb, and connection 1")),
        "{event:?}"
    );
    let mut rest = Vec::new();
    refused.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn take_over_replaces_the_gdb_and_no_console() {
    let mut rig = shared(|spec| spec.take_over = true);
    let mut vm = rig.up().await;
    let mut console = rig.comes("console").await;
    let mut first = rig.comes("gdb").await;
    let _second = rig.comes("gdb").await;
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).await.unwrap();
    vm.write_all(b"text").await.unwrap();
    read_text(&mut console, "text").await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_held_while_the_kernel_is_stopped_and_told_once() {
    let mut rig = shared(|_| {});
    let (mut vm, mut gdb) = in_kgdb(&mut rig).await;
    let mut console = rig.comes("console").await;
    let mut reader = rig.comes("ro").await;
    console.write_all(b"ls").await.unwrap();
    read_text(&mut console, HELD).await;
    reader.write_all(b"never").await.unwrap();
    console.write_all(b" -l\r").await.unwrap();
    rig.handle.type_bytes(*b"date\r").await.unwrap().unwrap();
    ask(&mut gdb, &mut vm, "c").await;
    vm.write_all(b"+").await.unwrap();
    // kgdb waited for nothing: the keys went out after the acknowledgement of `c`, in their order.
    let mut typed = read(&mut vm, 11).await;
    typed.sort_unstable();
    let mut expected = b"ls -l\rdate\r".to_vec();
    expected.sort_unstable();
    assert_eq!(typed, expected);
    vm.write_all(b"$T05thread:1b;#39").await.unwrap();
    read_text(&mut gdb, "+$T05thread:1b;#39").await;
    gdb.write_all(b"+").await.unwrap();
    read_text(&mut vm, "+").await;
    // The next stop tells again.
    console.write_all(b"x").await.unwrap();
    read_text(&mut console, HELD).await;
}

#[tokio::test(start_paused = true)]
async fn keys_for_a_kernel_that_is_gone_do_not_reach_the_new_boot() {
    let mut rig = shared(|_| {});
    let (vm, mut gdb) = in_kgdb(&mut rig).await;
    let mut console = rig.comes("console").await;
    console.write_all(b"rm -rf x\r").await.unwrap();
    read_text(&mut console, HELD).await;
    // More than is kept: it waits in the console's stream.
    let flood = vec![b'k'; 100 << 10];
    let (sent, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(1), console.write_all(&flood)),
        async { drop(vm) }
    );
    let _ = sent;
    rig.until(|event| matches!(event, Event::KernelGone { .. })).await;
    let mut vm = rig.up().await;
    gdb.write_all(&packet(b"m0,8")).await.unwrap();
    read_text(&mut gdb, "+$E01#a6").await;
    vm.write_all(b"login: ").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"login: ") {
        seen.extend(read(&mut console, 1).await);
    }
    console.write_all(b"root\r").await.unwrap();
    read_text(&mut vm, "root\r").await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_refused_with_a_notice_while_the_target_is_away() {
    let mut rig = shared(|_| {});
    let vm = rig.up().await;
    let mut console = rig.comes("console").await;
    drop(vm);
    rig.until(|event| {
        matches!(
            event,
            Event::Target {
                state: TargetState::Away,
                ..
            }
        )
    })
    .await;
    console.write_all(b"a").await.unwrap();
    read_text(&mut console, "[vmserial: target away, input refused]\r\n").await;
    let mut vm = rig.up().await;
    console.write_all(b"b").await.unwrap();
    read_text(&mut vm, "b").await;
}

#[tokio::test(start_paused = true)]
async fn no_key_comes_between_break_and_g_and_none_is_lost() {
    let mut rig = shared(|_| {});
    let mut vm = rig.up().await;
    let mut console = rig.comes("console").await;
    let answer = rig.handle.break_in();
    rig.until(|event| matches!(event, Event::Break { result, .. } if result == "sent"))
        .await;
    console.write_all(b"b").await.unwrap();
    let refused = rig.handle.send_break().await.unwrap().unwrap_err();
    assert!(refused.contains("being broken into"), "{refused}");
    read_text(&mut vm, "g").await;
    // No stop and no word of SysRq: once more. Then the key goes its way, without a word, because the kernel is not known to
    // be stopped.
    read_text(&mut vm, "gb").await;
    assert_eq!(answer.await.unwrap(), Ok("test".to_owned()));
    vm.write_all(b"text").await.unwrap();
    read_text(&mut console, "text").await;
    // This one stops it.
    let answer = rig.handle.break_in();
    read_text(&mut vm, "g").await;
    vm.write_all(b"sysrq: DEBUG\r\nKGDB: Entering KGDB\r\n")
        .await
        .unwrap();
    rig.until(|event| matches!(event, Event::Break { result, .. } if result == "stopped"))
        .await;
    assert_eq!(answer.await.unwrap(), Ok("test".to_owned()));
    assert_eq!(
        rig.handle.status().await.unwrap().kernel,
        Some(KernelState::Stopped)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_way_to_break_the_reason_is_told() {
    let mut rig = shared(|spec| {
        spec.mediator = Some(Box::new(GdbPolicy::new(GdbPolicySpec::shared_port())));
        spec.break_means = BreakMeans::None;
    });
    let _vm = rig.up().await;
    let refused = rig.handle.break_in().await.unwrap().unwrap_err();
    assert!(refused.starts_with("none: there is no way"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_gdb_that_does_not_read_is_disconnected_and_the_consoles_go_on() {
    let mut rig = shared(|_| {});
    let (mut vm, mut gdb) = in_kgdb(&mut rig).await;
    let mut console = rig.comes("console").await;
    ask(&mut gdb, &mut vm, "c").await;
    // Console output for a gdb that reads nothing: each packet is whole and good.
    let output = packet(format!("O{}", "61".repeat(1000)).as_bytes());
    vm.write_all(b"+").await.unwrap();
    let event = {
        let flood = async {
            loop {
                vm.write_all(&output).await.unwrap();
            }
        };
        let mut events = rig.handle.events();
        let ended = async {
            loop {
                let record = events.recv().await.unwrap();
                if let Event::ClientDetached { reason, .. } = &record.event {
                    return reason.clone();
                }
            }
        };
        tokio::select! {
            reason = ended => reason,
            _ = flood => unreachable!("it floods for ever"),
        }
    };
    assert!(event.contains("did not keep up"), "{event}");
    // What the flood was cut in is text.
    vm.write_all(b"\r\nend of flood\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"end of flood\r\n") {
        seen.extend(read(&mut console, 1).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_console_joins_through_the_control_socket_and_a_stalled_one_skips() {
    let mut rig = shared(|_| {});
    let (mut vm, _gdb) = in_kgdb(&mut rig).await;
    let (mut stalled, _) = rig.client(64, AttachMode::ReadWrite, Since::Now).await;
    drop(_gdb);
    rig.until(|event| matches!(event, Event::KernelLeftStopped)).await;
    let answer = rig.handle.release();
    read_text(&mut vm, "$D#44").await;
    vm.write_all(b"+$OK#9a").await.unwrap();
    read_text(&mut vm, "+").await;
    assert_eq!(
        answer.await.unwrap(),
        Ok("the kernel was freed and runs".to_owned())
    );
    let flood = vec![b'.'; 6 << 20];
    vm.write_all(&flood).await.unwrap();
    vm.write_all(b"]").await.unwrap();
    let mut seen = Vec::new();
    // The marker is at the end, or within what one read brings of it.
    let told = b"bytes skipped]\r\n";
    while !seen[seen.len().saturating_sub(200)..]
        .windows(told.len())
        .any(|part| part == told)
    {
        let came = tokio::time::timeout(Duration::from_secs(60), stalled.read_buf(&mut seen)).await;
        assert!(came.expect("it came within a minute").unwrap() > 0, "it is kept");
    }
    let dots = seen.iter().take_while(|byte| **byte == b'.').count();
    assert!(dots > 0 && dots < flood.len());
    assert!(
        seen[dots..].starts_with(b"\r\n[vmserial: "),
        "{}",
        seen[dots..].escape_ascii()
    );
    let refused: Result<ClientId, AttachRefused> = {
        let (_, theirs) = tokio::io::duplex(64);
        rig.handle.stop("test").await.unwrap();
        let request = AttachRequest {
            channel: Channel::new(theirs, Facts::half_closing("late")),
            mode: AttachMode::ReadWrite,
            since: Since::Now,
            preface: crate::bridge::handle::Preface::none(),
            take_over: false,
            received: Vec::new(),
        };
        rig.handle.attach(request).await.unwrap()
    };
    assert_eq!(refused.unwrap_err().reason, "the bridge is ending");
}
