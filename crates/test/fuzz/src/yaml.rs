//! YAML files: services and packet filters.

use nsm_model::{
    filter::{FilterRules, MAX_ITEMS, MAX_RULES},
    service,
    yaml::YamlError,
};

use crate::text;

/// An error's line is one of the file's, or the one behind its last.
pub(crate) fn check(error: &YamlError, source: &str) {
    assert!(!error.message.is_empty());
    let lines = source.split(['\n', '\r']).count();
    assert!((1..=lines + 1).contains(&error.line), "{error}");
}

/// Services, written out and read again.
pub fn yaml_service(data: &[u8]) {
    let Some(source) = text(data) else { return };
    let services = match service::load_yaml(source) {
        Ok(services) => services,
        Err(error) => return check(&error, source),
    };
    assert!(!services.is_empty());
    for (index, one) in services.iter().enumerate() {
        assert!(!one.name.is_empty() && !one.name.contains(['/', ' ', '\n']));
        assert!(services[..index].iter().all(|other| other.name != one.name));
        let written = service::to_yaml(one).unwrap();
        let again = service::load_yaml(&written);
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(one)), "{written}");
    }
}

/// The rules of a packet filter, turned into the kernel's.
pub fn yaml_filter(data: &[u8]) {
    let Some(source) = text(data) else { return };
    let filter = match FilterRules::load_yaml(source) {
        Ok(filter) => filter,
        Err(error) => return check(&error, source),
    };
    assert!(filter.rules.len() <= MAX_RULES);
    for rule in &filter.rules {
        assert!(rule.from.len().max(rule.to.len()).max(rule.ports.len()) <= MAX_ITEMS);
        assert!(
            rule.from
                .iter()
                .chain(&rule.to)
                .all(|net| net.trunc() == *net)
        );
        assert!(rule.ports.is_empty() || rule.protocol.has_ports());
        assert!(rule.ports.iter().all(|p| 0 < p.first && p.first <= p.last));
    }
    let (rules, sets) = nsm_kernel::decoders::lowered(&filter);
    // Two families, and what stands there always.
    assert!(rules <= 2 * filter.rules.len() + 32);
    assert!(sets <= 8 * filter.rules.len());
}
