//! Network service URLs: annotations and settings of whoever deploys a workload.

use nsm_model::{
    mechanism::{Kernel, Kind, LOCAL},
    nsurl::NsUrl,
};

use crate::text;

/// A URL, or a list of them with commas.
pub fn nsurl(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<NsUrl>() {
        Ok(url) => check(text, url),
        Err(error) => {
            assert!(["scheme", "service", "interface", "labels"].contains(&error.field));
            assert_eq!(error.url, text);
            assert!(!error.to_string().is_empty());
        }
    }
    let items = || text.split(',').map(str::trim).filter(|i| !i.is_empty());
    let one_by_one: Result<Vec<NsUrl>, _> = items().map(str::parse).collect();
    assert_eq!(NsUrl::parse_list(text), one_by_one);
}

fn check(text: &str, url: NsUrl) {
    let printed = url.to_string();
    // A byte becomes three at most, and a label may get its '='.
    assert!(printed.len() <= 4 * text.len(), "{printed}");
    assert_eq!(printed.parse().as_ref(), Ok(&url), "{printed}");
    assert!(!url.service.name.is_empty());
    assert_ne!(url.service.domain.as_deref(), Some(""));
    assert!(!url.labels.contains_key(""));
    let wanted = url.interface.clone();
    let (kind, labels) = (url.mechanism.clone(), url.labels.clone());
    let (mechanism, service, given) = url.into_request_parts();
    assert_eq!(Kind::of(&mechanism), kind);
    assert_eq!(mechanism.cls, LOCAL);
    assert!(!service.contains(['/', '?']) && !service.contains(char::is_whitespace));
    assert_eq!(given, labels);
    if kind == Kind::Kernel {
        assert_eq!(Kernel::parse(&mechanism).unwrap().name, wanted);
    }
}
