//! `timeout`: a connection whose client no longer refreshes it is closed from here on down.
//!
//! *What it does*: sdk `pkg/networkservice/common/timeout`: the lease is the expiry of the token
//! that the caller sent; when it ends the item is closed through `begin`.
//! *Where it stands*: after `begin` and `authorize`: only a proved token makes a lease.
//! *On Close*: the lease ends with the item.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Call, Code, Element, Error, Kind, Next, Tasks, Tokens, begin::Factory};

/// How long a close may take that nobody waits for: as long as upstream's clients wait for theirs.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
pub struct Timeout {
    tokens: Arc<dyn Tokens>,
    tasks: Tasks,
}

impl std::fmt::Debug for Timeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timeout")
    }
}

/// The longest lease, whatever a caller writes into its token: what nobody asked for again in a
/// day is nobody's.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The running lease: dropping it stops the clock.
struct Lease(#[allow(dead_code, reason = "held for its drop")] DropGuard);

impl Timeout {
    /// The element; `tasks` owns the clocks.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>, tasks: Tasks) -> Self {
        Self { tokens, tasks }
    }

    fn start<K: Kind>(&self, call: &Call) -> Result<(), Error> {
        let Some(token) = &call.token else {
            return Ok(());
        };
        let left = token
            .expires
            .duration_since(self.tokens.now())
            .unwrap_or_default()
            .min(LONGEST);
        let factory = Factory::<K>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Lease(stop.clone().drop_guard()));
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left) => {}
            }
            tracing::info!(?factory, "lease ended: closing");
            // A refresh that had its turn when the lease ended has made another one.
            let ended = || !stop.is_cancelled();
            let deadline = Instant::now() + CLOSE_PATIENCE;
            if let Err(error) = factory.close_if(deadline, ended).await {
                tracing::warn!(?factory, %error, "closing after the lease ended");
            }
        });
        Ok(())
    }
}

#[async_trait]
impl<K: Kind> Element<K> for Timeout {
    fn name(&self) -> &'static str {
        "timeout"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: K::Request,
        next: Next<K>,
    ) -> Result<K::Item, Error> {
        if let (Some(caller), None) = (&call.caller, &call.token) {
            // What it left in the path is no lease: nothing would ever end.
            let message = format!(
                "{}: the call carries no token: send nsm-client-token and nsm-client-token-expires with it",
                caller.id
            );
            return Err(Error::new(Code::Unauthenticated, message));
        }
        let item = next.request(call, request).await?;
        self.start::<K>(call)?;
        Ok(item)
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        call.store.take::<Lease>();
        next.close(call, item).await
    }
}
