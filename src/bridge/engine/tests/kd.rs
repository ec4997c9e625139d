//! The policy `kd`.

use super::*;
use crate::bridge::event::KernelState;
use crate::bridge::kd_wire::tests::{go_on, state_change};
use crate::bridge::{KdPolicy, TargetSource};

fn kd() -> Rig {
    Rig::new(Policy::Kd, |spec| {
        spec.mediator = Some(Box::new(KdPolicy::default()));
        let TargetSource::Fixed(endpoint) = &spec.target else {
            unreachable!("the rig has a fixed target")
        };
        let Address::Unix(path) = &endpoint.address else {
            unreachable!("the rig dials a Unix socket")
        };
        let path = path.with_file_name("kd");
        spec.clients = vec![format!("kd=listen:unix:{}", path.display()).parse().unwrap()];
    })
}

async fn attach(rig: &mut Rig) -> UnixStream {
    let stream = UnixStream::connect(rig.folder.path().join("kd")).await.unwrap();
    rig.until(|event| matches!(event, Event::ClientAttached { .. }))
        .await;
    stream
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_unchanged_and_a_kernel_left_stopped_is_told() {
    let mut rig = kd();
    let mut vm = rig.up().await;
    vm.write_all(&pattern(1000)).await.unwrap();
    // Nobody is attached.
    while rig.handle.status().await.unwrap().dropped_from_target < 1000 {
        tokio::task::yield_now().await;
    }
    let mut debugger = attach(&mut rig).await;
    let bytes = pattern(50_000);
    vm.write_all(&bytes).await.unwrap();
    assert_eq!(read(&mut debugger, bytes.len()).await, bytes);
    vm.write_all(&state_change()).await.unwrap();
    rig.until(|event| {
        matches!(
            event,
            Event::Kernel {
                state: KernelState::Stopped
            }
        )
    })
    .await;
    debugger.write_all(&go_on()).await.unwrap();
    assert_eq!(read(&mut vm, go_on().len()).await, go_on());
    rig.until(|event| {
        matches!(
            event,
            Event::Kernel {
                state: KernelState::Running
            }
        )
    })
    .await;
    vm.write_all(&state_change()).await.unwrap();
    rig.until(|event| {
        matches!(
            event,
            Event::Kernel {
                state: KernelState::Stopped
            }
        )
    })
    .await;
    drop(debugger);
    rig.until(|event| matches!(event, Event::KernelLeftStopped)).await;
    let refused = rig.handle.release().await.unwrap().unwrap_err();
    assert!(refused.contains("attach the debugger again"), "{refused}");
    let refused = rig.handle.break_in().await.unwrap().unwrap_err();
    assert!(refused.contains("Ctrl-Break"), "{refused}");
    // Not one byte of ours.
    rig.handle.stop("test").await.unwrap();
    let mut rest = Vec::new();
    vm.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_debugger_that_does_not_read_holds_nobody_back() {
    let mut rig = kd();
    let mut vm = rig.up().await;
    let mut debugger = attach(&mut rig).await;
    let bytes = pattern(4 << 20);
    // It ends, although nobody reads.
    tokio::time::timeout(Duration::from_secs(60), vm.write_all(&bytes))
        .await
        .expect("the target is always read")
        .unwrap();
    let mut status = rig.handle.status().await.unwrap();
    while status.from_target < bytes.len() as u64 {
        tokio::task::yield_now().await;
        status = rig.handle.status().await.unwrap();
    }
    let kept = bytes.len() - usize::try_from(status.dropped_from_target).unwrap();
    assert!(kept < 1 << 20, "{kept} kept");
    let mut first = read(&mut debugger, kept).await;
    first.truncate(64 << 10);
    assert_eq!(first, &bytes[..64 << 10], "the newest are dropped");
}

#[tokio::test(start_paused = true)]
async fn what_a_debugger_says_to_an_absent_target_is_dropped_and_counted() {
    let mut rig = kd();
    let vm = rig.up().await;
    let mut debugger = attach(&mut rig).await;
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
    debugger.write_all(b"bbbb").await.unwrap();
    while rig.handle.status().await.unwrap().dropped_to_target < 4 {
        tokio::task::yield_now().await;
    }
    let mut vm = rig.up().await;
    debugger.write_all(b"i").await.unwrap();
    assert_eq!(read(&mut vm, 1).await, b"i");
    let mut second = UnixStream::connect(rig.folder.path().join("kd")).await.unwrap();
    rig.until(|event| matches!(event, Event::ClientRefused { .. }))
        .await;
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
