//! The engine against channels of this process, with the clock stopped: it goes on only when nothing else can happen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod debug;
mod kd;
mod reset;
mod shared;

use super::core::Engine;
use super::outcome::Outcome;
use crate::bridge::event::{Event, SharedEvent, TargetState};
use crate::bridge::handle::{AttachMode, AttachRequest, BridgeHandle, ClientId, Since};
use crate::bridge::{BridgeSpec, Channel, Facts};
use crate::model::{Address, EndpointSpec, Policy, Role};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

struct Rig {
    folder: TempDir,
    handle: BridgeHandle,
    events: broadcast::Receiver<SharedEvent>,
    outcome: JoinHandle<Outcome>,
}

fn endpoint(path: &Path) -> EndpointSpec {
    EndpointSpec::new(Some(Role::Connect), Address::Unix(path.to_owned()))
}

impl Rig {
    fn new(policy: Policy, change: impl FnOnce(&mut BridgeSpec)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = BridgeSpec::to(endpoint(&folder.path().join("vm")), Vec::new(), policy);
        change(&mut spec);
        let engine = Engine::bind(spec).unwrap();
        let handle = engine.handle();
        let events = handle.events();
        Self {
            folder,
            handle,
            events,
            outcome: tokio::spawn(engine.run()),
        }
    }

    fn vm(&self) -> UnixListener {
        let path = self.folder.path().join("vm");
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    /// Starts the VM and waits until the bridge has it.
    async fn up(&mut self) -> UnixStream {
        let listener = self.vm();
        let (vm, _) = listener.accept().await.unwrap();
        self.until(|event| {
            matches!(
                event,
                Event::Target {
                    state: TargetState::Up,
                    ..
                }
            )
        })
        .await;
        vm
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let search = async {
            loop {
                let record = self.events.recv().await.unwrap();
                if wanted(&record.event) {
                    return record.event.clone();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), search)
            .await
            .expect("the event came within a minute")
    }

    async fn client(&self, room: usize, mode: AttachMode, since: Since) -> (DuplexStream, ClientId) {
        let (ours, theirs) = tokio::io::duplex(room);
        let request = AttachRequest {
            channel: Channel::new(theirs, Facts::half_closing("test")),
            mode,
            since,
            preface: crate::bridge::handle::Preface::none(),
            take_over: false,
            received: Vec::new(),
        };
        let id = self.handle.attach(request).await.unwrap().unwrap();
        (ours, id)
    }

    async fn console(&self) -> DuplexStream {
        self.client(1 << 20, AttachMode::ReadWrite, Since::Now).await.0
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin), count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut bytes))
        .await
        .expect("the bytes came within a minute")
        .unwrap();
    bytes
}

/// Bytes without a period (xorshift), so that a shift cannot look right.
fn pattern(count: usize) -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let mut bytes = Vec::with_capacity(count + 4);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_target_that_comes_back_finds_its_client_attached() {
    let mut rig = Rig::new(Policy::Raw, |_| {});
    let mut vm = rig.up().await;
    let mut client = rig.console().await;
    vm.write_all(b"one").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"one");
    drop(vm);
    rig.until(
        |event| matches!(event, Event::Target { state: TargetState::Away, reason } if reason == "refused"),
    )
    .await;
    let gone = tokio::time::Instant::now();
    let mut vm = rig.up().await;
    assert!(
        gone.elapsed() <= Duration::from_millis(101),
        "{:?}",
        gone.elapsed()
    );
    vm.write_all(b"two").await.unwrap();
    client.write_all(b"key").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"two");
    assert_eq!(read(&mut vm, 3).await, b"key");
}

#[tokio::test(start_paused = true)]
async fn an_absent_target_is_told_once_and_dialled_at_the_written_pace() {
    let mut rig = Rig::new(Policy::Raw, |spec| spec.wait = Some(Duration::from_secs(3)));
    rig.until(|event| matches!(event, Event::Target { reason, .. } if reason == "absent"))
        .await;
    let began = tokio::time::Instant::now();
    let outcome = (&mut rig.outcome).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::NeverCame {
            reason: "absent".into()
        }
    );
    assert!(began.elapsed() >= Duration::from_millis(2900));
    let told = std::iter::from_fn(|| rig.events.try_recv().ok())
        .filter(|record| matches!(record.event, Event::Target { .. }))
        .count();
    assert_eq!(told, 0, "the same reason again is no news");
}

