//! `refresh`: a connection is asked for again before it expires.
//!
//! *What it does*: sdk `pkg/networkservice/common/refresh`: after each answer it waits for a third
//! of the shortest life among the path's tokens, then asks again through `begin`; what fails is
//! tried again with longer waits, so that two more tries fit before the lease ends. A token that
//! is over in a fresh answer tells of a hop's clock and of nothing else: it does not count; and
//! lives that no refresh could come in time for, again and again, make longer and longer waits.
//! *Where it stands*: after `begin`; before `heal`.
//! *On Close*: the clock stops.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Backoff, Call, Connections, Element, Error, Next, Tasks, Tokens, begin::Factory, seam,
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The part of the shortest life after which a refresh begins.
const SHARE: u32 = 3;
/// A clock that disagrees must not make a hot loop of refreshes: the shortest wait, which doubles
/// for as long as lives end before it does, and the longest of those. A life that it can keep says
/// nothing of a clock: hops show the same token until half of its life is over.
const SHORTEST: Duration = Duration::from_secs(1);
const SHORT_FOR_LONG: Duration = Duration::from_secs(32);
/// What is refreshed when the path says nothing of expiry: a third of upstream's token life.
const UNKNOWN: Duration = Duration::from_secs(200);
/// How far a refresh is drawn forward at random, in 1,024ths: what was asked for at once, after an
/// outage, is not asked for again at once for ever.
const SPREAD: u64 = 128;
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
        let (life, late) = life(connection, self.tokens.now());
        if let Some(Late { hop, by }) = late {
            tracing::warn!(
                id = connection.id,
                hop,
                skew_s = by.as_secs(),
                "the clock of a hop is behind ours: its token was over before its answer came; set the clocks of both \
                 sides"
            );
        }
        let mut short = call.store.get::<Short>().unwrap_or_default();
        let mut wait = short.wait(life);
        call.store.put(short);
        wait -= wait * u32::try_from(seam::chance() % SPREAD).unwrap_or(0) / 1_024;
        let factory = Factory::<Connections>::of(call)?;
        let stop = CancellationToken::new();
        call.store.put(Clock(stop.clone().drop_guard()));
        let patience = self.patience;
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = run(factory, wait, patience) => {}
            }
        });
        Ok(())
    }
}

/// How many times in a row a life was too short for any refresh.
#[derive(Debug, Clone, Copy, Default)]
struct Short(u32);

impl Short {
    /// How long to wait before asking again for what lives for so long.
    fn wait(&mut self, life: Option<Duration>) -> Duration {
        let times = std::mem::take(&mut self.0);
        match life {
            None => UNKNOWN,
            Some(life) if life > SHORTEST => (life / SHARE).max(SHORTEST),
            Some(_) => {
                self.0 = times.saturating_add(1);
                let doubled = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
                SHORTEST.saturating_mul(doubled).min(SHORT_FOR_LONG)
            }
        }
    }
}

/// A hop whose token was over when it came.
#[derive(Debug, PartialEq, Eq)]
struct Late {
    hop: String,
    by: Duration,
}

/// The shortest life among the path's tokens, and whose clock is behind.
fn life(connection: &Connection, now: SystemTime) -> (Option<Duration>, Option<Late>) {
    let (mut shortest, mut late) = (None, None);
    for segment in &connection.path.path_segments {
        let expires = segment.expires.as_option();
        let Some(since) = expires.and_then(|expires| u64::try_from(expires.seconds).ok()) else {
            continue;
        };
        let Some(at) = UNIX_EPOCH.checked_add(Duration::from_secs(since)) else {
            continue;
        };
        match at.duration_since(now) {
            Ok(life) => shortest = Some(shortest.map_or(life, |known: Duration| known.min(life))),
            Err(over) => {
                late.get_or_insert_with(|| Late {
                    hop: segment.name.clone(),
                    by: over.duration(),
                });
            }
        }
    }
    (shortest, late)
}

async fn run(factory: Factory<Connections>, wait: Duration, patience: Duration) {
    tokio::time::sleep(wait).await;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    // A success starts the next clock and ends this one, which is being dropped.
    while let Err(error) = factory.again(Instant::now() + patience, |_| {}).await {
        tracing::warn!(?factory, %error, "refresh failed; packets flow, trying again");
        tokio::time::sleep(backoff.after(&error)).await;
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
            // What is over already in a fresh answer says nothing of its life.
            (vec![600, -5], 200),
            (vec![-5], 200),
            (vec![-600, 3, 900], 1),
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
            let (life, late) = life(&connection, now);
            let wait = Short::default().wait(life);
            assert_eq!(wait.as_secs(), expected, "{lives:?}");
            let over = lives.iter().find(|life| **life < 0);
            let by = over.map(|life| Duration::from_secs(life.unsigned_abs()));
            assert_eq!(late.map(|late| late.by), by, "{lives:?}");
        }
    }

    /// Tokens of six seconds are shown until three are left: no wait is longer than a life. Lives
    /// that are over before anybody could ask again make longer and longer waits.
    #[test]
    fn waits_grow_where_no_refresh_could_come_in_time() {
        for (lives, waits) in [
            (
                &[6_000, 3_000, 2_500, 2_500, 2_500][..],
                &[2, 1, 1, 1, 1][..],
            ),
            (&[900, 900, 600_000, 900], &[1, 2, 200, 1]),
            (&[1_000; 8], &[1, 2, 4, 8, 16, 32, 32, 32]),
        ] {
            let mut short = Short::default();
            let lives = lives.iter().copied().map(Duration::from_millis);
            let waited: Vec<_> = lives.map(|life| short.wait(Some(life)).as_secs()).collect();
            assert_eq!(waited, waits);
        }
    }
}
