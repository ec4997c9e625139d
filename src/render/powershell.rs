//! Our PowerShell scripts: `templates/powershell/` in the one envelope, and what of them a plan shows.
//!
//! A script is `templates/powershell/FOLDER/NAME.ps1.j2`: first `{# shows: … #}`, the cmdlet lines for people, a template
//! over the call's parameters with the filter `ps`; then the body, which begins with `param(…)` and gives exactly one
//! object. Values are never written into the body: they are bound as its parameters. `{% include … %}` takes in shared
//! functions, files without a `shows`.

use crate::model::ScriptCall;
use crate::render::environment::{RenderError, TEMPLATES, render, render_part};
use serde::Serialize;
use serde_json::{Map, Value};

/// The mark of what a script shows of itself.
const SHOWS: &str = "{# shows:";

/// What the envelope is filled with.
#[derive(Serialize)]
struct Envelope<'a> {
    script: String,
    parameters: &'a Map<String, Value>,
    nonce: &'a str,
}

fn template_name(script: &str) -> String {
    format!("powershell/{script}.ps1")
}

/// Returns the names of all scripts.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().filter_map(|(name, source)| {
        let script = name.strip_prefix("powershell/")?.strip_suffix(".ps1")?;
        source.contains(SHOWS).then_some(script)
    })
}

/// Writes the whole script of a call. `nonce` are the digits in its markers, a number of this call alone.
///
/// # Errors
///
/// There is no such script, which is a defect.
pub fn script(call: &ScriptCall, nonce: &str) -> Result<String, RenderError> {
    let text = render(
        "powershell/envelope.ps1",
        &Envelope {
            script: template_name(&call.script),
            parameters: &call.all_parameters(),
            nonce,
        },
    )?;
    Ok(without_comments(&text))
}

/// Leaves out what PowerShell does not need: a command line is short. The scripts have no text over several lines.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let needed = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    needed.flat_map(|line| [line, "\n"]).collect()
}

/// Returns the cmdlet lines that a call runs, for people: `Set-VMComPort -VMName dev -Number 2 -Path '\\.\pipe\dev'`.
pub fn cmdlet_lines(call: &ScriptCall) -> Vec<String> {
    let name = template_name(&call.script);
    let source = TEMPLATES.iter().find(|(known, _)| *known == name);
    let shows = source
        .and_then(|(_, source)| source.split_once(SHOWS)?.1.split_once("#}"))
        .map(|(shows, _)| shows.trim());
    let rendered = shows.and_then(|shows| render_part(&name, shows, &call.parameters).ok());
    match rendered {
        Some(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(ToOwned::to_owned).collect()
        }
        // A test excludes it for every script; a plan is shown all the same.
        None => vec![call.to_string()],
    }
}

/// Writes one line of ASCII that runs a script, for a PowerShell that takes its commands from standard input: statement by
/// statement, so that a script of several could lose its middle and go on.
pub fn one_line(script: &str) -> String {
    format!(
        "& ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{}'))))\n\n",
        crate::model::base64::encode(script.as_bytes())
    )
}

/// Writes a script for `-EncodedCommand`: base64 of UTF-16LE, without `=` at its end, so that no shell on the way needs
/// to quote it.
pub fn encoded_command(script: &str) -> String {
    let mut units: Vec<u16> = script.encode_utf16().collect();
    units.resize(units.len().next_multiple_of(3), u16::from(b'\n'));
    let bytes: Vec<u8> = units.into_iter().flat_map(u16::to_le_bytes).collect();
    crate::model::base64::encode(&bytes)
}

#[cfg(test)]
mod tests;
