//! `expire`: an endpoint that is not registered again ends.
//!
//! *What it does*: sdk `pkg/registry/common/expire`: writes `expiration_time`, the earliest of the
//! tokens' expiries, now and the longest life, and what the endpoint asks for itself (a time that
//! has passed is an earlier answer's, and asks for nothing). The registry ends the record; this
//! element then lets `begin` forget its name.
//! *Where it stands*: after `begin`, before `memory`, which stores the time.
//! *On Close*: its timer ends with the item.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use buffa::MessageField;
use buffa_types::google::protobuf::Timestamp;
use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::{Call, Element, Endpoints, Error, Next, Tasks, begin::Factory};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Record as _, Registry, record::time};

/// How long after an endpoint's end its name is let go: by then the registry has ended it.
const AFTER: Duration = Duration::from_secs(2);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub struct Expire {
    registry: Registry,
    tasks: Tasks,
    lifetime: Duration,
}

/// The running timer: dropping it stops it.
struct Timer(#[allow(dead_code, reason = "held for its drop")] DropGuard);

impl Expire {
    /// The element; `tasks` owns the timers.
    #[must_use]
    pub fn new(registry: Registry, tasks: Tasks, lifetime: Duration) -> Self {
        Self {
            registry,
            tasks,
            lifetime,
        }
    }

    fn end(&self, call: &Call, endpoint: &NetworkServiceEndpoint) -> SystemTime {
        let now = self.registry.now();
        let longest = now.checked_add(self.lifetime).unwrap_or(now);
        let asked = Endpoints::expires(endpoint).filter(|asked| *asked > now);
        let tokens = call
            .path
            .path_segments
            .iter()
            .filter_map(|segment| segment.expires.as_option().map(time));
        let token = call.token.as_ref().map(|token| token.expires);
        tokens
            .chain(token)
            .chain(asked)
            .fold(longest, SystemTime::min)
    }

    fn start(&self, call: &Call, endpoint: &NetworkServiceEndpoint) -> Result<(), Error> {
        let Some(end) = Endpoints::expires(endpoint) else {
            return Ok(());
        };
        let left = end.duration_since(self.registry.now()).unwrap_or_default() + AFTER;
        let factory = Factory::<Endpoints>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Timer(stop.clone().drop_guard()));
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left) => {}
            }
            if let Err(error) = factory.close(Instant::now() + PATIENCE).await {
                tracing::warn!(?factory, %error, "letting an ended endpoint go");
            }
        });
        Ok(())
    }
}

#[async_trait]
impl Element<Endpoints> for Expire {
    fn name(&self) -> &'static str {
        "expire"
    }

    async fn request(
        &self,
        call: &mut Call,
        mut endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<NetworkServiceEndpoint, Error> {
        endpoint.expiration_time = MessageField::some(Timestamp::from(self.end(call, &endpoint)));
        let endpoint = next.request(call, endpoint).await?;
        self.start(call, &endpoint)?;
        Ok(endpoint)
    }

    async fn close(
        &self,
        call: &mut Call,
        endpoint: NetworkServiceEndpoint,
        next: Next<Endpoints>,
    ) -> Result<(), Error> {
        call.store.take::<Timer>();
        next.close(call, endpoint).await
    }
}
