//! `setregistrationtime`: when an endpoint was registered first.
//!
//! *What it does*: sdk `pkg/registry/common/setregistrationtime`: keeps the time that is stored,
//! or the one that comes with the endpoint; else it is now.
//! *Where it stands*: before `memory`, which stores it.
//! *On Close*: nothing.

use async_trait::async_trait;
use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Call, Element, Endpoints, Error, Next};

use crate::{Record as _, Registry};

/// See the module.
#[derive(Debug)]
pub struct SetRegistrationTime(Registry);

impl SetRegistrationTime {
    /// The element.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(registry)
    }

    fn first(&self, endpoint: &NetworkServiceEndpoint) -> Timestamp {
        let now = self.0.now();
        let known = self.0.get::<Endpoints>(&endpoint.name);
        let known =
            known.filter(|known| Endpoints::expires(known).is_none_or(|expires| expires > now));
        let known = known.and_then(|known| known.initial_registration_time.as_option().cloned());
        known
            .or_else(|| endpoint.initial_registration_time.as_option().cloned())
            .unwrap_or_else(|| Timestamp::from(now))
    }
}

#[async_trait]
impl Element<Endpoints> for SetRegistrationTime {
    fn name(&self) -> &'static str {
        "setregistrationtime"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        endpoint.initial_registration_time = MessageField::some(self.first(&endpoint));
        next.request(call, endpoint).await
    }
}
