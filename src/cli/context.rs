//! Settings resolved from arguments and environment.

use crate::cli::GlobalArgs;
use crate::cli::error::Failure;
use crate::config::Surroundings;
use crate::model::FailureKind;
use etcetera::BaseStrategy;
use std::path::{Path, PathBuf};

/// What every command needs to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// The profile that was named (`-p`, `$VMSERIAL_PROFILE`); finding a default one is `config::load`'s work.
    pub profile: Option<PathBuf>,
    /// Journals, locks and run-time files.
    pub state: PathBuf,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Context {
    /// Resolves the settings.
    ///
    /// # Errors
    ///
    /// Fails as configuration when there is no home folder and no `--state`.
    pub fn new(global: &GlobalArgs) -> Result<Self, Failure> {
        let state = match &global.state {
            Some(state) => state.clone(),
            None => default_state()?,
        };
        Ok(Self {
            profile: global.profile.clone(),
            state,
            verbose: global.verbose,
        })
    }

    /// Returns where this machine keeps copies of what was done to it: `$VMSERIAL_HOST_FOLDER`, else see
    /// [`crate::session::marks::host_folder`].
    pub fn host_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = std::env::var_os("VMSERIAL_HOST_FOLDER").filter(|folder| !folder.is_empty()) {
            return std::path::absolute(folder).ok();
        }
        let data = etcetera::choose_base_strategy()
            .ok()
            .map(|strategy| strategy.data_dir());
        crate::session::marks::host_folder(data.as_deref())
    }

    /// Returns what finding and reading a profile needs of the environment.
    ///
    /// # Errors
    ///
    /// There is no current folder.
    pub fn surroundings(&self) -> Result<Surroundings, Failure> {
        let strategy = etcetera::choose_base_strategy().ok();
        Ok(Surroundings {
            home: strategy.as_ref().map(|strategy| strategy.home_dir().to_owned()),
            configuration: strategy.as_ref().map(BaseStrategy::config_dir),
            current: std::env::current_dir()?,
        })
    }

    /// Returns the folder of the state that has this name.
    pub fn state_folder(&self, name: impl AsRef<Path>) -> PathBuf {
        self.state.join(name)
    }
}

/// `${XDG_STATE_HOME:-$HOME/.local/state}/vmserial`, on Windows `%LOCALAPPDATA%\vmserial`.
fn default_state() -> Result<PathBuf, Failure> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(FailureKind::Configuration, error)
            .hint("Name a folder with `--state DIR` or $VMSERIAL_STATE.")
    })?;
    Ok(strategy
        .state_dir()
        .unwrap_or_else(|| strategy.cache_dir())
        .join("vmserial"))
}
