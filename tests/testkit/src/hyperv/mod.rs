//! A Hyper-V host for the stand-in of PowerShell: state in a file, and refusals with the texts and ids of the real one.

use serde_json::{Map, Value, json};
use std::path::Path;

/// What a cmdlet throws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `$_.Exception.Message`.
    pub message: String,
    /// `$_.FullyQualifiedErrorId`.
    pub id: String,
    /// `$_.CategoryInfo.Category`.
    pub category: String,
}

/// Does what one of our scripts does, by its name without `.ps1`, with the values that it was given, on the host whose
/// state is in this folder; returns the object that the script gives.
///
/// # Errors
///
/// What a cmdlet in it throws.
pub fn act(script: &str, parameters: &Map<String, Value>, state: &Path) -> Result<Value, Refusal> {
    let _ = state;
    match script {
        "host/versions" => Ok(json!({
            "powershell": "5.1.20348.2849", "edition": "Desktop", "system": "Microsoft Windows NT 10.0.20348.0",
            "computer": "STANDIN", "user": "me", "echo": parameters.get("Echo").cloned().unwrap_or_else(|| json!("")),
        })),
        unknown => Err(Refusal {
            message: format!("the stand-in has no part for the script {unknown}"),
            id: "StandIn".to_owned(),
            category: "NotImplemented".to_owned(),
        }),
    }
}
