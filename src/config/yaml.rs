//! Reads a YAML document into nodes that know where they stand.

use crate::config::node::{Content, Issue, Key, Node, Place};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// More nodes than this come from an alias bomb, not from a lab.
const MOST_NODES: usize = 200_000;

/// Deeper nesting than this is no profile.
const MOST_DEPTH: usize = 64;

/// An anchor's number and the number of nodes below it.
type Anchors = HashMap<usize, (Node, usize)>;

struct Builder<'a> {
    parser: Box<dyn Iterator<Item = Result<(Event<'a>, Place), Issue>> + 'a>,
    anchors: Anchors,
    count: usize,
}

fn place(span: &Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Reads one document into nodes.
///
/// # Errors
///
/// Wrong YAML, a tag, a second document, an empty one, an alias bomb.
pub fn nodes(text: &str) -> Result<Node, Issue> {
    let start = Place { line: 1, column: 1 };
    let issue = |place, message: &str| Issue {
        place,
        path: String::new(),
        message: message.to_owned(),
    };
    // A byte-order mark is no part of the document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let events = Parser::new_from_str(text).map(|event| match event {
        Ok((event, span)) => Ok((event, place(&span))),
        Err(error) => Err(Issue {
            place: Place {
                line: error.marker().line().max(1),
                column: error.marker().col() + 1,
            },
            path: String::new(),
            message: format!("this is no YAML: {}", error.info()),
        }),
    });
    let mut builder = Builder {
        parser: Box::new(events),
        anchors: Anchors::new(),
        count: 0,
    };
    let mut document = None;
    while let Some((event, place)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if document.is_some() => {
                return Err(issue(place, "a second document begins here, expected one"));
            }
            Event::DocumentStart(..) => {}
            event => document = Some(builder.node(event, place, 0)?.0),
        }
    }
    match document {
        Some(Node {
            content: Content::Scalar { text, quoted: false },
            ..
        }) if text.is_empty() => Err(issue(
            start,
            "the profile is empty, expected `version: 1` and `targets:`",
        )),
        Some(document) => Ok(document),
        None => Err(issue(
            start,
            "the profile is empty, expected `version: 1` and `targets:`",
        )),
    }
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, Issue> {
        loop {
            match self.parser.next().transpose()? {
                Some((Event::Comment(..), _)) => {}
                other => return Ok(other),
            }
        }
    }

    fn must_next(&mut self, at: Place) -> Result<(Event<'a>, Place), Issue> {
        self.next()?.ok_or(Issue {
            place: at,
            path: String::new(),
            message: "the document ends too early".to_owned(),
        })
    }

    /// Reads the node that begins with an event. Returns it with the number of nodes in it.
    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<(Node, usize), Issue> {
        let issue = |message: String| Issue {
            place,
            path: String::new(),
            message,
        };
        self.count += 1;
        if self.count > MOST_NODES || depth > MOST_DEPTH {
            return Err(issue(
                "the document is too large or too deep (aliases of aliases?)".to_owned(),
            ));
        }
        if event.tag().is_some() {
            return Err(issue(
                "a tag (`!…`) has no meaning in a profile; a text that begins with `!` stands in quotes"
                    .to_owned(),
            ));
        }
        let anchor = event.anchor_id();
        let (content, size) = match event {
            Event::Scalar(text, style, _, _) => (
                Content::Scalar {
                    text: text.into_owned(),
                    quoted: style != ScalarStyle::Plain,
                },
                1,
            ),
            Event::Alias(id) => {
                let (node, size) = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| issue("the alias has no anchor".to_owned()))?;
                self.count += size;
                if self.count > MOST_NODES {
                    return Err(issue(
                        "the document is too large (aliases of aliases?)".to_owned(),
                    ));
                }
                // Errors in it are told where the alias stands, which is where the user can tell what it is for.
                return Ok((Node { place, ..node }, size));
            }
            Event::SequenceStart(..) => {
                let (mut items, mut size) = (Vec::new(), 1);
                loop {
                    let (event, at) = self.must_next(place)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    let (item, below) = self.node(event, at, depth + 1)?;
                    items.push(item);
                    size += below;
                }
                (Content::Sequence(items), size)
            }
            Event::MappingStart(..) => {
                let (mut entries, mut size) = (Vec::new(), 1);
                loop {
                    let (event, at) = self.must_next(place)?;
                    if matches!(event, Event::MappingEnd) {
                        break;
                    }
                    let (key, _) = self.node(event, at, depth + 1)?;
                    let Content::Scalar { text, .. } = key.content else {
                        return Err(Issue {
                            place: at,
                            path: String::new(),
                            message: "a key is a text".to_owned(),
                        });
                    };
                    let (event, at_value) = self.must_next(at)?;
                    let (value, below) = self.node(event, at_value, depth + 1)?;
                    entries.push((Key { place: at, text }, value));
                    size += below + 1;
                }
                (Content::Mapping(entries), size)
            }
            _ => return Err(issue("expected a value".to_owned())),
        };
        let node = Node { place, content };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok((node, size))
    }
}