#[tokio::test(start_paused = true)]
async fn raw_holds_the_target_back_and_loses_nothing() {
    let mut rig = Rig::new(Policy::Raw, |_| {});
    let mut vm = rig.up().await;
    let (mut client, _) = rig.client(1024, AttachMode::ReadWrite, Since::Now).await;
    let sent = pattern(4 << 20);
    let all = sent.clone();
    let writer = tokio::spawn(async move {
        vm.write_all(&all).await.unwrap();
        vm
    });
    rig.until(|event| *event == Event::TargetPaused).await;
    assert!(!writer.is_finished(), "the VM is held back");
    assert_eq!(read(&mut client, sent.len()).await, sent);
    rig.until(|event| *event == Event::TargetResumed).await;
    let status = rig.handle.status().await.unwrap();
    assert_eq!(status.from_target, sent.len() as u64);
    assert_eq!(status.dropped_from_target, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_console_skips_and_slows_nobody_down() {
    let mut rig = Rig::new(Policy::Console, |_| {});
    let mut vm = rig.up().await;
    let (mut slow, _) = rig.client(1024, AttachMode::ReadWrite, Since::Now).await;
    let mut fast = rig.console().await;
    let sent = pattern(12 << 20);
    let all = sent.clone();
    let writer = tokio::spawn(async move {
        vm.write_all(&all).await.unwrap();
        vm
    });
    assert_eq!(read(&mut fast, sent.len()).await, sent);
    let _vm = writer.await.unwrap();
    // The slow one gets the beginning that it had taken, one marker, and the end without a gap.
    let end = sent[sent.len() - 64..].to_vec();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !seen.ends_with(&end) {
            let count = slow.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0);
            seen.extend_from_slice(&buffer[..count]);
        }
        seen
    });
    let Event::Skipped { bytes, .. } = rig.until(|event| matches!(event, Event::Skipped { .. })).await else {
        unreachable!("it was matched");
    };
    let seen = reader.await.unwrap();
    let marker = format!("\r\n[vmserial: {bytes} bytes skipped]\r\n").into_bytes();
    let at = seen
        .windows(marker.len())
        .position(|window| window == marker)
        .unwrap();
    let (before, after) = (&seen[..at], &seen[at + marker.len()..]);
    assert_eq!(before, &sent[..before.len()]);
    assert_eq!(after, &sent[sent.len() - after.len()..]);
    assert_eq!(before.len() + after.len() + bytes as usize, sent.len());
}

#[tokio::test(start_paused = true)]
async fn hold_keeps_the_newest_bytes_for_the_next_client() {
    let mut rig = Rig::new(Policy::Raw, |spec| spec.hold_bytes = 8);
    let mut vm = rig.up().await;
    vm.write_all(b"0123456789").await.unwrap();
    while rig.handle.status().await.unwrap().from_target < 10 {
        tokio::task::yield_now().await;
    }
    let mut client = rig.console().await;
    vm.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut client, 9).await, b"23456789x");
    assert_eq!(rig.handle.status().await.unwrap().dropped_from_target, 2);
    drop(client);
    rig.until(|event| matches!(event, Event::ClientDetached { .. }))
        .await;
    vm.write_all(b"yz").await.unwrap();
    while rig.handle.status().await.unwrap().from_target < 13 {
        tokio::task::yield_now().await;
    }
    let mut client = rig.console().await;
    assert_eq!(read(&mut client, 2).await, b"yz");
}

#[tokio::test(start_paused = true)]
async fn a_console_begins_where_it_asks() {
    let mut rig = Rig::new(Policy::Console, |_| {});
    let mut vm = rig.up().await;
    vm.write_all(b"0123456789").await.unwrap();
    while rig.handle.status().await.unwrap().from_target < 10 {
        tokio::task::yield_now().await;
    }
    for (since, expected) in [
        (Since::Last(4), &b"6789"[..]),
        (Since::Offset(2), b"23456789"),
        (Since::Last(400), b"0123456789"),
    ] {
        let (mut client, _) = rig.client(4096, AttachMode::ReadOnly, since).await;
        assert_eq!(read(&mut client, expected.len()).await, expected);
    }
    let slice = rig.handle.history(Since::Offset(3), 4).await.unwrap();
    assert_eq!((slice.offset, &slice.bytes[..], slice.end), (3, &b"3456"[..], 10));
}

