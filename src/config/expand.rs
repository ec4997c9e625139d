//! Ranges: makes many targets of one by putting numbers into its `{{ n }}`.

use crate::config::expression::{has_expression, inline};
use crate::config::node::{Content, FieldPath, Issue, Key, Node, Part, ScalarType, Style};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// More targets than this come from a mistyped range, not from a lab.
const MOST_TARGETS: u64 = 10_000;

/// Replaces each target that has a `range` by the targets that it stands for. What is wrong in one of them is told for the
/// first one only: all of them stand in the same place.
///
/// The issues are of ranges and expressions that cannot be worked out; the document is then expanded as far as it makes sense.
pub fn expand(document: &Node) -> (Node, Vec<Issue>) {
    let mut expander = Expander { issues: Vec::new() };
    let mut document = document.clone();
    if let Content::Mapping(entries) = &mut document.content {
        for (key, value) in entries {
            if key.text == "targets"
                && let Content::Mapping(targets) = &mut value.content
            {
                *targets = expander.targets(targets);
            }
        }
    }
    (document, expander.issues)
}

/// Leaves out what was told of the same place for another target already: one of a range, or of a shared anchor.
pub fn once_per_place(mut issues: Vec<Issue>) -> Vec<Issue> {
    let mut first = BTreeMap::new();
    issues.retain(|issue| {
        let target = match issue.path.0.as_slice() {
            [Part::Key(targets), name, ..] if targets == "targets" => Some(name.clone()),
            _ => None,
        };
        *first.entry(issue.place).or_insert_with(|| target.clone()) == target
    });
    issues
}

struct Expander {
    issues: Vec<Issue>,
}

impl Expander {
    fn targets(&mut self, targets: &[(Key, Node)]) -> Vec<(Key, Node)> {
        let mut all = Vec::new();
        for (key, target) in targets {
            let path = FieldPath::default().key("targets").key(&key.text);
            match target.get("range") {
                None => {
                    self.without_range(&path, key, target);
                    all.push((key.clone(), target.clone()));
                }
                Some(range) => {
                    let numbers = self.numbers(&path.key("range"), range);
                    if !has_expression(&key.text) {
                        let message = "a target with a `range` needs `{{ n }}` in its name, or all would have the same one";
                        self.issues.push(Issue::new(key.place, path.clone(), message));
                        all.push((key.clone(), target.clone()));
                        continue;
                    }
                    let count = u64::from(*numbers.end()) - u64::from(*numbers.start()) + 1;
                    if all.len() as u64 + count > MOST_TARGETS {
                        let message = format!(
                            "the range makes {count} targets, and a profile has {MOST_TARGETS} at most"
                        );
                        self.issues
                            .push(Issue::new(range.place, path.key("range"), message));
                        continue;
                    }
                    for number in numbers {
                        let variables = BTreeMap::from([("n", number)]);
                        let before = self.issues.len();
                        let made = self.one(&path, key, target, &variables);
                        let failed = self.issues.len() > before;
                        all.push(made);
                        if failed {
                            break;
                        }
                    }
                }
            }
        }
        all
    }

    /// The numbers of a range. A wrong one is told by the check of its keys; one target then stands for all.
    fn numbers(&mut self, path: &FieldPath, range: &Node) -> RangeInclusive<u32> {
        let bound = |name: &str| match range.get(name).map(Node::scalar_type) {
            Some(Some(ScalarType::Integer(number))) => u32::try_from(number).ok(),
            _ => None,
        };
        match (bound("from"), bound("to")) {
            (Some(from), Some(to)) if from <= to => from..=to,
            (Some(from), Some(to)) => {
                let message =
                    format!("the range goes from {from} down to {to}, expected `from` to be the lower");
                self.issues.push(Issue::new(range.place, path.clone(), message));
                from..=from
            }
            (from, to) => {
                let one = from.or(to).unwrap_or(1);
                one..=one
            }
        }
    }

    /// One target of a range.
    fn one(
        &mut self,
        path: &FieldPath,
        key: &Key,
        target: &Node,
        variables: &BTreeMap<&str, u32>,
    ) -> (Key, Node) {
        let key = self.key(path, key, variables);
        let node = self.node(path, target, variables);
        (key, node)
    }

    fn key(&mut self, path: &FieldPath, key: &Key, variables: &BTreeMap<&str, u32>) -> Key {
        match inline(&key.text, variables) {
            Ok(made) => Key {
                text: made.text,
                ..key.clone()
            },
            Err(error) => {
                self.issues
                    .push(Issue::new(key.place, path.clone(), error.to_string()));
                key.clone()
            }
        }
    }

    fn node(&mut self, path: &FieldPath, node: &Node, variables: &BTreeMap<&str, u32>) -> Node {
        let content = match &node.content {
            Content::Scalar { text, style } if has_expression(text) => match inline(text, variables) {
                Ok(made) => Content::Scalar {
                    text: made.text,
                    style: if made.whole { Style::Made } else { *style },
                },
                Err(error) => {
                    self.issues
                        .push(Issue::new(node.place, path.clone(), error.to_string()));
                    node.content.clone()
                }
            },
            Content::Scalar { .. } => node.content.clone(),
            Content::Sequence(items) => Content::Sequence(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.node(&path.index(index), item, variables))
                    .collect(),
            ),
            Content::Mapping(entries) => Content::Mapping(
                entries
                    .iter()
                    .map(|(key, value)| {
                        let path = path.key(&key.text);
                        (
                            self.key(&path, key, variables),
                            self.node(&path, value, variables),
                        )
                    })
                    .collect(),
            ),
        };
        Node {
            place: node.place,
            content,
        }
    }

    /// `{{ n }}` without a range is a forgotten range; any other braces are the text's own (`exec:docker … {{.State}}`).
    fn without_range(&mut self, path: &FieldPath, key: &Key, target: &Node) {
        let counts = |text: &str| {
            text.split("{{")
                .skip(1)
                .any(|behind| behind.split("}}").next().map(str::trim) == Some("n"))
        };
        if has_expression(&key.text) {
            let message = "`{{ … }}` in a name needs a `range: {from: …, to: …}` in the target";
            self.issues.push(Issue::new(key.place, path.clone(), message));
            return;
        }
        let mut nodes = vec![(path.clone(), target)];
        while let Some((path, node)) = nodes.pop() {
            match &node.content {
                Content::Scalar { text, .. } if counts(text) => {
                    let message = "`{{ n }}` counts through a `range`, and the target has none";
                    self.issues.push(Issue::new(node.place, path, message));
                }
                Content::Scalar { .. } => {}
                Content::Sequence(items) => nodes.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| (path.index(index), item)),
                ),
                Content::Mapping(entries) => {
                    nodes.extend(entries.iter().map(|(key, value)| (path.key(&key.text), value)))
                }
            }
        }
    }
}
