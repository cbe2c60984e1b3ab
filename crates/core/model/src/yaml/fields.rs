//! Readers of nodes: each takes what it wants or says what stands there instead.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Key, Node, Value, YamlError, hint};

impl Node {
    /// Whether nothing is written there.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What the node is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "empty".to_owned(),
            Value::Scalar { text, .. } => format!("the text {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// The entries of a map.
    pub(crate) fn fields(&self, what: &'static str) -> Result<Fields<'_>, YamlError> {
        let Value::Map(entries) = &self.value else {
            let error = YamlError::new(
                self.line,
                format!("{what} must be a map, but is {}", self.describe()),
            );
            return Err(match &self.value {
                Value::Scalar { text, .. } => with(error, hint::map_of(text)),
                Value::List(_) | Value::Map(_) => error,
            });
        };
        Ok(Fields {
            line: self.line,
            what,
            entries,
            asked: Vec::new(),
        })
    }

    /// The items of a list; nothing written is an empty one.
    pub(crate) fn items(&self, what: &str) -> Result<&[Self], YamlError> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ if self.is_null() => Ok(&[]),
            Value::Map(entries) => {
                let message = format!("{what} must be a list, but is a map");
                let first = entries.first().map_or("...", |(key, _)| key.text.as_str());
                Err(YamlError::new(self.line, message).hint(format!("- {first}:")))
            }
            Value::Scalar { text, .. } => {
                let message = format!("{what} must be a list, but is {}", self.describe());
                Err(YamlError::new(self.line, message).hint(format!("[{text}]")))
            }
        }
    }

    /// A text; a plain number or boolean is none.
    pub(crate) fn text(&self, what: &str) -> Result<&str, YamlError> {
        let Value::Scalar { text, plain } = &self.value else {
            return Err(YamlError::new(
                self.line,
                format!("{what} must be text, but is {}", self.describe()),
            ));
        };
        if self.is_null() {
            return Err(YamlError::new(self.line, format!("{what} is empty")));
        }
        if let Some(kind) = kind_of_plain(text).filter(|_| *plain) {
            let message = format!("{what} must be text, but {text} is a {kind}");
            return Err(YamlError::new(self.line, message).hint(format!("\"{text}\"")));
        }
        Ok(text)
    }

    /// Labels; nothing written are none.
    pub(crate) fn labels(&self, what: &'static str) -> Result<BTreeMap<String, String>, YamlError> {
        if self.is_null() {
            return Ok(BTreeMap::new());
        }
        let fields = self.fields(what)?;
        let mut labels = BTreeMap::new();
        for (key, value) in fields.entries {
            if value.is_null() {
                let message = format!("label {:?} of {what} has no value", key.text);
                let error = YamlError::new(key.line, message);
                return Err(match hint::spaced(&key.text) {
                    Some(right) => error.hint(right),
                    None => error.hint(format!("{}: \"\"", key.text)),
                });
            }
            let text = value
                .text(&format!("label {:?} of {what}", key.text))
                .map_err(|error| {
                    let right = error
                        .hint
                        .as_ref()
                        .map(|hint| format!("{}: {hint}", key.text));
                    YamlError {
                        hint: right,
                        ..error
                    }
                })?;
            labels.insert(key.text.clone(), text.to_owned());
        }
        Ok(labels)
    }

    /// A number.
    pub(crate) fn number<T: FromStr>(&self, what: &str, range: &str) -> Result<T, YamlError> {
        if let Value::Scalar { text, plain } = &self.value {
            match text.parse() {
                Ok(number) if *plain => return Ok(number),
                Ok(_) => {
                    let message = format!("{what} must be a number, but is the text {text:?}");
                    return Err(YamlError::new(self.line, message).hint(text.as_str()));
                }
                Err(_) => {}
            }
        }
        Err(YamlError::new(
            self.line,
            format!("{what} must be {range}, but is {}", self.describe()),
        ))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, what: &str) -> Result<bool, YamlError> {
        let Value::Scalar { text, plain } = &self.value else {
            return Err(YamlError::new(
                self.line,
                format!("{what} must be true or false, but is {}", self.describe()),
            ));
        };
        match (text.as_str(), plain) {
            ("true", true) => Ok(true),
            ("false", true) => Ok(false),
            _ => {
                let message = format!("{what} must be true or false, but is {}", self.describe());
                let lower = text.to_lowercase();
                let known = matches!(lower.as_str(), "true" | "false").then_some(lower);
                Err(with(YamlError::new(self.line, message), known))
            }
        }
    }
}

fn with(error: YamlError, hint: Option<String>) -> YamlError {
    YamlError { hint, ..error }
}

/// What other YAML readers, Kubernetes' among them, make of an unquoted word that is no text.
fn kind_of_plain(text: &str) -> Option<&'static str> {
    if matches!(
        text.to_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off"
    ) {
        return Some("boolean");
    }
    is_number(text).then_some("number")
}

/// Whether YAML's core schema reads a number there (YAML 1.2.2, section 10.3.2).
fn is_number(text: &str) -> bool {
    let digits = |rest: Option<&str>, base| {
        rest.is_some_and(|r| !r.is_empty() && r.chars().all(|c| c.is_digit(base)))
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    digits(text.strip_prefix("0x"), 16)
        || digits(text.strip_prefix("0o"), 8)
        || matches!(unsigned.to_lowercase().as_str(), ".inf" | ".nan")
        || (decimal && unsigned.parse::<f64>().is_ok())
}

/// The entries of one map while it is read: what nobody asked for is an unknown key.
pub(crate) struct Fields<'a> {
    pub(crate) line: usize,
    what: &'static str,
    pub(crate) entries: &'a [(Key, Node)],
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The entry `name`, perhaps an empty one.
    pub(crate) fn entry(&mut self, name: &'static str) -> Option<(&'a Key, &'a Node)> {
        self.asked.push(name);
        self.entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(key, node)| (key, node))
    }

    /// The value of `name`, if something is written there.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'a Node> {
        self.entry(name)
            .map(|(_, node)| node)
            .filter(|node| !node.is_null())
    }

    /// The value of `name`, which must be there.
    pub(crate) fn required(
        &mut self,
        name: &'static str,
        example: &str,
    ) -> Result<&'a Node, YamlError> {
        let entry = self.entry(name);
        let line = entry.map_or(self.line, |(key, _)| key.line);
        let what = self.what;
        entry
            .map(|(_, node)| node)
            .filter(|node| !node.is_null())
            .ok_or_else(|| {
                // A mistyped name explains a missing one better than the missing one does.
                let typed = self
                    .entries
                    .iter()
                    .find(|(k, _)| hint::nearest(&k.text, &[name]).is_some() && k.text != name);
                match typed {
                    Some((key, _)) => unknown(what, key, &[name]),
                    None => YamlError::new(line, format!("{what} has no {name:?}"))
                        .hint(format!("{name}: {example}")),
                }
            })
    }

    /// Fails on the first entry that was not asked for.
    pub(crate) fn finish(self) -> Result<(), YamlError> {
        match self
            .entries
            .iter()
            .find(|(key, _)| !self.asked.contains(&key.text.as_str()))
        {
            None => Ok(()),
            Some((key, _)) => Err(unknown(self.what, key, &self.asked)),
        }
    }
}

fn unknown(what: &str, key: &Key, known: &[&str]) -> YamlError {
    let text = &key.text;
    let error = YamlError::new(
        key.line,
        format!(
            "{what} has an unknown key {text:?} (known: {})",
            known.join(", ")
        ),
    );
    with(
        error,
        hint::nearest(text, known).map(|right| format!("{right}:")),
    )
}
