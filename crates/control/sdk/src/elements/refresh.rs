//! `refresh`: a connection is asked for again before it expires.
//!
//! *What it does*: sdk `pkg/networkservice/common/refresh`: after each answer it waits for a third
//! of the shortest life among the path's tokens, then asks again through `begin`; what fails is
//! tried again with longer waits, so that two more tries fit before the lease ends.
//! *Where it stands*: after `begin`; before `heal`.
//! *On Close*: the clock stops.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Backoff, Call, Connections, Element, Error, Next, Tasks, Tokens, begin::Factory};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The part of the shortest life after which a refresh begins.
const SHARE: u32 = 3;
/// A clock that disagrees must not make a hot loop of refreshes.
const SHORTEST: Duration = Duration::from_secs(1);
/// What is refreshed when the path says nothing of expiry: a third of upstream's token life.
const UNKNOWN: Duration = Duration::from_secs(200);
/// Waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// See the module.
pub struct Refresh {
    tokens: Arc<dyn Tokens>,
    tasks: Tasks,
    patience: Duration,
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresh")
    }
}

/// The running clock: dropping it stops it.
struct Clock(#[allow(dead_code, reason = "held for its drop")] DropGuard);

impl Refresh {
    /// The element; one refresh may take `patience`.
    #[must_use]
    pub fn new(tokens: Arc<dyn Tokens>, tasks: Tasks, patience: Duration) -> Self {
        Self {
            tokens,
            tasks,
            patience,
        }
    }

    fn start(&self, call: &Call, connection: &Connection) -> Result<(), Error> {
        let wait = wait(connection, self.tokens.now());
        let factory = Factory::<Connections>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Clock(stop.clone().drop_guard()));
        let patience = self.patience;
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = run(factory, wait, patience) => {}
            }
        });
        Ok(())
    }
}

/// How long to wait before asking for a connection again.
fn wait(connection: &Connection, now: SystemTime) -> Duration {
    let expiries = connection.path.path_segments.iter().filter_map(|segment| {
        let expires = segment.expires.as_option()?;
        let since = Duration::from_secs(u64::try_from(expires.seconds).ok()?);
        Some((UNIX_EPOCH + since).duration_since(now).unwrap_or_default())
    });
    expiries
        .min()
        .map_or(UNKNOWN, |life| (life / SHARE).max(SHORTEST))
}

async fn run(factory: Factory<Connections>, wait: Duration, patience: Duration) {
    tokio::time::sleep(wait).await;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    // A success starts the next clock and ends this one, which is being dropped.
    while let Err(error) = factory.again(Instant::now() + patience, |_| {}).await {
        tracing::warn!(?factory, %error, "refresh failed; packets flow, trying again");
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

#[async_trait]
impl Element<Connections> for Refresh {
    fn name(&self) -> &'static str {
        "refresh"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let connection = next.request(call, request).await?;
        self.start(call, &connection)?;
        Ok(connection)
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        next: Next<Connections>,
    ) -> Result<(), Error> {
        call.store.take::<Clock>();
        next.close(call, connection).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buffa::MessageField;
    use nsm_api::connection::{Path, PathSegment};
    use nsm_chain::elements::timestamp;

    #[test]
    fn the_shortest_life_decides() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (lives, expected) in [
            (vec![600, 300, 900], 100),
            (vec![600], 200),
            (vec![1], 1),
            // What has expired already is due at once.
            (vec![600, -5], 1),
            (vec![-5], 1),
            (vec![], 200),
        ] {
            let at = |life: i64| match u64::try_from(life) {
                Ok(life) => now + Duration::from_secs(life),
                Err(_) => now - Duration::from_secs(life.unsigned_abs()),
            };
            let segment = |life: &i64| PathSegment {
                expires: MessageField::some(timestamp(at(*life))),
                ..Default::default()
            };
            let path = Path {
                path_segments: lives.iter().map(segment).collect(),
                ..Default::default()
            };
            let connection = Connection {
                path: MessageField::some(path),
                ..Default::default()
            };
            assert_eq!(wait(&connection, now).as_secs(), expected, "{lives:?}");
        }
    }
}
