//! A host for tests of this driver.

use crate::model::{HostPath, HostRef, Invocation, Wait};
use crate::runner::{FileSnapshot, Output, RunError, Runner, Status};
use std::collections::BTreeMap;
use std::time::Duration;

/// The VM of most tests.
pub(super) const VMX: &str = "/vm/dev.vmx";

/// A host as a table: files, and what commands answer.
pub(super) struct FakeHost {
    pub files: BTreeMap<String, Vec<u8>>,
    pub answers: BTreeMap<String, Result<&'static str, &'static str>>,
    pub hangs: bool,
}

impl FakeHost {
    pub fn with(vmx: &str) -> Self {
        Self {
            files: BTreeMap::from([(VMX.to_owned(), vmx.as_bytes().to_vec())]),
            answers: BTreeMap::new(),
            hangs: false,
        }
    }

    pub fn there(mut self, path: &str) -> Self {
        self.files.insert(path.to_owned(), Vec::new());
        self
    }

    pub fn says(mut self, command: &str, answer: Result<&'static str, &'static str>) -> Self {
        self.answers.insert(command.to_owned(), answer);
        self
    }
}

impl Runner for FakeHost {
    fn host(&self) -> &HostRef {
        &HostRef::Local
    }

    fn run(&self, invocation: &Invocation, wait: &Wait) -> Result<Output, RunError> {
        if self.hangs {
            return Err(RunError::DeadlinePassed {
                what: wait.what.clone(),
            });
        }
        let output = |status, text: &str| Output {
            status: Status::Exited(status),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
            elapsed: Duration::ZERO,
        };
        match self.answers.get(&invocation.to_string()) {
            Some(Ok(text)) => Ok(output(0, text)),
            Some(Err(text)) => Ok(output(255, text)),
            None => Err(RunError::ProgramNotFound {
                program: invocation.program.clone(),
                host: HostRef::Local,
            }),
        }
    }

    fn read(&self, path: &HostPath, _: &Wait) -> Result<Option<FileSnapshot>, RunError> {
        if path.as_str().ends_with('/') {
            return Err(RunError::Io {
                what: "read".to_owned(),
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        Ok(self.files.get(path.as_str()).map(|bytes| FileSnapshot {
            bytes: bytes.clone(),
            mode: None,
            owner: None,
        }))
    }

    fn exists(&self, path: &HostPath, _: &Wait) -> Result<bool, RunError> {
        Ok(self.files.contains_key(path.as_str()))
    }
}
