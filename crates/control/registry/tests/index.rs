//! The index answers what a scan of everything would.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::{NetworkServiceEndpoint, NetworkServiceLabels};
use nsm_chain::Endpoints;
use nsm_registry::{Record as _, index::Index};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put(NetworkServiceEndpoint),
    Remove(String),
    Find(NetworkServiceEndpoint, Option<u8>),
    Ended(u8),
}

fn labels() -> impl Strategy<Value = BTreeMap<String, NetworkServiceLabels>> {
    let labels =
        prop::collection::btree_map("[xy]", "[01]", 0..3).prop_map(|labels| NetworkServiceLabels {
            labels,
            ..Default::default()
        });
    prop::collection::btree_map("s[0-3]", labels, 0..3)
}

/// Few values, so that records often share them.
fn record(name: &'static str) -> impl Strategy<Value = NetworkServiceEndpoint> {
    let services = prop::collection::vec("s[0-3]", 0..3);
    let url = prop_oneof![Just(String::new()), "tcp://h:[0-2]".prop_map(String::from)];
    let expires = prop::option::of(0_i64..8);
    (name, services, labels(), url, expires).prop_map(|(name, services, labels, url, expires)| {
        NetworkServiceEndpoint {
            name,
            network_service_names: services,
            network_service_labels: labels,
            url,
            expiration_time: expires.map_or_else(MessageField::none, |at| {
                MessageField::some(Timestamp::from_unix_secs(at))
            }),
            ..Default::default()
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => record("n[0-9]").prop_map(Step::Put),
        1 => "n[0-9]".prop_map(Step::Remove),
        4 => (record("(n[0-9])?"), prop::option::of(0_u8..8)).prop_map(|(query, now)| Step::Find(query, now)),
        1 => (0_u8..8).prop_map(Step::Ended),
    ]
}

fn at(seconds: u8) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds.into())
}

fn names<'a>(records: impl Iterator<Item = &'a NetworkServiceEndpoint>) -> Vec<String> {
    let mut names: Vec<String> = records.map(|record| record.name.clone()).collect();
    names.sort_unstable();
    names
}

proptest! {
    #[test]
    fn the_index_equals_a_scan(steps in prop::collection::vec(step(), 1..80)) {
        let mut index = Index::<Endpoints>::default();
        let mut all: BTreeMap<String, NetworkServiceEndpoint> = BTreeMap::new();
        for (revision, step) in (0..).zip(steps) {
            match step {
                Step::Put(record) => {
                    let old = index.put(Arc::new(record.clone()), revision);
                    let known = all.insert(record.name.clone(), record);
                    prop_assert_eq!(old.as_deref(), known.as_ref());
                }
                Step::Remove(name) => {
                    let old = index.remove(&name);
                    let known = all.remove(&name);
                    prop_assert_eq!(old.as_deref(), known.as_ref());
                }
                Step::Find(query, now) => {
                    let now = now.map(at);
                    let lives = |record: &&NetworkServiceEndpoint| {
                        now.is_none_or(|now| Endpoints::expires(record).is_none_or(|ends| ends > now))
                    };
                    let scan = all.values().filter(|record| Endpoints::matches(&query, record)).filter(lives);
                    prop_assert_eq!(names(index.find(&query, now).iter().map(|found| &**found)), names(scan));
                }
                Step::Ended(now) => {
                    let ended = index.ended(at(now), usize::MAX);
                    let scan = all.values().filter(|record| Endpoints::expires(record).is_some_and(|ends| ends <= at(now)));
                    prop_assert_eq!(names(ended.iter().map(|stored| &*stored.item)), names(scan));
                    prop_assert_eq!(index.next_expiry(), all.values().filter_map(Endpoints::expires).min());
                }
            }
            prop_assert_eq!(index.len(), all.len());
        }
    }
}
