//! Matches and routes.

use nsm_api::registry::{Destination, Match, Metadata};

use super::form::{Form, Style};
use crate::yaml::{Fields, Node, YamlError};

/// One item of `matches`.
pub(super) fn read_match(item: &Node, form: &mut Form) -> Result<Match, YamlError> {
    let mut fields = unwrapped(item, "an item of matches", "match", form)?;
    let mut rule = Match::default();
    if let Some(node) = form.either(&mut fields, "source_selector", "sourceSelector")? {
        rule.source_selector = node.labels("the source selector")?;
    }
    for item in routes(&mut fields, form)? {
        rule.routes.push(read_route(item, form)?);
    }
    if let Some(node) = fields.get("fallthrough") {
        rule.fallthrough = node.boolean("fallthrough")?;
    }
    if let Some(node) = fields.get("metadata") {
        rule.metadata = read_metadata(node)?.into();
    }
    fields.finish()?;
    Ok(rule)
}

/// `routes:` in both forms; `route:` in the older one alone.
fn routes<'a>(fields: &mut Fields<'a>, form: &mut Form) -> Result<&'a [Node], YamlError> {
    let plural = fields.entry("routes");
    let Some((key, node)) = fields.entry("route") else {
        return plural.map_or(Ok(&[]), |(_, node)| node.items("routes"));
    };
    if let Some((other, _)) = plural {
        let message = format!(
            "\"route\" and \"routes\" (line {}) are the same: give one of them",
            other.line
        );
        return Err(YamlError::new(key.line, message));
    }
    form.note(Style::Older, key)?;
    node.items("route")
}

/// One item of `routes`.
fn read_route(item: &Node, form: &mut Form) -> Result<Destination, YamlError> {
    let mut fields = unwrapped(item, "an item of routes", "destination", form)?;
    let mut route = Destination::default();
    if let Some(node) = form.either(&mut fields, "destination_selector", "destinationSelector")? {
        route.destination_selector = node.labels("the destination selector")?;
    }
    if let Some(node) = fields.get("weight") {
        route.weight = node.number("weight", "a whole number from 0 to 4294967295")?;
    }
    fields.finish()?;
    Ok(route)
}

fn read_metadata(node: &Node) -> Result<Metadata, YamlError> {
    let mut fields = node.fields("metadata of a match")?;
    let labels = fields
        .get("labels")
        .map_or(Ok(Default::default()), |n| n.labels("metadata.labels"))?;
    fields.finish()?;
    Ok(Metadata {
        labels,
        ..Default::default()
    })
}

/// The fields of an item that the older form wraps in `wrapper:`. Published files leave the wrapper
/// empty and write the fields beside it; both ways are read, not both at once.
fn unwrapped<'a>(
    item: &'a Node,
    what: &'static str,
    wrapper: &'static str,
    form: &mut Form,
) -> Result<Fields<'a>, YamlError> {
    let mut fields = item.fields(what)?;
    let Some((key, node)) = fields.entry(wrapper) else {
        return Ok(fields);
    };
    form.note(Style::Older, key)?;
    if node.is_null() {
        return Ok(fields);
    }
    match fields.entries.iter().find(|(k, _)| k.text != wrapper) {
        None => node.fields(what),
        Some((beside, _)) => {
            let message = format!(
                "{:?} stands beside {wrapper:?}, which has fields of its own",
                beside.text
            );
            Err(YamlError::new(beside.line, message)
                .hint(format!("{:?} indented under {wrapper}:", beside.text)))
        }
    }
}
