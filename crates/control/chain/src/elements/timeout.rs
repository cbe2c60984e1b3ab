//! `timeout`: a connection whose client no longer refreshes it is closed from here on down.
//!
//! *What it does*: sdk `pkg/networkservice/common/timeout`: the lease is what remains of the life
//! of the token that the caller sent; when it ends the item is closed through `begin`. Where a hop
//! brought the connection, that hop is looked at first ([`Suspension`]): one that is away has not
//! disowned anything, and packets flow. No lease ends while we have no identity to answer with.
//! After a restart every lease begins anew with its whole length, since nobody could refresh while
//! we were away.
//! *Where it stands*: after `begin` and `authorize`: only a proved token makes a lease.
//! *On Close*: the lease ends with the item.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_model::spiffe::SpiffeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Call, Code, Element, Error, Kept, Kind, Next, Record, Tasks, Tokens, begin::Factory,
    suspension::Suspension,
};

/// How long a close may take that nobody waits for: as long as upstream's clients wait for theirs.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
pub struct Timeout {
    tokens: Arc<dyn Tokens>,
    tasks: Tasks,
    suspension: Option<Suspension>,
}

impl std::fmt::Debug for Timeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timeout")
    }
}

/// The longest lease, whatever a caller writes into its token: what nobody asked for again in a
/// day is nobody's. As long is the longest doubt.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How many times in a lease we look whether we can answer: who asks again does so for two thirds
/// of it.
const LOOKS: u32 = 4;

/// How long a lease was given for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Lease {
    millis: u64,
}

impl Kept for Lease {
    const NAME: &'static str = "lease";
}

impl Lease {
    fn new(length: Duration) -> Self {
        Self {
            millis: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn length(self) -> Duration {
        Duration::from_millis(self.millis).min(LONGEST)
    }
}

/// The running clock of a lease: dropping it stops it.
struct Clock(#[allow(dead_code, reason = "held for its drop")] DropGuard);

impl Timeout {
    /// The element; `tasks` owns the clocks.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>, tasks: Tasks) -> Self {
        Self {
            tokens,
            tasks,
            suspension: None,
        }
    }

    /// The same for connections that hops bring, whose leases are suspended while those are away.
    #[must_use]
    pub fn suspending(self, suspension: Suspension) -> Self {
        Self {
            suspension: Some(suspension),
            ..self
        }
    }

    fn start<K: Kind>(
        &self,
        call: &Call,
        bringer: Option<&SpiffeId>,
        lease: Lease,
    ) -> Result<(), Error> {
        let factory = Factory::<K>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Clock(stop.clone().drop_guard()));
        let doubt = match (&self.suspension, bringer, &call.own) {
            (Some(suspension), Some(bringer), Some(own)) => {
                suspension.doubt(bringer, own, &call.store, lease.length())
            }
            _ => None,
        };
        let (left, tokens) = (lease.length(), Arc::clone(&self.tokens));
        self.tasks.spawn(async move {
            let ended = async {
                lasted(left, tokens.as_ref()).await;
                if let Some(doubt) = doubt {
                    doubt.ended().await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = ended => close(factory, &stop).await,
            }
        });
        Ok(())
    }
}

/// Ends with the lease. Who cannot be answered here, for want of an identity to sign with, asks in
/// vain: what stands is kept, and has a whole lease more once we can.
async fn lasted(lease: Duration, tokens: &dyn Tokens) {
    let began = Instant::now();
    let mut ends = began + lease;
    while Instant::now() < ends {
        let look = (ends - Instant::now()).min(lease / LOOKS);
        tokio::time::sleep(look).await;
        let call = Call::local(Instant::now());
        if tokens.issue(&call, &tokens.own_id()).is_err() && began.elapsed() < LONGEST {
            ends = Instant::now() + lease;
        }
    }
}

async fn close<K: Kind>(factory: Factory<K>, stop: &CancellationToken) {
    tracing::info!(?factory, "lease ended: closing");
    // A refresh that had its turn when the lease ended has made another one.
    let still = || !stop.is_cancelled();
    let deadline = Instant::now() + CLOSE_PATIENCE;
    if let Err(error) = factory.close_if(deadline, still).await {
        tracing::warn!(?factory, %error, "closing after the lease ended");
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
        // Who asks again still wants it, whatever hops further on are away: its lease is renewed.
        let stands = call.store.kept::<Lease>().is_some();
        let answer = next.request(call, request).await;
        if let Some(token) = &call.token
            && (stands || answer.is_ok())
        {
            let lease = Lease::new(token.left(self.tokens.now()).min(LONGEST));
            call.store.keep(lease);
            let bringer = call.caller.as_ref().map(|caller| caller.id.clone());
            self.start::<K>(call, bringer.as_ref(), lease)?;
        }
        answer
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        call.store.take::<Clock>();
        call.store.take_kept::<Lease>();
        next.close(call, item).await
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<K>,
        next: Next<K>,
    ) -> Result<(), Error> {
        next.restore(call, record).await?;
        match call.store.kept::<Lease>() {
            Some(lease) => self.start::<K>(call, record.bringer.as_ref(), lease),
            None => Ok(()),
        }
    }
}
