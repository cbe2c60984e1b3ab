//! The two forms of a document, and the refusal to mix them.

use crate::yaml::{Fields, Key, Node, YamlError};

/// Keys that are written differently in the two forms: Kubernetes form, older form.
const PAIRS: [(&str, &str); 3] = [
    ("source_selector", "sourceSelector"),
    ("routes", "route"),
    ("destination_selector", "destinationSelector"),
];

/// Which form the document has shown itself to be of, by which key.
#[derive(Debug, Default)]
pub(super) struct Form {
    shown: Option<(Style, String, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Snake case, `networkservicemesh.io/v1`.
    Kubernetes,
    /// Camel case, `match:` and `destination:`.
    Older,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes form",
            Self::Older => "older form",
        }
    }
}

impl Form {
    /// Notes that `key` is of one form; fails if the document is of the other.
    pub(super) fn note(&mut self, style: Style, key: &Key) -> Result<(), YamlError> {
        let Some((shown, first, line)) = &self.shown else {
            self.shown = Some((style, key.text.clone(), key.line));
            return Ok(());
        };
        if *shown == style {
            return Ok(());
        }
        let text = &key.text;
        let message = format!(
            "{text:?} is of the {}, but {first:?} in line {line} is of the {}: both forms are mixed",
            style.name(),
            shown.name()
        );
        let error = YamlError::new(key.line, message);
        let right = PAIRS.iter().find_map(|(kubernetes, older)| match style {
            Style::Kubernetes if text == kubernetes => Some(*older),
            Style::Older if text == older => Some(*kubernetes),
            Style::Kubernetes | Style::Older => None,
        });
        Err(match right {
            Some(right) => error.hint(format!("{right}:")),
            None => error,
        })
    }

    /// The value of a key that has a name in each form.
    pub(super) fn either<'a>(
        &mut self,
        fields: &mut Fields<'a>,
        kubernetes: &'static str,
        older: &'static str,
    ) -> Result<Option<&'a Node>, YamlError> {
        let mut found = [
            (fields.entry(kubernetes), Style::Kubernetes),
            (fields.entry(older), Style::Older),
        ]
        .into_iter()
        .filter_map(|(entry, style)| entry.map(|(key, node)| (key, node, style)))
        .collect::<Vec<_>>();
        // In the order of the file, so that the first one counts.
        found.sort_by_key(|(key, ..)| key.line);
        for (key, _, style) in &found {
            self.note(*style, key)?;
        }
        Ok(found.first().map(|(_, node, _)| *node))
    }
}
