//! Mechanism parameters: a map of texts that each hop reads and writes on.

use std::collections::BTreeSet;

use nsm_api::connection::Mechanism;
use nsm_model::mechanism::{Kernel, Kind, Vxlan, is_remote, keys, overhead, row};

use crate::text;

/// The type in the first line, a parameter `key=value` in each other.
pub fn mechanism(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut lines = text.split('\n');
    let mut mechanism = Mechanism {
        r#type: lines.next().unwrap_or_default().to_owned(),
        ..Default::default()
    };
    for line in lines {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        mechanism
            .parameters
            .insert(key.to_owned(), value.to_owned());
    }
    check(&mechanism);
}

/// What has to hold of any mechanism.
pub(crate) fn check(mechanism: &Mechanism) {
    let kind = Kind::of(mechanism);
    assert_eq!(kind.as_str(), mechanism.r#type);
    assert_eq!(is_remote(&kind), row(&kind).is_some_and(|row| row.remote));
    assert!(overhead(&kind, true) >= overhead(&kind, false));
    match Kernel::parse(mechanism) {
        Ok(view) => {
            let mut written = mechanism.clone();
            view.write(&mut written);
            assert_eq!(Kernel::parse(&written).as_ref(), Ok(&view));
            others_stay(
                mechanism,
                &written,
                &[keys::INODE_URL, keys::NAME, keys::BARE],
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Vxlan::parse(mechanism) {
        Ok(view) => {
            let mut written = mechanism.clone();
            view.write(&mut written);
            assert_eq!(Vxlan::parse(&written).as_ref(), Ok(&view));
            let known = [
                keys::SRC_IP,
                keys::DST_IP,
                keys::SRC_PORT,
                keys::DST_PORT,
                keys::VNI,
                keys::MTU,
                keys::ORIG_SRC_IP,
                keys::ORIG_DST_IP,
            ];
            others_stay(mechanism, &written, &known);
            assert!(view.parity().is_none() || view.src_ip.or(view.orig_src_ip).is_some());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn others_stay(before: &Mechanism, after: &Mechanism, known: &[&str]) {
    let keys: BTreeSet<&String> = before
        .parameters
        .keys()
        .chain(after.parameters.keys())
        .collect();
    for key in keys
        .into_iter()
        .filter(|key| !known.contains(&key.as_str()))
    {
        assert_eq!(before.parameters.get(key), after.parameters.get(key));
    }
}
