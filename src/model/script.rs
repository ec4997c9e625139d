//! A call of one of our PowerShell scripts as data: it can be shown, journalled and run, on any host that has PowerShell.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// One of our PowerShell scripts with the values that are bound as its parameters. Values never become script text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptCall {
    /// The script's name: `hyperv/set-com-port` is `templates/powershell/hyperv/set-com-port.ps1.j2`.
    pub script: String,
    /// Values by the names in the script's `param(…)`.
    pub parameters: Map<String, Value>,
}

impl ScriptCall {
    /// A parameter of scripts that take something back: with it they change nothing and answer `verdict`, which is `ours`
    /// (it is as we left it), `already` (it is as it was before us) or `foreign`, and `now`, the values that are there.
    pub const LOOK: &str = "look";

    /// Makes a call without parameters.
    pub fn new(script: impl Into<String>) -> Self {
        Self {
            script: script.into(),
            parameters: Map::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }
}

impl fmt::Display for ScriptCall {
    /// Writes name and parameters; plans show the cmdlets that it runs instead.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.script)?;
        for (name, value) in &self.parameters {
            write!(formatter, " {name}={value}")?;
        }
        Ok(())
    }
}
