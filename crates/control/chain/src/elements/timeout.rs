//! `timeout`: a connection whose client no longer refreshes it is closed from here on down.
//!
//! *What it does*: sdk `pkg/networkservice/common/timeout`: the lease is what remains of the life
//! of the token that the caller sent; when it ends the item is closed through `begin`. Where a hop
//! brought the connection, that hop is looked at first ([`Suspension`]): one that is away has not
//! disowned anything, and packets flow. No lease ends while we have no identity to answer with. A
//! lease that was prolonged so, or by a refresh that failed further on, is longer than the next
//! hop's: the connection is held there.
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
    Call, Code, Element, Error, Kept, Kind, Next, Record, Tasks, Tokens,
    begin::Factory,
    suspension::{Doubt, Hold, Suspension},
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
        asked: Asked,
    ) -> Result<(), Error> {
        let factory = Factory::<K>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Clock(stop.clone().drop_guard()));
        let left = lease.length();
        let running = Running {
            left,
            asked,
            tokens: Arc::clone(&self.tokens),
            hold: self
                .suspension
                .as_ref()
                .zip(call.own.as_ref())
                .map(|(suspension, own)| suspension.hold(own, &call.store)),
            doubt: self
                .suspension
                .as_ref()
                .zip(bringer)
                .and_then(|(suspension, bringer)| suspension.doubt(bringer, left)),
        };
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = running.ended() => close(factory, &stop).await,
            }
        });
        Ok(())
    }
}

/// Whether the hops further on have a lease that is as new as ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Further,
    /// They were away, or asking them failed before it came to them.
    InVain,
}

/// A lease that runs.
struct Running {
    left: Duration,
    asked: Asked,
    tokens: Arc<dyn Tokens>,
    hold: Option<Hold>,
    doubt: Option<Doubt>,
}

impl Running {
    /// Waits until nobody wants the connection any more.
    async fn ended(&self) {
        let met = match (self.asked, &self.hold) {
            (Asked::InVain, Some(hold)) => hold.during(self.lasted()).await,
            _ => self.lasted().await,
        };
        match (met, &self.hold) {
            (Met::Answering, _) => {}
            (Met::Mute, Some(hold)) => hold.during(self.regained()).await,
            (Met::Mute, None) => self.regained().await,
        }
        if let (Some(hold), Some(doubt)) = (&self.hold, &self.doubt) {
            hold.settle(doubt).await;
        }
    }

    /// Waits for the end of the lease, or until we have no identity to answer with.
    async fn lasted(&self) -> Met {
        let ends = Instant::now() + self.left;
        while Instant::now() < ends {
            let look = (ends - Instant::now()).min(self.left / LOOKS);
            tokio::time::sleep(look).await;
            if self.tokens.is_mute() {
                return Met::Mute;
            }
        }
        Met::Answering
    }

    /// Waits for a whole lease in which we can answer: what stands is kept until then.
    async fn regained(&self) {
        let began = Instant::now();
        while self.lasted().await == Met::Mute && began.elapsed() < LONGEST {}
    }
}

/// How a lease came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// Whoever wanted to ask again could have done so all the time.
    Answering,
    /// We have no identity to sign an answer with: who asks again asks in vain.
    Mute,
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
            let asked = match answer {
                Ok(_) => Asked::Further,
                Err(_) => Asked::InVain,
            };
            self.start::<K>(call, bringer.as_ref(), lease, asked)?;
        }
        answer
    }

    async fn close(&self, call: &mut Call, item: K::Item, next: Next<K>) -> Result<(), Error> {
        call.store.take::<Clock>();
        let closed = next.close(call, item).await;
        // What a restart finds half closed still has to end.
        call.store.take_kept::<Lease>();
        closed
    }

    async fn restore(
        &self,
        call: &mut Call,
        record: &Record<K>,
        next: Next<K>,
    ) -> Result<(), Error> {
        next.restore(call, record).await?;
        match call.store.kept::<Lease>() {
            Some(lease) => self.start::<K>(call, record.bringer.as_ref(), lease, Asked::Further),
            None => Ok(()),
        }
    }
}
