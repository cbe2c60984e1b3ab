//! Staying with peers that nothing goes through any more.
//!
//! A hop that still has a connection which we have left, or of which its answer was lost, can tell
//! that we have disowned it by our watching it without holding that connection; it cannot where we
//! watch it no longer. So a role watches every peer that it has asked for anything until all that
//! it may have left there has ended, and does so again after its own restart.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nsm_model::url::EndpointUrl;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{DIAL, Follower, LINGER, Stream};
use crate::{
    Backoff, Call, Directory, Expected, Hop, Journal, Noted, Target, Tokens,
    downstream::{Downstream, Resolve},
    elements::LONGEST,
    tokens,
};

/// A lease that begins now ends, and then whoever holds it has two leases to see us, and a grace. A
/// token that is looked at may have half of its life left.
const HALF_LEASES: u32 = 6;
const GRACE: Duration = Duration::from_secs(10);
/// How long tokens live where none can be had to look at.
const UNKNOWN: Duration = Duration::from_secs(600);
/// The first and the longest wait between two attempts to reach a peer that nothing goes through.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// How long a role that was started may take to take up its connections: then their peers are being
/// looked for.
const TAKES_UP: Duration = Duration::from_secs(10);
/// The most peers that are remembered, some 100 bytes each: beyond it those asked last.
const MAX_PEERS: usize = 8_192;

/// What a role stays with its peers by.
#[derive(Clone)]
pub struct Stay {
    /// How long leases are.
    pub tokens: Arc<dyn Tokens>,
    /// Where peers are found again.
    pub directory: Arc<dyn Directory>,
    /// Those that were asked for anything.
    pub peers: Noted,
}

impl std::fmt::Debug for Stay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stay({:?})", self.peers)
    }
}

/// As it is at work.
pub(super) struct Staying {
    tokens: Arc<dyn Tokens>,
    directory: Arc<dyn Directory>,
    journal: Option<Arc<dyn Journal>>,
    asked: Mutex<BTreeMap<String, Instant>>,
}

/// A peer as it is written down. Fields are added, never given another meaning.
#[derive(Debug, Serialize, Deserialize)]
struct Peer {
    /// Its endpoint, by which it is looked up.
    name: Option<String>,
    /// Its address, where that is the same for everybody.
    url: Option<String>,
}

impl Staying {
    fn asked(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a peer is watched that nothing goes through any more.
    fn length(&self) -> Duration {
        let call = Call::local(Instant::now());
        let token = self.tokens.issue(&call, &self.tokens.own_id());
        let life = token.map_or(UNKNOWN, |token| token.left(self.tokens.now()));
        life.min(LONGEST) * HALF_LEASES + GRACE
    }

    /// Writes down a peer that was not asked for anything before.
    fn remember(&self, next: &Downstream) {
        let (name, url) = next.address();
        let place = url.clone().or_else(|| name.clone());
        let Some(place) = place else { return };
        let now = Instant::now();
        let mut asked = self.asked();
        if asked.insert(place.clone(), now).is_some() {
            return;
        }
        let old: Vec<String> = asked
            .iter()
            .filter(|(_, at)| now - **at >= LONGEST)
            .map(|(place, _)| place.clone())
            .collect();
        for place in &old {
            asked.remove(place);
        }
        let Some(journal) = &self.journal else { return };
        for place in &old {
            journal.forget(place);
        }
        if asked.len() <= MAX_PEERS {
            let peer = Peer { name, url };
            journal.keep(&place, serde_json::to_vec(&peer).unwrap_or_default());
        }
    }
}

/// Ends when a role that stays has no identity any more.
pub(super) async fn muted(staying: Option<&Staying>) {
    match staying {
        Some(staying) => tokens::muted(staying.tokens.as_ref()).await,
        None => std::future::pending().await,
    }
}

impl Follower {
    /// The same of a role: it stays with peers for as long as those may have something of ours.
    #[must_use]
    pub fn staying(self, stay: Stay) -> Self {
        let Stay {
            tokens,
            directory,
            peers: Noted { journal, known },
        } = stay;
        let staying = Staying {
            tokens,
            directory,
            journal,
            asked: Mutex::default(),
        };
        if self.0.staying.set(staying).is_ok() {
            for (place, bytes) in known {
                self.recall(place, &bytes);
            }
        }
        self
    }

    /// This peer is about to be asked for something.
    pub(crate) fn asks(&self, next: &Downstream, hop: &Arc<dyn Hop>) {
        let Some(staying) = self.0.staying.get() else {
            return;
        };
        staying.remember(next);
        let key = format!("{next} {}", hop.peer());
        let (stream, new) = {
            let mut state = self.0.state();
            let new = !state.streams.contains_key(&key);
            let make = || Arc::new(Stream::new(next.clone(), false));
            let stream = state.streams.entry(key.clone()).or_insert_with(make);
            // Before anybody else looks whether it may be left.
            stream.touch();
            (Arc::clone(stream), new)
        };
        if !new {
            stream.want(next.clone());
        } else {
            self.start(key, stream, Arc::clone(hop), false);
        }
    }

    /// A peer of before our restart: watched again when it is found, and every connection of before
    /// knows where it goes. Until then it could not be held there, and our watch would disown it.
    fn recall(&self, place: String, bytes: &[u8]) {
        let (Some(staying), Ok(peer)) = (self.0.staying.get(), serde_json::from_slice(bytes))
        else {
            tracing::warn!(
                place,
                "a peer in the journal cannot be read and is left out"
            );
            return;
        };
        let Peer { name, url } = peer;
        let anybody = |_: &_| Expected::new(|_| Ok(()));
        let resolve =
            name.map(|name| Resolve::endpoint(Arc::clone(&staying.directory), name, anybody));
        let target = url.map(|url| (Target::Url(EndpointUrl::parse(&url)), None));
        let next = Downstream::found(target, resolve);
        staying.asked().insert(place, Instant::now());
        let follower = self.clone();
        self.0.tasks.spawn(async move {
            let began = Instant::now();
            tokio::time::sleep(TAKES_UP).await;
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            while began.elapsed() < LONGEST {
                if follower.0.state().is_any_resuming() {
                    tokio::time::sleep(backoff.next_wait()).await;
                    continue;
                }
                let deadline = Instant::now() + DIAL;
                let found = next.connect(follower.0.transport.as_ref(), deadline);
                if let Ok((found, hop)) = found.await {
                    follower.asks(&next.clone().found_at(found), &hop);
                    return;
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
        });
    }

    /// Waits before it is looked again whether a peer may be left.
    pub(super) fn pause(staying: Option<&Staying>) -> Duration {
        staying.map_or(LINGER, |staying| (staying.length() / 16).max(LINGER))
    }
}

impl Stream {
    /// Something was asked for there, or left.
    pub(super) fn touch(&self) {
        self.presence().touched = Instant::now();
    }

    /// Whether all that we left there must have ended.
    pub(super) fn is_quiet(&self, staying: Option<&Staying>) -> bool {
        let Some(staying) = staying else { return true };
        let presence = self.presence();
        let watched = presence.since.map(|since| since.max(presence.touched));
        watched.is_some_and(|since| since.elapsed() >= staying.length())
            || presence.touched.elapsed() >= LONGEST
    }
}

/// The waits between attempts to reach a peer that nothing goes through.
pub(super) fn unhurried() -> Backoff {
    Backoff::new(RETRY.0, RETRY.1)
}
