//! Makes kernels of the test guests from Debian's source.

use crate::process::{root, say, show};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The package with the source.
pub const SOURCE_PACKAGE: &str = "linux-source-6.1";

const SOURCE: &str = "/usr/src/linux-source-6.1.tar.xz";

/// The folder of what guests are made from.
pub fn inputs() -> PathBuf {
    root().join("tests/guest")
}

/// Tells what is being done, and since when.
pub struct Progress {
    name: &'static str,
    started: Instant,
    log: File,
}

impl Progress {
    /// Begins, with the log of all programs in the folder.
    pub fn begin(name: &'static str, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            name,
            started: Instant::now(),
            log: File::create(folder.join("build.log"))?,
        })
    }

    /// Says what comes now.
    pub fn stage(&self, what: &str) {
        let name = self.name;
        say(&format!(
            "{name}: [{:>4} s] {what}",
            self.started.elapsed().as_secs()
        ));
    }

    /// Gives a second handle of the log.
    pub fn log(&self) -> Result<File> {
        Ok(self.log.try_clone()?)
    }

    /// Runs a command with its output in the log, and shows each line of standard output to `each`.
    pub fn logged(&self, command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
        let mut log = self.log()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", show(command)))?;
        for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
            let line = line?;
            each(&line);
            writeln!(log, "{line}")?;
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", show(command));
        }
        Ok(())
    }
}

/// A kernel that is being made.
pub struct Kernel<'a> {
    progress: &'a Progress,
    /// Its source.
    pub source: PathBuf,
    /// What the compiler makes.
    pub out: PathBuf,
    /// Follows the version that the configuration names.
    version: String,
}

impl<'a> Kernel<'a> {
    /// Unpacks the source into the folder and makes the configuration: the smallest one with these files' lines, of which
    /// the later win.
    pub fn configured(work: &Path, configurations: &[&str], progress: &'a Progress) -> Result<Self> {
        let kernel = Self {
            progress,
            source: work.join("source"),
            out: work.join("out"),
            version: String::new(),
        };
        fs::create_dir_all(&kernel.source)?;
        fs::create_dir_all(&kernel.out)?;
        progress.stage("unpacking the kernel's source");
        let mut unpack = Command::new("tar");
        unpack
            .args(["xJf", SOURCE, "--strip-components=1", "-C"])
            .arg(&kernel.source);
        progress.logged(&mut unpack, |_| {})?;
        progress.stage("configuring");
        kernel.make(&["tinyconfig"])?;
        let path = kernel.out.join(".config");
        let mut config = fs::read_to_string(&path)?;
        for name in configurations {
            config.push_str(&fs::read_to_string(inputs().join(name))?);
        }
        fs::write(&path, config)?;
        kernel.make(&["olddefconfig"])?;
        Ok(kernel)
    }

    /// Names the version: what is appended to the release.
    pub fn named(&mut self, version: &str) {
        version.clone_into(&mut self.version);
    }

    /// Fails if `olddefconfig` has dropped one of these lines, as it does without a word for what a dependency forbids.
    pub fn check_configuration(&self, lines: &[&str]) -> Result<()> {
        let config = fs::read_to_string(self.out.join(".config"))?;
        for option in lines {
            if !config.lines().any(|line| line == *option) {
                bail!("the kernel's configuration has lost {option}");
            }
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let jobs = std::thread::available_parallelism().map_or(2, usize::from);
        let mut command = Command::new("make");
        // The paths in the debug information are the source map's: the same for every build.
        command
            .arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.out.display()))
            .arg(format!("-j{jobs}"))
            .arg(format!(
                "KCFLAGS=-fdebug-prefix-map={}=/guest/linux",
                self.source.display()
            ));
        if !self.version.is_empty() {
            command.arg(format!("LOCALVERSION={}", self.version));
        }
        command
            .env("KBUILD_BUILD_TIMESTAMP", "2000-01-01")
            .env("KBUILD_BUILD_USER", "vmserial")
            .env("KBUILD_BUILD_HOST", "vmserial");
        command
    }

    /// Runs `make`.
    pub fn make(&self, arguments: &[&str]) -> Result<()> {
        self.progress.logged(self.command().args(arguments), |_| {})
    }

    /// Compiles the kernel and tells how far it is.
    pub fn compile(&self) -> Result<()> {
        let mut objects = 0_u32;
        self.progress.logged(self.command().arg("bzImage"), |line| {
            if line.trim_start().starts_with("CC ") {
                objects += 1;
                if objects.is_multiple_of(100) {
                    self.progress.stage(&format!("compiling: {objects} objects"));
                }
            }
        })
    }

    /// Returns the kernel's release, as `uname -r` says it.
    pub fn release(&self) -> Result<String> {
        let release = fs::read_to_string(self.out.join("include/config/kernel.release"))?;
        Ok(release.trim().to_owned())
    }

    /// Returns the image that boots.
    pub fn image(&self) -> PathBuf {
        self.out.join("arch/x86/boot/bzImage")
    }
}
