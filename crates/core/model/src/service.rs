//! NetworkService documents in YAML: the Kubernetes form, in snake_case, and the older camelCase
//! form of published articles and tutorials. Read strictly: what would be ignored is refused.

mod document;
mod form;
mod rules;
mod write;

use std::collections::BTreeSet;

use nsm_api::registry::NetworkService;

pub use crate::yaml::YamlError;
pub use write::to_yaml;

/// Reads every NetworkService of a file.
///
/// An error names the line and, where it can be told, the corrected text. Documents of another
/// kind, unknown keys, wrong types, a key given twice, a service given twice, both forms mixed in
/// one document, and a file without any service are refused.
pub fn load_yaml(source: &str) -> Result<Vec<NetworkService>, YamlError> {
    let documents = crate::yaml::documents(source)?;
    if documents.is_empty() {
        return Err(YamlError::new(1, "the file holds no NetworkService"));
    }
    let mut services: Vec<NetworkService> = Vec::new();
    let mut names = BTreeSet::new();
    for document in &documents {
        let service = document::read(document)?;
        if !names.insert(service.name.clone()) {
            let message = format!(
                "NetworkService {:?} is given twice in this file",
                service.name
            );
            return Err(YamlError::new(document.line, message));
        }
        services.push(service);
    }
    Ok(services)
}
