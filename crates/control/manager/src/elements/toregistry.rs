//! `connect`: a registration goes on to the registry.
//!
//! *What it does*: sdk `pkg/registry/common/{clienturl,dial,connect}` in one.
//! *Where it stands*: last.
//! *On Close*: the same way, unless it is the end of a lease here.

use async_trait::async_trait;
use nsm_api::registry::{NetworkService, NetworkServiceEndpoint};
use nsm_chain::{Call, Code, Element, Endpoints, Error, Next, Services, Target};
use nsm_rpc::{Transport, client};

/// See the module.
#[derive(Debug, Clone)]
pub struct ToRegistry {
    transport: Transport,
    registry: Target,
}

impl ToRegistry {
    /// The element of a manager whose registry is there.
    #[must_use]
    pub fn new(transport: Transport, registry: Target) -> Self {
        Self {
            transport,
            registry,
        }
    }
}

/// Both kinds go the same way, in their own service.
macro_rules! to_registry {
    ($kind:ty, $item:ty, $service:ident) => {
        #[async_trait]
        impl Element<$kind> for ToRegistry {
            fn name(&self) -> &'static str {
                "connect"
            }

            async fn request(
                &self,
                call: &mut Call,
                item: $item,
                _: Next<$kind>,
            ) -> Result<$item, Error> {
                let hop = self.transport.hop(&self.registry, call.deadline).await?;
                let (path, deadline) = (&mut call.path, call.deadline);
                let answer = client::$service::register(
                    &hop.peer,
                    &hop.tokens,
                    item.clone(),
                    path,
                    deadline,
                )
                .await;
                // Where it broke on the way, another replica may serve: registering twice is as
                // registering once.
                let broke =
                    |error: &Error| error.code == Code::Unavailable && hop.peer.is_retired();
                if !hop.has_renewed(&answer) && !answer.as_ref().is_err_and(broke) {
                    return answer;
                }
                let hop = self.transport.hop(&self.registry, deadline).await?;
                let name = item.name.clone();
                let answer =
                    client::$service::register(&hop.peer, &hop.tokens, item, path, deadline).await;
                hop.at_last(&name, answer)
            }

            async fn close(
                &self,
                call: &mut Call,
                item: $item,
                _: Next<$kind>,
            ) -> Result<(), Error> {
                // The end of a lease: the registry's copy ends by its own clock, and is its owner's
                // to take back, not ours.
                if call.caller.is_none() {
                    return Ok(());
                }
                let hop = self.transport.hop(&self.registry, call.deadline).await?;
                client::$service::unregister(
                    &hop.peer,
                    &hop.tokens,
                    item,
                    &mut call.path,
                    call.deadline,
                )
                .await
            }
        }
    };
}

to_registry!(Services, NetworkService, services);
to_registry!(Endpoints, NetworkServiceEndpoint, endpoints);
