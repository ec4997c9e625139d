//! What a script of ours answered: one JSON object between the markers of its call.

use crate::model::HostRef;
use crate::runner::local::tail;
use crate::runner::{Output, RunError, Status};
use serde_json::Value;

/// What the caller knows of its call.
pub struct Asked<'a> {
    /// The script's name, for messages.
    pub script: &'a str,
    /// The digits in its markers.
    pub nonce: &'a str,
    /// Where it ran.
    pub host: &'a HostRef,
}

/// Reads the answer out of everything that PowerShell printed.
///
/// # Errors
///
/// [`RunError::Script`] with what the script threw; [`RunError::Failed`] with PowerShell's last words if there is no
/// whole answer.
pub fn read(asked: &Asked<'_>, output: &Output) -> Result<Value, RunError> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let (begin, end) = (
        format!("<vmserial-{}>", asked.nonce),
        format!("</vmserial-{}>", asked.nonce),
    );
    let between = stdout
        .split_once(begin.as_str())
        .and_then(|(_, rest)| rest.split_once(end.as_str()))
        .map(|(between, _)| between);
    // The JSON has no line breaks of its own: those that are here, a console put in.
    let reply = between.map(|text| text.replace(['\r', '\n'], ""));
    let reply: Option<Value> = reply.and_then(|text| serde_json::from_str(&text).ok());
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    match reply {
        Some(mut reply) if reply.get("result").is_some() && output.status == Status::Exited(0) => {
            Ok(reply["result"].take())
        }
        Some(reply) if reply.get("error").is_some() => Err(RunError::Script {
            message: text(&reply["error"], "message"),
            id: text(&reply["error"], "id"),
            category: text(&reply["error"], "category"),
            host: asked.host.clone(),
        }),
        _ => Err(RunError::Failed {
            invocation: format!("PowerShell script {}", asked.script),
            host: asked.host.clone(),
            status: output.status,
            tail: tail(if output.stderr.trim_ascii().is_empty() {
                &output.stdout
            } else {
                &output.stderr
            }),
        }),
    }
}
