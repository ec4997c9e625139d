//! Texts with `{{ … }}` in them, as a profile's ranges use: expressions only, an unknown name is an error.

use minijinja::{Environment, UndefinedBehavior};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A text after its expressions were put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// It was one expression and nothing else.
    pub whole: bool,
}

/// Why a text could not be rendered: a fragment that names the expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InlineError(String);

/// Tells whether a text has an expression.
pub fn has_expression(text: &str) -> bool {
    text.contains("{{")
}

/// Puts the values of `{{ … }}` into a text. Statements (`{% … %}`) mean nothing here and stay as they are.
///
/// # Errors
///
/// An expression that is not closed, is wrong, uses an unknown name, or has a list or a map as its value.
pub fn inline(text: &str, variables: &BTreeMap<&str, u32>) -> Result<Rendered, InlineError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    let mut expressions = 0;
    let mut literal = 0;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, behind) = after
            .split_once("}}")
            .ok_or_else(|| InlineError("a `{{` has no `}}`".to_owned()))?;
        made.push_str(before);
        literal += before.len();
        let shown = format!("`{{{{{expression}}}}}`");
        let failed = |error: minijinja::Error| {
            let kind = error.kind();
            match error.detail() {
                Some(detail) => InlineError(format!("{shown} cannot be worked out: {kind}: {detail}")),
                None => InlineError(format!("{shown} cannot be worked out: {kind}")),
            }
        };
        let value = environment
            .compile_expression(expression.trim())
            .and_then(|compiled| compiled.eval(variables))
            .map_err(failed)?;
        if value.is_undefined() {
            let known: Vec<String> = variables.keys().map(|name| format!("`{name}`")).collect();
            return Err(InlineError(format!(
                "{shown} uses a name that is not known, expected {}",
                known.join(" or ")
            )));
        }
        if value.as_str().is_none() && !value.is_number() {
            return Err(InlineError(format!(
                "{shown} is no text and no number but {}",
                value.kind()
            )));
        }
        // Writing into a String cannot fail.
        let _ = write!(made, "{value}");
        expressions += 1;
        rest = behind;
    }
    made.push_str(rest);
    literal += rest.len();
    Ok(Rendered {
        text: made,
        whole: expressions == 1 && literal == 0,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn with(text: &str, n: u32) -> Result<Rendered, String> {
        inline(text, &BTreeMap::from([("n", n)])).map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_are_worked_out_and_all_else_stays() {
        for (text, expected, whole) in [
            ("lab-{{ n }}", "lab-7", false),
            ("{{n}}", "7", true),
            ("tcp:{{ 7000 + n }}:{{ n }}", "tcp:7007:7", false),
            (r#"lab-{{ "%02d" | format(n) }}"#, "lab-07", false),
            ("{{ 'even' if n % 2 == 0 else 'odd' }}", "odd", true),
            ("{% if x %} {# no #} {n}", "{% if x %} {# no #} {n}", false),
            ("", "", false),
        ] {
            let made = with(text, 7).unwrap();
            assert_eq!((made.text.as_str(), made.whole), (expected, whole), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_worked_out_is_named() {
        for (text, part) in [
            ("{{ m }}", "`{{ m }}` uses a name that is not known, expected `n`"),
            ("{{ m + 1 }}", "`{{ m + 1 }}` cannot be worked out"),
            ("{{ n", "has no `}}`"),
            ("{{ }}", "cannot be worked out"),
            ("{{ n + }}", "cannot be worked out: syntax error"),
            ("{{ n / 0 }}", "cannot be worked out"),
            ("{{ [n] }}", "is no text and no number but sequence"),
            ("{{ n > 1 }}", "is no text and no number but bool"),
            ("{{ n | nofilter }}", "cannot be worked out"),
        ] {
            let told = with(text, 7).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
    }
}
