//! YAML files as people write them: a tree that knows each value's line, and readers whose errors
//! say what to write instead.

mod fields;
mod hint;
mod tree;

use std::fmt;

pub(crate) use fields::Fields;
pub(crate) use tree::{Key, Node, Value, documents};

/// The largest file read: what etcd takes in one write, so no service document is larger.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Nesting of lists and maps: service documents and packet filters need eight.
pub const MAX_DEPTH: usize = 32;

/// What is wrong in a YAML file, where, and what to write there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the offending text.
    pub message: String,
    /// The corrected text, where it can be told.
    pub hint: Option<String>,
}

impl YamlError {
    pub(crate) fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; write: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for YamlError {}
