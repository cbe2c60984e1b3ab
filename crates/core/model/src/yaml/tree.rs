//! The tree of a YAML document with a line on every node.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::{MAX_DEPTH, MAX_FILE_BYTES, YamlError, hint};

/// A value and the line where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `plain` if written without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Reads every document of a file that is not empty.
pub(crate) fn documents(source: &str) -> Result<Vec<Node>, YamlError> {
    if source.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes, at most {MAX_FILE_BYTES} are read",
            source.len()
        );
        return Err(YamlError::new(1, message));
    }
    hint::check_characters(source)?;
    let mut reader = Reader {
        source,
        parser: Parser::new_from_str(source),
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        if begins_node(&event) {
            let node = reader.node(event, span, 0)?;
            if !node.is_null() {
                documents.push(node);
            }
        }
    }
    Ok(documents)
}

fn begins_node(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_)
    )
}

struct Reader<'s> {
    source: &'s str,
    parser: Parser<'s, StrInput<'s>>,
}

impl<'s> Reader<'s> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'s>, Span)>, YamlError> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => {
                    return Err(hint::syntax(
                        self.source,
                        error.marker().line(),
                        &error.info(),
                    ));
                }
            }
        }
    }

    fn inner(&mut self, line: usize) -> Result<(Event<'s>, Span), YamlError> {
        self.next()?
            .ok_or_else(|| YamlError::new(line, "the list or map that begins here does not end"))
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let line = span.start.line();
        if depth == MAX_DEPTH {
            return Err(YamlError::new(
                line,
                format!("more than {MAX_DEPTH} levels of nesting"),
            ));
        }
        let (value, anchor) = if let Event::Scalar(text, style, anchor, _) = event {
            let text = text.into_owned();
            (
                Value::Scalar {
                    text,
                    plain: style == ScalarStyle::Plain,
                },
                anchor,
            )
        } else if let Event::SequenceStart(_, anchor, _) = event {
            (self.list(line, depth)?, anchor)
        } else if let Event::MappingStart(_, anchor, _) = event {
            (self.map(line, depth)?, anchor)
        } else {
            // What is left is an alias; it is refused like the anchor it refers to.
            (Value::List(Vec::new()), 1)
        };
        if anchor != 0 {
            return Err(YamlError::new(
                line,
                "anchors (&) and aliases (*) are not read: write the value out",
            ));
        }
        Ok(Node { line, value })
    }

    fn list(&mut self, line: usize, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.inner(line)? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, line: usize, depth: usize) -> Result<Value, YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // A map of many keys is read in no more than its length times a little.
        let mut lines = BTreeMap::<String, usize>::new();
        loop {
            let key = match self.inner(line)? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let Value::Scalar { text, .. } = key.value else {
                return Err(YamlError::new(key.line, "a key must be text"));
            };
            if let Some(first) = lines.insert(text.clone(), key.line) {
                let message = format!("{text:?} is given twice: first in line {first}");
                return Err(YamlError::new(key.line, message));
            }
            let (event, span) = self.inner(line)?;
            let value = self.node(event, span, depth + 1)?;
            entries.push((
                Key {
                    line: key.line,
                    text,
                },
                value,
            ));
        }
    }
}
