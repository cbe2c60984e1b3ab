//! The roles file.

use super::{MAX_PATTERNS, MAX_SERVICES, Pattern, Role, Roles, Services};
use crate::{
    spiffe::TrustDomain,
    yaml::{Fields, Key, Node, Value, YamlError, documents},
};

pub(super) fn load(source: &str, own: &TrustDomain) -> Result<Roles, YamlError> {
    let documents = documents(source)?;
    let [document] = documents.as_slice() else {
        let line = documents.get(1).map_or(1, |second| second.line);
        let message = format!(
            "a roles file holds one document, this one holds {}",
            documents.len()
        );
        return Err(YamlError::new(line, message).hint("operators: [/operator/**]"));
    };
    let mut fields = document.fields("the roles file")?;
    let mut roles = Roles::standard(own);
    for role in [
        Role::Manager,
        Role::Forwarder,
        Role::Registry,
        Role::Operator,
    ] {
        if let Some((key, node)) = fields.entry(role.key()) {
            roles.held.insert(role, patterns(key, role.key(), node)?);
        }
    }
    roles.clients = services(&mut fields, "clients")?;
    roles.endpoints = services(&mut fields, "endpoints")?;
    fields.finish()?;
    for role in [Role::Manager, Role::Forwarder, Role::Registry] {
        // A mesh without hops carries nothing: whoever writes that means something else.
        if roles.held.get(&role).is_none_or(Vec::is_empty) {
            let line = document.line;
            let message = format!("{}: nobody could be a {role}", role.key());
            return Err(YamlError::new(line, message).hint(format!("{}: [/{role}-*]", role.key())));
        }
    }
    Ok(roles)
}

/// The map of one kind, by service.
fn services(fields: &mut Fields<'_>, what: &'static str) -> Result<Services, YamlError> {
    let Some((key, node)) = fields.entry(what) else {
        return Ok(Services::default());
    };
    let example = format!("{what}: {{my-service: [/ns/shop/**]}}");
    if node.is_null() {
        let message = format!("{what} is empty: leave it out where everybody may");
        return Err(YamlError::new(key.line, message).hint(example));
    }
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "{what} must be a map from services to patterns, but is {}",
            node.describe()
        );
        return Err(YamlError::new(node.line, message).hint(example));
    };
    if entries.len() > MAX_SERVICES {
        let message = format!(
            "{what} names {} services, at most {MAX_SERVICES} are read",
            entries.len()
        );
        return Err(YamlError::new(key.line, message));
    }
    let one = |(service, node): &(Key, Node)| {
        let field = format!("{what}.{}", service.text);
        Ok((service.text.clone(), patterns(service, &field, node)?))
    };
    let read = entries.iter().map(one);
    Ok(Services(read.collect::<Result<_, YamlError>>()?))
}

/// A list of patterns, or one by itself; `[]` is nobody.
fn patterns(key: &Key, field: &str, node: &Node) -> Result<Vec<Pattern>, YamlError> {
    if node.is_null() {
        let message = format!("{field} is empty: is it nobody, or left open?");
        return Err(YamlError::new(key.line, message).hint("[] for nobody"));
    }
    let items = match &node.value {
        Value::Scalar { .. } => std::slice::from_ref(node),
        Value::List(items) => items.as_slice(),
        Value::Map(_) => {
            let message = format!("{field} must be a list of patterns, but is a map");
            return Err(YamlError::new(node.line, message).hint("[/ns/shop/**]"));
        }
    };
    if items.len() > MAX_PATTERNS {
        let message = format!(
            "{field} has {} patterns, at most {MAX_PATTERNS} are read",
            items.len()
        );
        return Err(YamlError::new(key.line, message));
    }
    items.iter().map(|item| pattern(field, item)).collect()
}

fn pattern(field: &str, node: &Node) -> Result<Pattern, YamlError> {
    let Value::Scalar { text, .. } = &node.value else {
        let message = format!("{field} must hold patterns, but holds {}", node.describe());
        return Err(YamlError::new(node.line, message).hint("/ns/shop/**"));
    };
    text.parse().map_err(|error| {
        let wrong = YamlError::new(node.line, format!("{field}: pattern {text:?} {error}"));
        let word = |c: char| c.is_ascii_alphanumeric() || "/.-_*".contains(c);
        let bare = !text.is_empty() && !text.starts_with('/') && text.chars().all(word);
        if bare {
            wrong.hint(format!("/{text}"))
        } else {
            wrong
        }
    })
}
