//! The control socket as its clients meet it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::bridge::control::client::ControlClient;
use crate::bridge::event::TargetState;
use crate::bridge::handle::{AttachRefused, Command, HistorySlice, OutputChunk, Status};
use crate::model::{Deadline, Policy};
use std::time::Instant as Clock;

/// Answers as an engine does that knows two things: a history, and one place for a console.
async fn engine(bridge: BridgeHandle, mut commands: tokio::sync::mpsc::UnboundedReceiver<Command>) {
    let mut taken = false;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Attach(mut request, reply) if !taken => {
                taken = true;
                let mut bytes = request.preface.make(ClientId(1), Some(7));
                bytes.extend_from_slice(b"console:");
                bytes.extend_from_slice(&request.received);
                request.channel.write_all(&bytes).await.unwrap();
                request.channel.shutdown().await.unwrap();
                reply.send(Ok(ClientId(1))).unwrap();
            }
            Command::Attach(request, reply) => {
                let refused = AttachRefused {
                    channel: Box::new(request.channel),
                    reason: "one client is attached".into(),
                };
                reply.send(Err(refused)).unwrap();
            }
            Command::History(_, limit, reply) => {
                let bytes = b"boot"[..limit.min(4)].to_vec();
                reply
                    .send(HistorySlice {
                        offset: 0,
                        skipped: 0,
                        bytes,
                        end: 4,
                    })
                    .unwrap();
            }
            Command::BreakIn(reply) => {
                reply.send(Ok("qmp:/q".into())).unwrap();
                for part in [&b"KGDB: Enter"[..], b"ing KGDB\r\n"] {
                    let chunk = OutputChunk {
                        offset: 0,
                        bytes: part.into(),
                    };
                    bridge.output_sender().unwrap().send(chunk).unwrap();
                }
            }
            Command::Stop(_, reply) => {
                reply.send(()).unwrap();
                return;
            }
            Command::Status(reply) => reply.send(status()).unwrap(),
            other => panic!("not asked in this test: {other:?}"),
        }
    }
}

fn status() -> Status {
    Status {
        policy: Policy::Console,
        target: TargetState::Up,
        target_reason: "connected".into(),
        target_endpoint: "connect:unix:/x".into(),
        listening: Vec::new(),
        gdb: Vec::new(),
        clients: Vec::new(),
        kernel: None,
        from_target: 0,
        to_target: 0,
        dropped_from_target: 0,
        dropped_to_target: 0,
        connections: 1,
        log: None,
        log_json: None,
    }
}

async fn with_server<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let (bridge, commands) = BridgeHandle::new();
    let identity = Identity {
        version: "0".into(),
        pid: 7,
        command: "vmserial bridge x".into(),
        port: "x".into(),
    };
    let server = ControlServer::bind(&path, identity).unwrap();
    let ((), (), ()) = tokio::join!(server.serve(bridge.clone()), engine(bridge, commands), async {
        test(path.clone()).await;
        let deadline = soon();
        let mut client = ControlClient::connect(&path).await.unwrap();
        client
            .ask(
                Call::Stop {
                    reason: "done".into(),
                },
                deadline,
            )
            .await
            .unwrap();
    });
    assert!(!path.exists(), "the socket goes with its server");
}

fn soon() -> Deadline {
    Deadline::after(Clock::now(), Duration::from_secs(10))
}

#[tokio::test]
async fn requests_are_answered_in_order_and_wrong_ones_too() {
    with_server(async |path| {
        let mut client = ControlClient::connect(&path).await.unwrap();
        let history = client
            .ask(
                Call::History {
                    since: Since::Offset(0),
                    limit: 2,
                },
                soon(),
            )
            .await
            .unwrap();
        assert_eq!(history["base64"], "Ym8=");
        let error = client
            .ask(
                Call::Log {
                    path: Some("relative".into()),
                },
                soon(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Usage);
        let result = client
            .ask(Call::Break(BreakParameters::default()), soon())
            .await
            .unwrap();
        assert_eq!(result["way"], "qmp:/q");
        assert_eq!(result["stopped_in"], "kgdb");
        assert_eq!(result["evidence"], "the kernel said `Entering KGDB`");
    })
    .await;
}

#[tokio::test]
async fn attach_turns_the_connection_into_bytes_and_loses_none() {
    with_server(async |path| {
        let (mut stream, _) = crate::bridge::sys::dial_local(&path).await.unwrap();
        // What is typed behind the request belongs to the target.
        stream
            .write_all(b"nonsense\n{\"v\":1,\"id\":9,\"method\":\"attach\"}\nls\n")
            .await
            .unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        let lines: Vec<&str> = said.splitn(3, '\n').collect();
        assert!(lines[0].contains("no JSON object"), "{said}");
        assert_eq!(
            lines[1],
            r#"{"v":1,"id":9,"result":{"mode":"rw","since":"now","connection":1,"offset":7}}"#
        );
        assert_eq!(lines[2], "console:ls\n");

        let client = ControlClient::connect(&path).await.unwrap();
        let refused = client
            .attach(Mode::Rw, Since::Now, false, soon())
            .await
            .unwrap_err();
        assert_eq!(refused.kind, FailureKind::Precondition);
        assert!(
            refused.message.contains("one client is attached"),
            "{}",
            refused.message
        );
        assert!(refused.hints[0].contains("--take-over"), "{:?}", refused.hints);
    })
    .await;
}
