//! Records, and a clock that stands still.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod tokens;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::{Match, NetworkService, NetworkServiceEndpoint};
use nsm_registry::{Clock, Config, Registry, store::memory::MemoryStore};

/// When every test begins.
const START: Duration = Duration::from_secs(1_700_000_000);

#[derive(Debug, Clone, Default)]
pub(crate) struct Manual(Arc<Mutex<Duration>>);

impl Manual {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    /// A time of the wire, in so many seconds from now.
    pub(crate) fn at(&self, seconds: u64) -> Timestamp {
        Timestamp::from(self.now() + Duration::from_secs(seconds))
    }
}

impl Clock for Manual {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + START + *self.0.lock().unwrap()
    }
}

pub(crate) async fn open() -> (Registry, Manual) {
    open_with(Config::default()).await
}

pub(crate) async fn open_with(config: Config) -> (Registry, Manual) {
    let clock = Manual::default();
    let registry = Registry::open(
        Arc::new(MemoryStore::default()),
        Arc::new(clock.clone()),
        config,
    );
    (registry.await.unwrap(), clock)
}

pub(crate) fn endpoint(
    name: &str,
    owner: &str,
    service: &str,
    expires: Timestamp,
) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.to_owned(),
        network_service_names: vec![service.to_owned()],
        url: String::new(),
        expiration_time: MessageField::some(expires),
        path_ids: path_ids(owner),
        ..Default::default()
    }
}

pub(crate) fn query(service: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        network_service_names: vec![service.to_owned()],
        ..Default::default()
    }
}

pub(crate) fn service(name: &str) -> NetworkService {
    NetworkService {
        name: name.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn service_of(name: &str, owner: &str, payload: &str, matches: usize) -> NetworkService {
    NetworkService {
        payload: payload.to_owned(),
        matches: vec![
            Match {
                fallthrough: true,
                ..Default::default()
            };
            matches
        ],
        path_ids: path_ids(owner),
        ..service(name)
    }
}

fn path_ids(owner: &str) -> Vec<String> {
    if owner.is_empty() {
        Vec::new()
    } else {
        vec![owner.to_owned()]
    }
}
