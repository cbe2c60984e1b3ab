//! What a peer tells, event by event.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;
use nsm_api::connection::{Connection, ConnectionEvent, ConnectionEventType, State};
use tokio::time::Instant;

use super::{Change, Inner, Stream};
use crate::{Backoff, Events};

/// How many connections our own hops put into one event: with as many in the first one, more
/// follow.
const BATCH: usize = 256;
/// How soon.
const SETTLE: Duration = Duration::from_millis(200);
/// Between two connections that are asked for again because the peer has lost them: a crowd that
/// shares a peer does not come to it in one instant.
const PACE: Duration = Duration::from_millis(4);

impl Inner {
    pub(super) async fn events(&self, stream: &Stream, mut events: Events) {
        // When to look for connections that the peer does not show.
        let mut look = None;
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = stream.doubted.notified() => {
                    look.get_or_insert_with(|| Instant::now() + SETTLE);
                    continue;
                }
                () = at(look) => {
                    look = self.miss(stream);
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => {
                    let first = event.r#type == ConnectionEventType::INITIAL_STATE_TRANSFER;
                    if event.connections.len() >= BATCH && (first || look.is_some()) {
                        look = Some(Instant::now() + SETTLE);
                    } else if first {
                        look = Some(Instant::now());
                    }
                    self.event(stream, &event);
                }
                Some(Err(error)) => {
                    tracing::debug!(hop = %stream.next(), %error, "the next hop's monitor stream ended");
                    return;
                }
                None => return,
            }
        }
    }

    /// Asks for one connection again that the peer ought to show; when to look for the next one.
    fn miss(&self, stream: &Stream) -> Option<Instant> {
        let (missing, more) = stream.ids().missing();
        if let Some(id) = missing {
            self.tell(stream, &id, Change::Refresh, None);
        }
        more.then(|| Instant::now() + Backoff::new(PACE, PACE).next_wait())
    }

    /// The connections of an event that have a segment of ours, by our id.
    fn ours<'a>(&self, event: &'a ConnectionEvent) -> BTreeMap<String, &'a Connection> {
        let mut ours = BTreeMap::new();
        for connection in event.connections.values() {
            // One path may pass here twice: what is meant is where the peer stands, or one before.
            let index = connection.path.index as usize;
            for at in [index.checked_sub(1), Some(index)].into_iter().flatten() {
                if let Some(segment) = connection.path.path_segments.get(at)
                    && segment.name == self.name
                {
                    ours.insert(segment.id.clone(), connection);
                }
            }
        }
        ours
    }

    fn event(&self, stream: &Stream, event: &ConnectionEvent) {
        let deleted = event.r#type == ConnectionEventType::DELETE;
        stream.ids().spoken();
        for (id, connection) in self.ours(event) {
            let change = match connection.state.as_known().unwrap_or(State::UP) {
                _ if deleted => Some(Change::Down),
                State::DOWN => Some(Change::Down),
                State::REFRESH_REQUESTED => Some(Change::Refresh),
                State::RESELECT_REQUESTED => Some(Change::Move),
                State::UP => None,
            };
            stream.ids().see(&id, deleted, change);
            match change {
                Some(change) => self.tell(stream, &id, change, Some(connection)),
                None if stream.ids().contains(&id) => self.sink.seen(&id, connection),
                None => {}
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
