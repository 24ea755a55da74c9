//! YAML text as a tree that knows where each node stands. Keeps both of two equal keys and the
//! text of a scalar as written, which a loader of values drops. Knows no key of ours.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr::{Scalar, ScalarStyle, Tag};
use saphyr_parser::{Event, Parser, ScanError, Span};

use super::fault::Position;

/// Deeper nesting is refused: nothing here needs it, and reading it back is recursive.
const MAX_DEPTH: usize = 64;
/// More nodes than this are refused: aliases of aliases grow without bound.
const MAX_NODES: usize = 100_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `plain`: not in quotes and not tagged as text, so it may be a number, a boolean or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What the scalar means by YAML's core schema; `None` for a list or a mapping.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.kind {
            Kind::Scalar { text, plain: false } => Some(Scalar::String(text.into())),
            Kind::Scalar { text, plain: true } if text.is_empty() => Some(Scalar::Null),
            Kind::Scalar { text, plain: true } => Some(Scalar::parse_from_cow(text.into())),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether it says nothing: `key:`, `~`, `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.scalar(), Some(Scalar::Null))
    }

    /// What it is, for a message that says what it should have been.
    pub(super) fn described(&self) -> &'static str {
        match (&self.kind, self.scalar()) {
            (Kind::List(_), _) => "a list",
            (Kind::Map(_), _) => "a mapping",
            (_, Some(Scalar::Null)) => "nothing",
            (_, Some(Scalar::Boolean(_))) => "true or false",
            (_, Some(Scalar::Integer(_) | Scalar::FloatingPoint(_))) => "a number",
            (_, Some(Scalar::String(_)) | None) => "text",
        }
    }

    fn count(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::count).sum(),
            Kind::Map(pairs) => pairs.iter().map(|(k, v)| k.count() + v.count()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Kind::Map(pairs) => pairs
                .iter()
                .map(|(key, value)| key.depth().max(value.depth()))
                .max()
                .unwrap_or(0),
        }
    }
}

/// Reads the one document in `text`; `None` if there is none (an empty file).
///
/// # Errors
/// The first place that is not YAML: the text behind it has no meaning any more.
pub(super) fn parse(text: &str) -> Result<Option<Node>, (Position, String)> {
    let mut tree = Tree {
        // What the text itself says is never too much, only what its aliases make of it.
        most: MAX_NODES.max(text.len()),
        ..Tree::default()
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_fault(&error))?;
        let at = position(&span);
        tree.take(event, at).map_err(|message| (at, message))?;
    }
    Ok(tree.root)
}

fn scan_fault(error: &ScanError) -> (Position, String) {
    let at = Position {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    (at, format!("not YAML: {}", error.info()))
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// A tree that grows event by event.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    most: usize,
}

/// A list or mapping that has begun and not ended.
struct Open {
    node: Node,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<Node>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(text, style, tag.as_deref());
                self.add(Node { at, kind }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Kind::List(Vec::new()), at, anchor),
            Event::MappingStart(anchor, _) => self.begin(Kind::Map(Vec::new()), at, anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.add(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let known = known.ok_or("the anchor is not known here")?;
                self.check_depth(known.depth())?;
                self.nodes += known.count();
                let kind = known.kind.clone();
                self.add(Node { at, kind }, 0)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document: write everything in one".into())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, kind: Kind, at: Position, anchor: usize) -> Result<(), String> {
        let node = Node { at, kind };
        let key = None;
        self.open.push(Open { node, anchor, key });
        self.check_depth(0)
    }

    fn check_depth(&self, below: usize) -> Result<(), String> {
        if self.open.len() + below > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > self.most {
            return Err(format!("more than {} values", self.most));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.node.kind, parent.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(pairs), Some(key)) => pairs.push((key, node)),
            (Kind::Map(_), None) => parent.key = Some(node),
            (Kind::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    Kind::Scalar {
        text: text.into_owned(),
        plain: style == ScalarStyle::Plain && !is_text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) -> String {
        let (at, message) = parse(text).unwrap_err();
        format!("{}:{}: {message}", at.line, at.column)
    }

    #[test]
    fn both_of_two_equal_keys_are_kept_with_their_places() {
        let root = parse("a: 1\nb:\n  - x\na: 2\n").unwrap().unwrap();
        let Kind::Map(pairs) = root.kind else {
            panic!("not a mapping")
        };
        let lines: Vec<_> = pairs.iter().map(|(key, _)| key.at.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }

    #[test]
    fn text_that_is_not_yaml_is_refused_with_its_place() {
        assert!(refused("a: [1\nb: 2\n").starts_with("2:"));
        assert_eq!(
            refused("a: 1\n---\nb: 2\n"),
            "2:1: a second document: write everything in one"
        );
    }

    #[test]
    fn aliases_that_multiply_are_refused_before_they_fill_the_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let last = level - 1;
            let row = vec![format!("*a{last}"); 10].join(", ");
            text += &format!("a{level}: &a{level} [{row}]\n");
        }
        assert!(refused(&text).ends_with("more than 100000 values"));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let text = "[".repeat(100) + &"]".repeat(100);
        assert!(refused(&text).contains("nested deeper than 64 levels"));
    }

    #[test]
    fn a_file_of_comments_is_no_document() {
        assert!(parse("# nothing\n").unwrap().is_none());
    }
}
