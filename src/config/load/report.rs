//! Everything that is wrong in a profile as one text, each with its place, its excerpt and its field.

use crate::config::node::{Issue, Place};
use crate::model::{FailureKind, Problem};
use std::collections::BTreeMap;
use std::path::Path;

/// A longer excerpt is cut: a terminal wraps it and the caret would point at nothing.
const MOST_CHARACTERS: usize = 160;

/// Puts everything that is wrong into one problem.
pub fn report(path: &Path, text: &str, issues: &[Issue]) -> Problem {
    let shown = path.display();
    let count = if issues.len() == 1 {
        "an error".to_owned()
    } else {
        format!("{} errors", issues.len())
    };
    // A secret that was written out is on nobody's screen and in no CI log, whichever error its line is shown for.
    let mut hidden: BTreeMap<usize, usize> = BTreeMap::new();
    for Issue { place, .. } in issues.iter().filter(|issue| issue.hides) {
        let from = hidden.entry(place.line).or_insert(place.column);
        *from = place.column.min(*from);
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut message = format!("the profile `{shown}` has {count}");
    for issue in issues {
        let Place { line, column } = issue.place;
        let field = issue.path.to_string();
        let name = if field.is_empty() {
            String::new()
        } else {
            format!("`{field}`: ")
        };
        message.push_str(&format!(
            "\n\n{name}{}\n  --> {shown}:{line}:{column}",
            issue.message
        ));
        if let Some(excerpt) = lines.get(line.saturating_sub(1)) {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let excerpt = printable(excerpt, hidden.get(&line).copied());
            let before: String = excerpt
                .chars()
                .chain(std::iter::repeat(' '))
                .take(column - 1)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            message.push_str(&format!(
                "\n {margin} |\n {number} | {excerpt}\n {margin} | {before}^"
            ));
        }
    }
    Problem::new(FailureKind::Configuration, message)
        .hint("`vmserial profile schema` prints every key; docs/reference/profile.md explains them.")
}

/// A line as it may go to a terminal: no secret, no control characters, not endless.
fn printable(line: &str, hidden_from: Option<usize>) -> String {
    let characters: Vec<char> = line.chars().collect();
    let end = hidden_from.map_or(characters.len(), |column| (column - 1).min(characters.len()));
    let mut excerpt: String = characters
        .iter()
        .take(end.min(MOST_CHARACTERS))
        .map(|&character| match character {
            '\t' => '\t',
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect();
    if hidden_from.is_some() {
        excerpt.push_str("***");
    } else if end > MOST_CHARACTERS {
        excerpt.push('…');
    }
    excerpt
}
