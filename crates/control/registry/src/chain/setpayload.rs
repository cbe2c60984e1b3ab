//! `setpayload`: a service that names no payload gets one.
//!
//! *What it does*: sdk `pkg/registry/common/setpayload`: `IP`, or the payload that the service has
//! already, so that an endpoint need not know it.
//! *Where it stands*: before `memory`, whose rules compare payloads.
//! *On Close*: nothing.

use async_trait::async_trait;
use nsm_api::registry::NetworkService;
use nsm_chain::{Call, Element, Error, Next, Services};

use crate::Registry;

/// The payload of a service that names none (upstream `payload.IP`).
pub const DEFAULT_PAYLOAD: &str = "IP";

/// See the module.
#[derive(Debug)]
pub struct SetPayload(Registry);

impl SetPayload {
    /// The element.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(registry)
    }
}

#[async_trait]
impl Element<Services> for SetPayload {
    fn name(&self) -> &'static str {
        "setpayload"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut service: NetworkService,
        next: Next<Services>,
    ) -> Result<NetworkService, Error> {
        if service.payload.is_empty() {
            let known = self.0.get::<Services>(&service.name);
            let known = known
                .as_deref()
                .map_or("", |service| service.payload.as_str());
            service.payload = if known.is_empty() {
                DEFAULT_PAYLOAD
            } else {
                known
            }
            .to_owned();
        }
        next.request(call, service).await
    }
}
