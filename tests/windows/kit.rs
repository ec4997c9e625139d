//! What these trials need of the kit of the integration tests.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that nobody else has.
pub struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self {
            folder: tempfile::Builder::new().prefix("vs").tempdir().unwrap(),
        }
    }

    /// A path in the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Looks until there is a value. Only for what cannot wake a test.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < until, "gave up waiting until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Reads until `part` has come, and returns everything that was read.
pub fn read_until(stream: &mut impl Read, part: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !all.windows(part.len()).any(|window| window == part) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the stream ended; got `{}`", String::from_utf8_lossy(&all)),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error}; got `{}`", String::from_utf8_lossy(&all)),
        }
    }
    all
}
