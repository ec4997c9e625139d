//! vmserial's scripts, known by their text.

use super::invocation::base64;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde_json::{Map, Value};

/// Every file of `templates/powershell/` by its name.
const TEMPLATES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Stand where the values are.
const PARAMETERS: &str = "\u{1}parameters\u{1}";
const NONCE: &str = "\u{1}nonce\u{1}";

/// One of vmserial's scripts with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `hyperv/set-com-port`.
    pub script: String,
    /// By their names.
    pub parameters: Map<String, Value>,
    /// The digits in the markers.
    pub nonce: String,
}

/// Returns which script a text is; `None` if it is none of vmserial's, or one that was changed.
pub fn recognize(text: &str) -> Option<Call> {
    let text = plain(text);
    let environment = environment()?;
    TEMPLATES
        .iter()
        .filter(|(name, source)| *name != "powershell/envelope.ps1" && source.contains("{# shows:"))
        .find_map(|(name, _)| matches(&environment, name, &text))
}

fn matches(environment: &Environment<'_>, name: &str, text: &str) -> Option<Call> {
    let expected = plain(&render(environment, name)?);
    let (before, rest) = expected.split_once(PARAMETERS)?;
    let (parameters, mut text) = text.strip_prefix(before)?.split_once('\'')?;
    let mut nonce: Option<&str> = None;
    let mut pieces = rest.strip_prefix('\'')?.split(NONCE);
    text = text.strip_prefix(pieces.next()?)?;
    for piece in pieces {
        let digits = text.len()
            - text
                .trim_start_matches(|digit: char| digit.is_ascii_digit())
                .len();
        let (number, rest) = text.split_at(digits);
        if number.is_empty() || nonce.is_some_and(|nonce| nonce != number) {
            return None;
        }
        nonce = Some(number);
        text = rest.strip_prefix(piece)?;
    }
    let parameters = serde_json::from_slice(&base64(parameters)?).ok()?;
    (text.is_empty()).then_some(Call {
        script: name.strip_prefix("powershell/")?.strip_suffix(".ps1")?.to_owned(),
        parameters,
        nonce: nonce?.to_owned(),
    })
}

/// Knows every template, with filters that write marks instead of values.
fn environment() -> Option<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.ok()?);
    environment.add_filter("base64_json", |_: minijinja::Value| PARAMETERS.to_owned());
    environment.add_filter("digits", |_: minijinja::Value| NONCE.to_owned());
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).ok()?;
    }
    Some(environment)
}

/// Renders a script with marks instead of values.
fn render(environment: &Environment<'_>, name: &str) -> Option<String> {
    let envelope = environment.get_template("powershell/envelope.ps1").ok()?;
    let rendered = envelope.render(context! { script => name, parameters => (), nonce => () });
    rendered.ok()
}

/// A text without comments, indents and empty lines: whether they are sent is vmserial's matter.
fn plain(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let needed = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    needed.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn text() -> String {
        let rendered = render(&environment().unwrap(), "powershell/host/versions.ps1").unwrap();
        rendered.replace(PARAMETERS, "eyJhIjoxfQ==").replace(NONCE, "12")
    }

    #[test]
    fn a_script_is_known_by_its_text_and_nothing_else_is() {
        let call = recognize(&text()).unwrap();
        assert_eq!(
            (call.script.as_str(), call.nonce.as_str()),
            ("host/versions", "12")
        );
        assert_eq!(call.parameters["a"], 1);
        assert_eq!(recognize(&text().replace("$PSVersionTable", "$PSVersion")), None);
        assert_eq!(
            recognize(&text().replace("</vmserial-12>", "</vmserial-13>")),
            None
        );
        assert_eq!(recognize(&format!("{}\nRemove-VM", text())), None);
        assert_eq!(recognize("Get-VM"), None);
    }
}
