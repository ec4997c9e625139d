//! YAML into nodes that know where they stand, and profiles into YAML: the only place that knows a YAML library.

use crate::config::node::{Content, FieldPath, Issue, Key, Node, Part, Place, ScalarType, Style};
use crate::model::profile::Profile;
use crate::model::{FailureKind, Problem};
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::HashMap;

/// More nodes than this come from an alias bomb, not from a lab.
const MOST_NODES: usize = 200_000;

/// Deeper nesting than this is no profile.
const MOST_DEPTH: usize = 64;

/// What a document says, with what is wrong in it although it can be read.
#[derive(Debug)]
pub struct Document {
    /// Its nodes.
    pub root: Node,
    /// Tags, keys that are no texts.
    pub issues: Vec<Issue>,
}

/// A node with its measures, by which aliases are bounded.
#[derive(Clone)]
struct Built {
    node: Node,
    /// Nodes in it, itself included.
    size: usize,
    /// Levels below it.
    height: usize,
}

struct Builder<'a> {
    parser: Box<dyn Iterator<Item = Result<(Event<'a>, Place), Issue>> + 'a>,
    anchors: HashMap<usize, Built>,
    count: usize,
    path: FieldPath,
    issues: Vec<Issue>,
}

fn place(span: &Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Returns the text without a byte-order mark, which is no part of the document.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Reads one document into nodes.
///
/// # Errors
///
/// What makes reading on pointless: no YAML, a second document, an empty one, an alias bomb.
pub fn nodes(text: &str) -> Result<Document, Issue> {
    let events = Parser::new_from_str(text).map(|event| match event {
        Ok((event, span)) => Ok((event, place(&span))),
        Err(error) => Err(Issue::of_document(
            Place {
                line: error.marker().line().max(1),
                column: error.marker().col() + 1,
            },
            format!("this is no YAML: {}", error.info()),
        )),
    });
    let mut builder = Builder {
        parser: Box::new(events),
        anchors: HashMap::new(),
        count: 0,
        path: FieldPath::default(),
        issues: Vec::new(),
    };
    let mut root = None;
    while let Some((event, place)) = builder.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_some() => {
                return Err(Issue::of_document(
                    place,
                    "a second document begins here, expected one",
                ));
            }
            Event::DocumentStart(..) => {}
            event => root = Some(builder.node(event, place, 0)?.node),
        }
    }
    match root.filter(|root| root.scalar_type() != Some(ScalarType::Null)) {
        Some(root) => Ok(Document {
            root,
            issues: builder.issues,
        }),
        None => Err(Issue::of_document(
            Place { line: 1, column: 1 },
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
        self.next()?
            .ok_or_else(|| self.issue(at, "the document ends too early"))
    }

    fn issue(&self, place: Place, message: &str) -> Issue {
        Issue::new(place, self.path.clone(), message)
    }

    fn tell(&mut self, place: Place, message: &str) {
        let issue = self.issue(place, message);
        self.issues.push(issue);
    }

    fn below(&mut self, part: Part, event: Event<'a>, place: Place, depth: usize) -> Result<Built, Issue> {
        self.path.0.push(part);
        let built = self.node(event, place, depth)?;
        self.path.0.pop();
        Ok(built)
    }

    /// Reads the node that begins with an event.
    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Built, Issue> {
        self.grows(place, 1, depth)?;
        if event.tag().is_some() {
            self.tell(
                place,
                "a tag (`!…`) has no meaning in a profile; a text that begins with `!` stands in quotes",
            );
        }
        let anchor = event.anchor_id();
        let built = match event {
            Event::Scalar(text, style, _, _) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    _ => Style::Quoted,
                };
                let text = text.into_owned();
                Built {
                    node: Node {
                        place,
                        content: Content::Scalar { text, style },
                    },
                    size: 1,
                    height: 0,
                }
            }
            Event::Alias(id) => {
                let Some(mut built) = self.anchors.get(&id).cloned() else {
                    return Err(self.issue(place, "the alias stands inside of its own anchor"));
                };
                self.grows(place, built.size, depth + built.height)?;
                // Errors in it are told where the alias stands, which is where the user can tell what it is for.
                built.node.place = place;
                return Ok(built);
            }
            Event::SequenceStart(..) => self.sequence(place, depth)?,
            Event::MappingStart(..) => self.mapping(place, depth)?,
            _ => return Err(self.issue(place, "expected a value")),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, built.clone());
        }
        Ok(built)
    }

    /// Counts nodes, so that aliases of aliases end before memory or the stack do.
    fn grows(&mut self, place: Place, by: usize, depth: usize) -> Result<(), Issue> {
        self.count += by;
        if self.count > MOST_NODES || depth > MOST_DEPTH {
            return Err(Issue::of_document(
                place,
                "the document is too large or too deep here (aliases of aliases?)",
            ));
        }
        Ok(())
    }

    fn sequence(&mut self, place: Place, depth: usize) -> Result<Built, Issue> {
        let (mut items, mut size, mut height) = (Vec::new(), 1, 0);
        loop {
            let (event, at) = self.must_next(place)?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            let item = self.below(Part::Index(items.len()), event, at, depth + 1)?;
            size += item.size;
            height = height.max(item.height + 1);
            items.push(item.node);
        }
        let content = Content::Sequence(items);
        Ok(Built {
            node: Node { place, content },
            size,
            height,
        })
    }

    fn mapping(&mut self, place: Place, depth: usize) -> Result<Built, Issue> {
        let (mut entries, mut size, mut height) = (Vec::new(), 1, 0);
        loop {
            let (event, at) = self.must_next(place)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, at, depth + 1)?.node;
            let (event, at_value) = self.must_next(at)?;
            let Content::Scalar { text, .. } = key.content else {
                self.tell(at, "expected a text as a key");
                self.node(event, at_value, depth + 1)?;
                continue;
            };
            let value = self.below(Part::Key(text.clone()), event, at_value, depth + 1)?;
            size += value.size + 1;
            height = height.max(value.height + 1);
            entries.push((Key { place: at, text }, value.node));
        }
        let content = Content::Mapping(entries);
        Ok(Built {
            node: Node { place, content },
            size,
            height,
        })
    }
}

/// Writes a profile as YAML.
///
/// # Errors
///
/// None is known: every profile can be written.
pub fn to_yaml(profile: &Profile) -> Result<String, Problem> {
    serde_yaml::to_string(profile).map_err(|error| {
        Problem::new(
            FailureKind::Internal,
            format!("cannot write the profile as YAML: {error}"),
        )
    })
}
