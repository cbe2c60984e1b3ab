//! The outer part of a document: version, kind, metadata, spec.

use nsm_api::registry::NetworkService;

use super::form::Form;
use super::rules;
use crate::yaml::{Node, YamlError};

const VERSION: &str = "networkservicemesh.io/v1";
const OLDER_VERSION: &str = "networkservicemesh.io/v1alpha1";
const KIND: &str = "NetworkService";

/// Metadata that Kubernetes knows and a registry does not need.
const OTHER_METADATA: [&str; 13] = [
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "generateName",
];

pub(super) fn read(node: &Node) -> Result<NetworkService, YamlError> {
    let mut fields = node.fields("the document")?;
    check(
        fields.required("apiVersion", VERSION)?,
        "apiVersion",
        &[VERSION, OLDER_VERSION],
    )?;
    check(fields.required("kind", KIND)?, "kind", &[KIND])?;
    let name = name(fields.required("metadata", "{name: my-service}")?)?;
    let mut service = NetworkService {
        name,
        ..Default::default()
    };
    if let Some(spec) = fields.get("spec") {
        read_spec(spec, &mut service)?;
    }
    fields.entry("status");
    fields.finish()?;
    Ok(service)
}

fn check(node: &Node, what: &str, allowed: &[&str]) -> Result<(), YamlError> {
    let text = node.text(what)?;
    if allowed.contains(&text) {
        return Ok(());
    }
    let right = allowed.first().copied().unwrap_or_default();
    Err(YamlError::new(
        node.line,
        format!("{what} is {text:?}, not one this file may hold"),
    )
    .hint(format!("{what}: {right}")))
}

fn name(metadata: &Node) -> Result<String, YamlError> {
    let mut fields = metadata.fields("metadata")?;
    let node = fields.required("name", "my-service")?;
    let name = node.text("metadata.name")?;
    if let Some(c) = name
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || *c == '/')
    {
        return Err(YamlError::new(
            node.line,
            format!("metadata.name {name:?} contains {c:?}"),
        ));
    }
    for other in OTHER_METADATA {
        fields.entry(other);
    }
    fields.finish()?;
    Ok(name.to_owned())
}

fn read_spec(spec: &Node, service: &mut NetworkService) -> Result<(), YamlError> {
    let mut fields = spec.fields("spec")?;
    if let Some(node) = fields.get("name") {
        let name = node.text("spec.name")?;
        if name != service.name {
            let message = format!(
                "spec.name is {name:?}, but metadata.name is {:?}",
                service.name
            );
            return Err(YamlError::new(node.line, message).hint(format!("name: {}", service.name)));
        }
    }
    if let Some(node) = fields.get("payload") {
        service.payload = payload(node)?;
    }
    if let Some(node) = fields.get("matches") {
        let mut form = Form::default();
        for item in node.items("spec.matches")? {
            service.matches.push(rules::read_match(item, &mut form)?);
        }
    }
    if let Some(node) = fields.get("path_ids") {
        for item in node.items("spec.path_ids")? {
            service
                .path_ids
                .push(item.text("an item of spec.path_ids")?.to_owned());
        }
    }
    fields.finish()
}

/// Unknown payloads pass; a known one in another case is a slip.
fn payload(node: &Node) -> Result<String, YamlError> {
    let text = node.text("spec.payload")?;
    let upper = text.to_ascii_uppercase();
    if text != upper && matches!(upper.as_str(), "ETHERNET" | "IP") {
        let message = format!("spec.payload {text:?} must be in capitals");
        return Err(YamlError::new(node.line, message).hint(format!("payload: {upper}")));
    }
    Ok(text.to_owned())
}
