//! What is built once and kept in `${VMSERIAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmserial}`.
//!
//! A guest stands in `guest/<hash>`, where the hash covers what it is made from. It is built beside and renamed.

use crate::kernel::{Progress, inputs};
use crate::process::{output, root, say};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Returns the folder of everything that is built once and kept.
pub fn cache() -> Result<PathBuf> {
    let of = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(cache) = of("VMSERIAL_CACHE") {
        return Ok(cache);
    }
    if let Some(cache) = of("XDG_CACHE_HOME") {
        return Ok(cache.join("vmserial"));
    }
    let home = of("HOME").context("neither VMSERIAL_CACHE nor XDG_CACHE_HOME nor HOME is set")?;
    Ok(home.join(".cache/vmserial"))
}

/// Returns the folder of the guest that these files of `tests/guest` and these packages make. `prefix` is before its hash.
pub fn folder(prefix: &str, recipe: &str, files: &[&str], packages: &[&str]) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(recipe);
    for name in files {
        let path = inputs().join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    for package in packages {
        let version = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
            .with_context(|| format!("cannot ask for the version of the package {package}"))?;
        hash.update(version);
        hash.update(b"\n");
    }
    let digest = hash.finalize();
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join("guest").join(format!("{prefix}{name}")))
}

/// Makes sure that a guest is there: built by `stages` in a folder of its own.
pub fn ensure(
    name: &'static str,
    folder: &Path,
    stages: impl FnOnce(&Path, &Progress) -> Result<()>,
) -> Result<()> {
    let parent = folder.parent().context("the guest's folder has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Two builders would do the work twice; the second one waits and finds it done.
    let lock = File::create(parent.join("lock"))?;
    lock.lock().context("cannot lock the guest cache")?;
    if folder.join("complete").exists() {
        say(&format!("{name}: cached in {}", folder.display()));
        return Ok(());
    }
    let started = Instant::now();
    // The lock is ours, so what others left half built is nobody's.
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(".building-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let work = folder.with_extension(format!("building-{}", std::process::id()));
    let progress = Progress::begin(name, &work)?;
    if let Err(error) = stages(&work, &progress) {
        let log = work.join("build.log");
        bail!("the {name} could not be built ({error:#}); see {}", log.display());
    }
    fs::write(work.join("complete"), b"")?;
    fs::rename(&work, folder).with_context(|| format!("cannot rename to {}", folder.display()))?;
    say(&format!(
        "{name}: built in {} s, kept in {}",
        started.elapsed().as_secs(),
        folder.display()
    ));
    Ok(())
}

/// Links a guest into the project, where profiles and tests find it.
pub fn link(folder: &Path, link: &str) -> Result<()> {
    let link = root().join(link);
    if fs::read_link(&link).ok().as_deref() == Some(folder) {
        return Ok(());
    }
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(folder, &link).with_context(|| format!("cannot link {}", link.display()))
}
