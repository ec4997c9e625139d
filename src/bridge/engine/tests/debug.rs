//! BREAK and a debug protocol.

use super::*;
use crate::bridge::event::KernelState;
use crate::bridge::mediator::{Input, Mediator, Output};
use crate::bridge::{BreakMeans, Breaker};
use crate::bridge::{ControlRequest, ControlledStream};
use crate::model::{Deadline, NativeBreak};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct TestBreaker;

impl Breaker for TestBreaker {
    fn way(&self) -> String {
        "test".into()
    }

    fn send_break(&self, _deadline: Deadline) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_between_break_and_g() {
    let mut rig = Rig::new(Policy::Console, |spec| {
        spec.break_means = BreakMeans::Beside(std::sync::Arc::new(TestBreaker));
    });
    let mut vm = rig.up().await;
    let mut client = rig.console().await;
    client.write_all(b"before ").await.unwrap();
    assert_eq!(read(&mut vm, 7).await, b"before ");
    let answer = rig.handle.break_in();
    rig.until(|event| matches!(event, Event::Break { .. })).await;
    let began = tokio::time::Instant::now();
    client.write_all(b"b").await.unwrap();
    rig.handle.type_bytes(*b"o").await.unwrap().unwrap();
    assert_eq!(answer.await.unwrap(), Ok("test".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(100));
    let mut keys = read(&mut vm, 3).await;
    assert_eq!(keys.remove(0), b'g');
    keys.sort_unstable();
    assert_eq!(keys, b"bo");
}

#[tokio::test(start_paused = true)]
async fn telnet_break_is_two_bytes_in_the_stream_and_none_is_refused() {
    let mut rig = Rig::new(Policy::Console, |spec| {
        spec.break_means = BreakMeans::By(NativeBreak::Telnet)
    });
    let mut vm = rig.up().await;
    assert_eq!(rig.handle.break_in().await.unwrap(), Ok("telnet".to_owned()));
    assert_eq!(read(&mut vm, 3).await, b"\xff\xf3g");

    let mut rig = Rig::new(Policy::Console, |_| {});
    let _vm = rig.up().await;
    let refused = rig.handle.break_in().await.unwrap().unwrap_err();
    assert!(refused.starts_with("none: there is no way"), "{refused}");
}

/// A stream in which `^` asks for a BREAK.
struct Asking {
    stream: DuplexStream,
    asked: bool,
}

impl AsyncRead for Asking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.asked {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut one))?;
        match one.filled() {
            b"^" => {
                self.asked = true;
                Poll::Pending
            }
            bytes => {
                buffer.put_slice(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Asking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl ControlledStream for Asking {
    fn native_breaks(&self) -> &'static [NativeBreak] {
        &[]
    }
    fn poll_break(&mut self, _: NativeBreak, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
    fn take_request(&mut self) -> Option<ControlRequest> {
        std::mem::take(&mut self.asked).then_some(ControlRequest::Break)
    }
}

#[tokio::test(start_paused = true)]
async fn a_break_that_a_client_asks_for_keeps_its_place_among_the_bytes() {
    let mut rig = Rig::new(Policy::Console, |spec| {
        spec.break_means = BreakMeans::By(NativeBreak::Telnet);
    });
    let mut vm = rig.up().await;
    let (mut client, theirs) = tokio::io::duplex(1 << 10);
    let asking = Asking {
        stream: theirs,
        asked: false,
    };
    let request = AttachRequest {
        channel: Channel::controlled(asking, Facts::half_closing("test")),
        mode: AttachMode::ReadWrite,
        since: Since::Now,
        preface: crate::bridge::handle::Preface::none(),
        take_over: false,
        received: Vec::new(),
    };
    rig.handle.attach(request).await.unwrap().unwrap();
    client.write_all(b"ab^g^^c").await.unwrap();
    assert_eq!(read(&mut vm, 10).await, b"ab\xff\xf3g\xff\xf3\xff\xf3c");
    let told = rig.until(|event| matches!(event, Event::Break { .. })).await;
    assert!(matches!(told, Event::Break { way, result } if way == "telnet" && result == "sent"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_the_break_that_is_named_says_so() {
    let mut rig = Rig::new(Policy::Console, |spec| {
        spec.break_means = BreakMeans::By(NativeBreak::Rfc2217);
    });
    let _vm = rig.up().await;
    let refused = rig.handle.break_in().await.unwrap().unwrap_err();
    assert_eq!(refused, "rfc2217: the stream has no BREAK by `rfc2217`");
}

/// Upper-cases the target's bytes, passes the debugger's, and frees the "kernel" 100 ms after it was asked.
#[derive(Default)]
struct TestMediator {
    free_at: Option<Instant>,
}

impl Mediator for TestMediator {
    fn handle(&mut self, now: Instant, input: Input<'_>, outputs: &mut Vec<Output>) {
        match input {
            Input::FromTarget(bytes) => outputs.push(Output::ToDebugger(bytes.to_ascii_uppercase())),
            Input::FromDebugger(b"bye") => outputs.extend([
                Output::ToDebugger(b"closing".to_vec()),
                Output::CloseDebugger {
                    reason: "said bye".into(),
                },
            ]),
            Input::FromDebugger(bytes) => outputs.push(Output::ToTarget(bytes.to_vec())),
            Input::BreakIn => outputs.extend([Output::SendBreak]),
            Input::BreakSent(Ok(way)) => outputs.extend([
                Output::SendSysRq(b'g'),
                Output::BrokeIn {
                    way: way.into(),
                    result: Ok("stopped"),
                },
            ]),
            Input::End | Input::Release => self.free_at = Some(now + Duration::from_millis(100)),
            Input::Tick => {
                self.free_at = None;
                outputs.push(Output::ToTarget(b"$D#44".to_vec()));
                outputs.push(Output::Released(Ok("freed".into())));
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.free_at
    }

    fn kernel(&self) -> KernelState {
        KernelState::Running
    }
}

#[tokio::test(start_paused = true)]
async fn a_mediator_sees_every_byte_and_frees_the_kernel_at_the_end() {
    let mut rig = Rig::new(Policy::Gdb, |spec| {
        spec.mediator = Some(Box::new(TestMediator::default()));
        spec.break_means = BreakMeans::By(NativeBreak::Telnet);
        let path = match &spec.target {
            crate::bridge::TargetSource::Fixed(endpoint) => match &endpoint.address {
                Address::Unix(path) => path.with_file_name("gdb"),
                _ => unreachable!("the rig dials a Unix socket"),
            },
            crate::bridge::TargetSource::Asked(_) => unreachable!("the rig has a fixed target"),
        };
        spec.clients = vec![format!("gdb=listen:unix:{}", path.display()).parse().unwrap()];
    });
    let mut vm = rig.up().await;
    let mut gdb = UnixStream::connect(rig.folder.path().join("gdb")).await.unwrap();
    vm.write_all(b"stop").await.unwrap();
    rig.until(|event| matches!(event, Event::ClientAttached { .. }))
        .await;
    gdb.write_all(b"packet").await.unwrap();
    assert_eq!(read(&mut vm, 6).await, b"packet");
    vm.write_all(b"ped").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"PED") {
        seen.extend(read(&mut gdb, 1).await);
    }
    assert_eq!(rig.handle.break_in().await.unwrap(), Ok("telnet".to_owned()));
    assert_eq!(read(&mut vm, 3).await, b"\xff\xf3g");
    let release = rig.handle.release();
    assert_eq!(release.await.unwrap(), Ok("freed".to_owned()));
    assert_eq!(read(&mut vm, 5).await, b"$D#44");
    gdb.write_all(b"bye").await.unwrap();
    let mut last = Vec::new();
    gdb.read_to_end(&mut last).await.unwrap();
    assert_eq!(last, b"closing");
    rig.handle.stop("test").await.unwrap();
    assert_eq!(read(&mut vm, 5).await, b"$D#44");
    assert_eq!(rig.outcome.await.unwrap(), Outcome::Stopped);
    assert!(!rig.folder.path().join("gdb").exists(), "the socket is removed");
}
