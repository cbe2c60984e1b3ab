//! `clienturl`: where a client's calls go: to its node's manager.
//!
//! *What it does*: sdk `pkg/networkservice/common/clienturl`.
//! *Where it stands*: before `connect`.
//! *On Close*: the same, so that what was asked for and never answered is closed as well.

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Call, Connections, Element, Error, Next, Target};

/// See the module.
#[derive(Debug, Clone)]
pub struct ToManager(Target);

impl ToManager {
    /// The element of a process whose manager is there.
    #[must_use]
    pub fn new(manager: Target) -> Self {
        Self(manager)
    }
}

#[async_trait]
impl Element<Connections> for ToManager {
    fn name(&self) -> &'static str {
        "clienturl"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        call.scratch.put(self.0.clone());
        next.request(call, request).await
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        call.scratch.put(self.0.clone());
        next.close(call, connection).await
    }
}
