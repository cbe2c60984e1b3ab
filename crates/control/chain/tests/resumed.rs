//! Connections that are taken up again at a peer: each is looked for, and no crowd comes at once.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use nsm_api::connection::{
    Connection, ConnectionEvent, ConnectionEventType, Path, PathSegment, State,
};
use nsm_chain::{
    Events, Target, Tasks,
    elements::Downstream,
    follow::{Change, Follower, Sink},
};
use nsm_model::url::EndpointUrl;
use nsm_test_support::{Watchable, spiffe};
use tokio::time::{Instant, sleep};

/// Of which connections was told what, and when.
struct Told(Instant, Mutex<Vec<(u128, String, Change)>>);

impl Sink for Told {
    fn changed(&self, id: &str, change: Change, _: Option<&Connection>) {
        let after = self.0.elapsed().as_millis();
        self.1.lock().unwrap().push((after, id.to_owned(), change));
    }

    fn seen(&self, _: &str, _: &Connection) {}
}

/// The peer's own path segment ends it.
fn connection(id: &str) -> Connection {
    let ids = [("client", "c"), ("own", id), ("far", "")];
    let segment = |(name, id): (&str, &str)| PathSegment {
        name: name.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    };
    let path = Path {
        path_segments: ids.map(segment).to_vec(),
        index: 2,
        ..Default::default()
    };
    Connection {
        id: format!("far-{id}"),
        path: buffa::MessageField::some(path),
        ..Default::default()
    }
}

/// Follows at a peer that shows these.
fn follower(shown: &[String]) -> (Follower, Arc<Told>) {
    following(shown.iter().map(|id| connection(id)).collect())
}

fn following(shown: Vec<Connection>) -> (Follower, Arc<Told>) {
    let peer = Watchable::new(spiffe("far"), move || stream(&shown));
    let told = Arc::new(Told(Instant::now(), Mutex::default()));
    (
        Follower::new("own", Arc::new(peer), Tasks::new(), told.clone()),
        told,
    )
}

fn next() -> Downstream {
    let target = Target::Url(EndpointUrl::parse("tcp://10.0.0.9:5001"));
    Downstream::at(target, None, None)
}

async fn ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// After a restart one finds the peer first, and the others join its stream.
#[tokio::test(start_paused = true)]
async fn whoever_joins_a_stream_is_looked_for_in_it() {
    let (follower, told) = follower(&["a".to_owned(), "b".to_owned()]);
    follower.resume("a", next(), false, |_| {});
    ms(1_000).await;
    for id in ["b", "gone", "forgotten"] {
        follower.resume(id, next(), false, |_| {});
    }
    follower.forget("forgotten");
    ms(1_000).await;
    let told = told.1.lock().unwrap();
    let told: Vec<&str> = told.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(told, ["gone"]);
}

/// What became of a connection is said once, perhaps before it has joined.
#[tokio::test(start_paused = true)]
async fn whoever_joins_a_stream_late_hears_what_it_said() {
    for (state, word) in [
        (State::UP, None),
        (State::DOWN, Some(Change::Down)),
        (State::REFRESH_REQUESTED, Some(Change::Refresh)),
        (State::RESELECT_REQUESTED, Some(Change::Move)),
    ] {
        let late = Connection {
            state: state.into(),
            ..connection("late")
        };
        let (follower, told) = following(vec![connection("first"), late]);
        follower.resume("first", next(), false, |_| {});
        ms(1_000).await;
        assert!(told.1.lock().unwrap().is_empty(), "{state:?}");
        follower.resume("late", next(), false, |_| {});
        ms(1_000).await;
        let told = told.1.lock().unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|(_, id, change)| (id.as_str(), *change))
            .collect();
        let expected: Vec<_> = word.map(|change| ("late", change)).into_iter().collect();
        assert_eq!(told, expected, "{state:?}");
    }
}

/// Its table comes in several events, or none of it is left.
#[tokio::test(start_paused = true)]
async fn a_peer_of_many_is_not_stormed() {
    const CROWD: usize = 600;
    let ids: Vec<String> = (0..CROWD).map(|n| format!("{n:03}")).collect();
    for (shown, missing) in [(&ids[..CROWD - 1], 1), (&ids[..0], CROWD)] {
        let (follower, told) = follower(shown);
        for id in &ids {
            follower.resume(id, next(), false, |_| {});
        }
        ms(10_000).await;
        let told = told.1.lock().unwrap();
        assert_eq!(told.len(), missing);
        let times: Vec<u128> = told.iter().map(|(after, ..)| *after).collect();
        let at_once = times.chunk_by(|one, other| one == other).map(<[_]>::len);
        assert!(at_once.max() <= Some(2), "{times:?}");
        assert!(times.last() < Some(&4_000), "{times:?}");
    }
}

/// A stream with these connections, shown as our own hops do.
fn stream(shown: &[Connection]) -> Events {
    let kinds = [ConnectionEventType::INITIAL_STATE_TRANSFER]
        .into_iter()
        .chain(std::iter::repeat(ConnectionEventType::UPDATE));
    let empty: &[Connection] = &[];
    let chunks = shown.chunks(256);
    let chunks = chunks.chain(shown.is_empty().then_some(empty));
    let events: Vec<_> = chunks
        .zip(kinds)
        .map(|(some, kind)| {
            let some = some.iter().map(|one| (one.id.clone(), one.clone()));
            Ok(ConnectionEvent {
                r#type: kind.into(),
                connections: some.collect(),
                ..Default::default()
            })
        })
        .collect();
    let events = futures_util::stream::iter(events);
    events.chain(futures_util::stream::pending()).boxed()
}
