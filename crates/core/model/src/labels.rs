//! Labels and selectors with template values (upstream `tools/matchutils`, Go `text/template`).

use std::collections::BTreeMap;

/// Label names and values, as the messages hold them.
pub type Labels = BTreeMap<String, String>;

/// What Go's templates print for a field that the data lacks.
const NO_VALUE: &str = "<no value>";

/// A selector whose template values are parsed once.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selector {
    wanted: Vec<(String, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    literal: String,
    /// `None` where the literal is all there is: no action in it, or one that we do not know.
    template: Option<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `{{ .key }}`; prints [`NO_VALUE`] if missing.
    Field(String),
    /// `{{ index . "key" }}`; prints nothing if missing.
    Index(String),
}

impl Selector {
    /// Reads a selector. Never fails: a value that is no template of ours is compared literally, as
    /// upstream does with a template that Go cannot parse.
    pub fn parse(wanted: &Labels) -> Self {
        let value = |v: &String| Value {
            literal: v.clone(),
            template: parse_template(v),
        };
        Self {
            wanted: wanted.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        }
    }

    /// Whether `labels` contain what the selector wants; templates are filled from `vars`, the
    /// labels of the connection.
    ///
    /// Two quirks of upstream are kept because its users' files rely on them: fewer labels than
    /// wanted never match, and a wanted "" equals a missing label.
    pub fn matches(&self, labels: &Labels, vars: &Labels) -> bool {
        labels.len() >= self.wanted.len()
            && self
                .wanted
                .iter()
                .all(|(key, value)| value.equals(labels.get(key), vars))
    }

    /// Whether the selector wants nothing, and so matches everything.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }
}

impl Value {
    fn equals(&self, label: Option<&String>, vars: &Labels) -> bool {
        let label = label.map_or("", String::as_str);
        label == self.literal
            || self
                .template
                .as_ref()
                .is_some_and(|pieces| prints(pieces, vars, label))
    }
}

/// Whether the template, filled from `vars`, is `text`. Nothing is put together for that: a service
/// with many fields and a client with long labels would make it larger than the memory.
fn prints(pieces: &[Piece], vars: &Labels, text: &str) -> bool {
    let mut rest = text;
    for piece in pieces {
        let part = match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Field(key) => vars.get(key).map_or(NO_VALUE, String::as_str),
            Piece::Index(key) => vars.get(key).map_or("", String::as_str),
        };
        let Some(behind) = rest.strip_prefix(part) else {
            return false;
        };
        rest = behind;
    }
    rest.is_empty()
}

/// `None` if the text has no action, or one outside the subset: then it is a literal.
fn parse_template(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, tail) = after.split_once("}}")?;
        let (action, trim_before) = match action.strip_prefix('-') {
            Some(inner) if inner.starts_with(char::is_whitespace) => (inner, true),
            Some(_) => return None,
            None => (action, false),
        };
        let (action, trim_after) = match action.strip_suffix('-') {
            Some(inner) if inner.ends_with(char::is_whitespace) => (inner, true),
            Some(_) | None => (action, false),
        };
        let before = if trim_next {
            before.trim_start()
        } else {
            before
        };
        let before = if trim_before {
            before.trim_end()
        } else {
            before
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(parse_action(action.trim())?);
        trim_next = trim_after;
        rest = tail;
    }
    if pieces.is_empty() {
        return None;
    }
    pieces.push(Piece::Text(
        if trim_next { rest.trim_start() } else { rest }.to_owned(),
    ));
    Some(pieces)
}

fn parse_action(action: &str) -> Option<Piece> {
    if let Some(field) = action.strip_prefix('.') {
        let named = !field.is_empty() && !field.starts_with(|c: char| c.is_ascii_digit());
        let word = field.chars().all(|c| c.is_alphanumeric() || c == '_');
        return (named && word).then(|| Piece::Field(field.to_owned()));
    }
    let key = action
        .strip_prefix("index")?
        .trim_start()
        .strip_prefix('.')?
        .trim_start();
    let key = key.strip_prefix('"')?.strip_suffix('"')?;
    (!key.contains(['"', '\\'])).then(|| Piece::Index(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',')
            .filter(|word| !word.is_empty())
            .map(|word| {
                word.split_once('=')
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .unwrap()
            })
            .collect()
    }

    /// Filled in it would have 64 GiB; each label is as long as a message may be.
    #[test]
    fn a_template_is_never_put_together() {
        let long = "x".repeat(1 << 20);
        let vars = Labels::from([("a".to_owned(), long.clone())]);
        let wanted = Labels::from([("k".to_owned(), "{{.a}}".repeat(1 << 16))]);
        let selector = Selector::parse(&wanted);
        assert!(!selector.matches(&Labels::from([("k".to_owned(), long)]), &vars));
    }

    #[test]
    fn subset_with_templates() {
        let vars = "podName=nsc-0,nodeName=n1,app=fw,nsm/x=y";
        for (wanted, has, matches) in [
            ("", "", true),
            ("", "a=b", true),
            ("app=fw", "app=fw", true),
            ("app=fw", "app=fw,b=c", true),
            ("app=fw", "app=vpn", false),
            ("app=fw", "", false),
            ("app=fw,b=c", "app=fw", false),
            ("pod={{ .podName }}", "pod=nsc-0", true),
            ("pod={{.podName}}", "pod=nsc-0", true),
            ("pod={{- .podName -}}", "pod=nsc-0", true),
            ("pod= x {{- .podName -}} y ", "pod= xnsc-0y ", true),
            ("pod={{ .podName }}", "pod=nsc-1", false),
            ("pod=a-{{ .app }}-{{ .nodeName }}", "pod=a-fw-n1", true),
            ("pod={{ index . \"nsm/x\" }}", "pod=y", true),
            // A field that the connection lacks prints Go's words for it.
            ("pod={{ .missing }}", "pod=<no value>", true),
            ("pod={{ .missing }}", "pod=", false),
            ("pod={{ index . \"missing\" }}", "other=1", true),
            // The literal itself always matches, template or not.
            ("pod={{ .podName }}", "pod={{ .podName }}", true),
            // What is outside the subset, or no template at all, is a literal.
            (
                "pod={{ if .a }}b{{ end }}",
                "pod={{ if .a }}b{{ end }}",
                true,
            ),
            ("pod={{ .podName", "pod={{ .podName", true),
            ("pod={{ .a.b }}", "pod=<no value>", false),
            ("pod=}}", "pod=}}", true),
            // "" equals a missing label, but only where the labels are not fewer than wanted.
            ("pod=", "other=1", true),
            ("pod=", "", false),
        ] {
            let selector = Selector::parse(&labels(wanted));
            assert_eq!(
                selector.matches(&labels(has), &labels(vars)),
                matches,
                "{wanted:?} in {has:?}"
            );
        }
    }
}
