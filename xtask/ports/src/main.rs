//! Serves many idle ports in one process, until its standard input ends: `vmserial-ports FOLDER COUNT`.
//!
//! Port N dials the Unix socket `FOLDER/vmN` and listens on `FOLDER/cN`. The ports are spread over one current-thread
//! runtime per CPU, as a process that serves a lab does it. `cargo xtask bench bridge` measures it.

use anyhow::{Context, Result, anyhow};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use tokio::task::LocalSet;
use vmserial::bridge::{BridgeSpec, Engine};
use vmserial::model::Policy;

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let folder = PathBuf::from(words.next().context("the first word is the sockets' folder")?);
    let count: usize = words
        .next()
        .and_then(|word| word.to_str()?.parse().ok())
        .context("the second word is the number of ports")?;
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(count.max(1));
    let (started, all) = channel();
    for thread in 0..threads {
        let ports: Vec<usize> = (0..count).filter(|port| port % threads == thread).collect();
        let (folder, started) = (folder.clone(), started.clone());
        std::thread::Builder::new()
            .name(format!("ports-{thread}"))
            .spawn(move || {
                // Who waits for it reads the reason; a process that ends does not.
                let failed = serve(&folder, &ports, &started).err();
                let _ = started.send(failed.map_or(Ok(()), Err));
            })?;
    }
    for _ in 0..threads {
        all.recv()??;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Serves these ports until the process ends.
fn serve(folder: &std::path::Path, ports: &[usize], started: &Sender<Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut running = Vec::with_capacity(ports.len());
        for port in ports {
            let endpoint = |role: &str, name: &str| {
                format!("{role}:unix:{}", folder.join(format!("{name}{port}")).display())
            };
            let clients = vec![endpoint("listen", "c").parse()?];
            let spec = BridgeSpec::to(endpoint("connect", "vm").parse()?, clients, Policy::Console);
            let engine = Engine::bind(spec).map_err(|problem| anyhow!("{}", problem.message))?;
            running.push(tokio::task::spawn_local(engine.run()));
        }
        started.send(Ok(()))?;
        for engine in running {
            engine.await?;
        }
        Ok(())
    })
}