#[tokio::test(start_paused = true)]
async fn read_only_clients_say_nothing_and_away_targets_refuse_input_once() {
    let mut rig = Rig::new(Policy::Console, |_| {});
    let mut vm = rig.up().await;
    let (mut reader, _) = rig.client(4096, AttachMode::ReadOnly, Since::Now).await;
    let mut writer = rig.console().await;
    reader.write_all(b"no").await.unwrap();
    writer.write_all(b"yes").await.unwrap();
    assert_eq!(read(&mut vm, 3).await, b"yes");
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
    writer.write_all(b"a").await.unwrap();
    let notice = b"[vmserial: target away, input refused]\r\n";
    assert_eq!(read(&mut writer, notice.len()).await, notice);
    writer.write_all(b"b").await.unwrap();
    while rig.handle.status().await.unwrap().dropped_to_target < 4 {
        tokio::task::yield_now().await;
    }
    let mut vm = rig.up().await;
    vm.write_all(b"back").await.unwrap();
    assert_eq!(read(&mut writer, 4).await, b"back", "the notice came once");
}

#[tokio::test(start_paused = true)]
async fn raw_refuses_a_second_client_unless_it_takes_over() {
    let rig = Rig::new(Policy::Raw, |_| {});
    let _first = rig.console().await;
    let (_, second) = tokio::io::duplex(64);
    let request = || AttachRequest {
        channel: Channel::new(tokio::io::duplex(64).1, Facts::half_closing("second")),
        mode: AttachMode::ReadWrite,
        since: Since::Now,
        preface: crate::bridge::handle::Preface::none(),
        take_over: false,
        received: Vec::new(),
    };
    drop(second);
    let refused = rig.handle.attach(request()).await.unwrap().unwrap_err();
    assert!(refused.reason.contains("serves one client"), "{}", refused.reason);
    assert_eq!(rig.handle.take_over(None).await.unwrap(), 1);
    rig.handle.attach(request()).await.unwrap().unwrap();

    let mut rig = Rig::new(Policy::Raw, |spec| spec.take_over = true);
    let mut first = rig.console().await;
    let _second = rig.console().await;
    let event = rig
        .until(|event| matches!(event, Event::ClientDetached { .. }))
        .await;
    assert!(
        matches!(event, Event::ClientDetached { connection: 1, reason, .. } if reason.contains("taken over"))
    );
    assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn once_ends_with_the_target_and_delivers_what_was_read() {
    let mut rig = Rig::new(Policy::Raw, |spec| spec.once = true);
    let mut vm = rig.up().await;
    let (mut client, _) = rig.client(16, AttachMode::ReadWrite, Since::Now).await;
    vm.write_all(&pattern(50_000)).await.unwrap();
    drop(vm);
    let began = tokio::time::Instant::now();
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, pattern(50_000));
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Ended);
    assert!(
        began.elapsed() <= Duration::from_millis(1100),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn once_passes_a_clients_end_on_and_waits_for_the_answer() {
    let mut rig = Rig::new(Policy::Raw, |spec| spec.once = true);
    let mut vm = rig.up().await;
    let mut client = rig.console().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    vm.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    tokio::time::sleep(Duration::from_millis(700)).await;
    vm.write_all(b"answer").await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    vm.write_all(b"!").await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer!");
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_still_reads_from_a_target_that_is_kept() {
    let mut rig = Rig::new(Policy::Raw, |_| {});
    let mut vm = rig.up().await;
    let mut client = rig.console().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read(&mut vm, 8).await, b"question");
    vm.write_all(b"answer").await.unwrap();
    assert_eq!(read(&mut client, 6).await, b"answer");
    // The target was not half-closed: it still hears the next client, which takes the ended one's place.
    let mut next = rig.console().await;
    next.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut vm, 4).await, b"more");
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_pending_bytes_two_seconds() {
    let mut rig = Rig::new(Policy::Raw, |_| {});
    let mut vm = rig.up().await;
    let (mut client, _) = rig.client(16, AttachMode::ReadWrite, Since::Now).await;
    vm.write_all(b"0123456789abcdefghij").await.unwrap();
    while rig.handle.status().await.unwrap().from_target < 20 {
        tokio::task::yield_now().await;
    }
    rig.handle.stop("test").await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"0123456789abcdefghij");
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Stopped);
    assert!(began.elapsed() < Duration::from_millis(1600));

    let mut rig = Rig::new(Policy::Raw, |_| {});
    let mut vm = rig.up().await;
    let (_stalled, _) = rig.client(16, AttachMode::ReadWrite, Since::Now).await;
    vm.write_all(b"0123456789abcdefghij").await.unwrap();
    while rig.handle.status().await.unwrap().from_target < 20 {
        tokio::task::yield_now().await;
    }
    rig.handle.stop("test").await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Stopped);
    assert!(began.elapsed() >= Duration::from_millis(1990));
    assert!(began.elapsed() < Duration::from_millis(2100));
}
