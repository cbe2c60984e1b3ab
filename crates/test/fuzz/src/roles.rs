//! The roles file: who may be what.

use nsm_model::{
    roles::{Pattern, Role, Roles},
    spiffe::SpiffeId,
};

use crate::{fixtures, text, yaml};

/// Some who ask: of the own trust domain, of another one.
const ASKED: &[&str] = &[
    "spiffe://nsm.test/manager",
    "spiffe://nsm.test/forwarder/node-1",
    "spiffe://nsm.test/ns/shop/pod/web-1",
    "spiffe://other.test/manager",
    "spiffe://nsm.test",
];

/// A roles file, or one pattern.
pub fn yaml_roles(data: &[u8]) {
    let Some(source) = text(data) else { return };
    if let Ok(pattern) = source.parse::<Pattern>() {
        one(source, &pattern);
    }
    let own = fixtures::domain();
    let roles = match Roles::load_yaml(source, &own) {
        Ok(roles) => roles,
        Err(error) => return yaml::check(&error, source),
    };
    assert_eq!(Roles::load_yaml(source, &own).as_ref(), Ok(&roles));
    for id in ids() {
        if let Some(role) = roles.hop(&id) {
            assert!(roles.holds(role, &id));
            assert!(matches!(role, Role::Manager | Role::Forwarder));
        }
        // Nobody from elsewhere is anything unless the file spells the domain out.
        if !id.member_of(&own) && !source.contains("other.test") {
            assert!(!roles.client_of("a", &id) && !roles.endpoint_of("a", &id));
            assert!(roles.hop(&id).is_none() && !roles.passes_on("a", &id));
        }
    }
}

fn ids() -> impl Iterator<Item = SpiffeId> {
    ASKED.iter().map(|text| text.parse().unwrap())
}

fn one(text: &str, pattern: &Pattern) {
    assert_eq!(pattern.to_string(), text);
    assert_eq!(pattern.to_string().parse().as_ref(), Ok(pattern));
    let own = fixtures::domain();
    for id in ids() {
        let named = text.starts_with("spiffe://");
        let whole = if named {
            text.to_owned()
        } else {
            format!("spiffe://{own}{text}")
        };
        if !text.contains('*') {
            assert_eq!(pattern.matches(&id, &own), id.as_str() == whole);
        } else if pattern.matches(&id, &own) {
            let head = whole.split('*').next().unwrap();
            assert!(id.as_str().starts_with(head), "{id} {text}");
        }
    }
}
