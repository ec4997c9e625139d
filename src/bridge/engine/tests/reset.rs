//! A reset that the hypervisor tells: a mark and a boot, once for each, and nobody leaves.

use super::*;

/// The marks of the log, each with its boot and offset.
async fn marks(rig: &Rig) -> Vec<(u64, u64, String)> {
    // An answer comes when what was asked before is done.
    rig.handle.status().await.unwrap();
    let log = std::fs::read_to_string(rig.folder.path().join("log")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str(line).unwrap());
    records
        .filter_map(|record: serde_json::Value| {
            let mark = record["mark"].as_str()?.to_owned();
            Some((record["boot"].as_u64()?, record["offset"].as_u64()?, mark))
        })
        .collect()
}

fn logged() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(Policy::Console, |spec| {
        spec.target = crate::bridge::TargetSource::Fixed(endpoint(&folder.path().join("vm")));
        spec.log.json = Some(folder.path().join("log"));
    });
    rig.folder = folder;
    rig
}

fn mark(boot: u64, offset: u64, name: &str) -> (u64, u64, String) {
    (boot, offset, name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn each_reset_is_a_boot_and_the_resets_of_firmware_are_one() {
    let mut rig = logged();
    let mut vm = rig.up().await;
    let mut client = rig.console().await;
    for text in ["one\n", "two\n"] {
        vm.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(read(&mut client, text.len()).await, text.as_bytes());
        for _ in 0..3 {
            rig.handle.target_reset().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let told = [
        mark(0, 0, "opened"),
        mark(1, 0, "up"),
        mark(2, 4, "reset"),
        mark(3, 8, "reset"),
    ];
    assert_eq!(marks(&rig).await, told);
    // One that says nothing for long is another boot.
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.handle.target_reset().await.unwrap();
    assert_eq!(marks(&rig).await.last(), Some(&mark(4, 8, "reset")));
    vm.write_all(b"three\n").await.unwrap();
    assert_eq!(read(&mut client, 6).await, b"three\n");
}
