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
    /// Further values, which are neither shown nor kept, and stand on no command line.
    #[serde(skip)]
    pub secrets: SecretValues,
}

/// Values of a script that are never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretValues(Map<String, Value>);

impl fmt::Debug for SecretValues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
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
            secrets: SecretValues::default(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds a parameter that is never shown.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.secrets.0.insert(name.into(), value.into());
        self
    }

    /// Tells whether it has a parameter that is never shown.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.0.is_empty()
    }

    /// Returns all parameters, for the script itself.
    pub fn all_parameters(&self) -> Map<String, Value> {
        let mut all = self.parameters.clone();
        all.extend(self.secrets.0.clone());
        all
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_secret_is_for_the_script_alone() {
        let call = ScriptCall::new("a/b")
            .with("vm", "dev")
            .with_secret("password", "s3cret");
        assert!(call.has_secrets());
        assert_eq!(call.all_parameters()["password"], "s3cret");
        let shown = format!("{call} {call:?} {}", serde_json::to_string(&call).unwrap());
        assert!(shown.contains("dev") && !shown.contains("s3cret"), "{shown}");
    }
}
