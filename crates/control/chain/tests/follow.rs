//! What next hops say of our connections, and what their silence means.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use nsm_api::connection::{Connection, Path, PathSegment, State};
use nsm_chain::{
    Chain, Expected, Target, Tasks, Transport,
    elements::{Downstream, Resolve, Table as _},
    follow::{Change, Follower, Sink, is_of_before},
};
use nsm_model::url::EndpointUrl;
use nsm_test_support::{Book, Clock, Keys, Watchable, Watched, Wire, endpoint, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";

/// What was told, with the milliseconds since the last look.
struct Told(Mutex<(Instant, Vec<News>)>, AtomicUsize);

/// After how many milliseconds, of which connection, and what.
type News = (u128, String, Change);

impl Sink for Told {
    fn changed(&self, id: &str, change: Change, _: Option<&Connection>) {
        let mut told = self.0.lock().unwrap();
        let after = told.0.elapsed().as_millis();
        told.1.push((after, id.to_owned(), change));
    }

    fn seen(&self, _: &str, _: &Connection) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl Told {
    fn take(&self) -> Vec<News> {
        let mut told = self.0.lock().unwrap();
        told.0 = Instant::now();
        std::mem::take(&mut told.1)
    }

    fn changes(&self) -> Vec<(String, Change)> {
        self.take()
            .into_iter()
            .map(|(_, id, change)| (id, change))
            .collect()
    }
}

struct World {
    wire: Wire,
    table: Arc<Watched>,
    told: Arc<Told>,
    follower: Follower,
    next: Downstream,
    transport: Arc<dyn Transport>,
}

fn target() -> Target {
    Target::Url(EndpointUrl::parse(URL))
}

impl World {
    fn new() -> Self {
        let (wire, table) = (Wire::default(), Arc::new(Watched::default()));
        wire.attach(
            URL,
            spiffe("far"),
            Chain::new(Vec::new()),
            Some(table.clone()),
        );
        let transport = wire.transport(Keys::new("own", Clock::default()));
        let told = Arc::new(Told(
            Mutex::new((Instant::now(), Vec::new())),
            AtomicUsize::new(0),
        ));
        let follower = Follower::new("own", transport.clone(), Tasks::new(), told.clone());
        Self {
            wire,
            table,
            told,
            follower,
            next: Downstream::at(target(), None, None),
            transport,
        }
    }

    /// Follows these connections; `last`: the peer is their endpoint.
    async fn follow(&self, ids: &[&str], last: bool) {
        for id in ids {
            self.table.update(connection(
                &["client", "own", "far"],
                &["c", id, &format!("far-{id}")],
                2,
            ));
            let hop = self
                .transport
                .connect(&target(), Instant::now())
                .await
                .unwrap();
            self.follower.follow(id, self.next.clone(), hop, last);
        }
        ms(5).await;
        self.told.take();
    }
}

async fn ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// A connection as the hop at `index` has it.
fn connection(names: &[&str], ids: &[&str], index: usize) -> Connection {
    let segment = |(name, id): (&&str, &&str)| PathSegment {
        name: (*name).to_owned(),
        id: (*id).to_owned(),
        ..Default::default()
    };
    let path = Path {
        path_segments: names.iter().zip(ids).map(segment).collect(),
        index: u32::try_from(index).unwrap(),
        ..Default::default()
    };
    Connection {
        id: ids[index].to_owned(),
        path: buffa::MessageField::some(path),
        ..Default::default()
    }
}

fn down(mut connection: Connection) -> Connection {
    connection.state = State::DOWN.into();
    connection
}

/// Its packets may flow: its connections are asked for as they are, by whoever can tell.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_lost_is_waited_for() {
    let world = World::new();
    world.follow(&["a", "b"], true).await;
    world.wire.cut(URL);
    ms(190).await;
    assert_eq!(world.told.changes(), [], "its restart takes less");
    let refresh = ["a", "b"].map(|id| (id.to_owned(), Change::Refresh));
    ms(3_600_000).await;
    assert_eq!(world.told.changes(), refresh, "once");
    // Back, knowing one of them.
    world.table.delete("far-b");
    world.wire.mend(URL);
    ms(2_000).await;
    assert_eq!(world.told.changes(), refresh[1..]);
    world.table.delete("far-a");
    ms(1).await;
    assert_eq!(world.told.changes(), [("a".to_owned(), Change::Down)]);
}

/// A socket is another one after a restart: the registration tells where.
#[tokio::test(start_paused = true)]
async fn an_endpoint_is_followed_to_where_it_is_registered_now() {
    const ELSEWHERE: &str = "tcp://10.0.0.9:5002";
    let mut world = World::new();
    let book = Arc::new(Book::default());
    let anybody = |_: &_| Expected::new(|_| Ok(()));
    let found = Resolve::endpoint(book.clone(), "far".to_owned(), anybody);
    world.next = Downstream::at(target(), None, Some(found));
    book.add(endpoint("far", "svc", URL, &[]));
    world.follow(&["a"], true).await;
    world.wire.cut(URL);
    ms(1_000).await;
    assert_eq!(world.told.changes().len(), 1);
    let restarted = Arc::new(Watched::default());
    let list = Chain::new(Vec::new());
    world
        .wire
        .attach(ELSEWHERE, spiffe("far"), list, Some(restarted.clone()));
    book.add(endpoint("far", "svc", ELSEWHERE, &[]));
    ms(1_100).await;
    assert_eq!(
        world.told.changes(),
        [("a".to_owned(), Change::Refresh)],
        "it knows nothing of its connections"
    );
    assert_eq!(restarted.watchers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_lost_is_waited_for() {
    let world = World::new();
    world.follow(&["a"], false).await;
    world.wire.cut(URL);
    ms(990).await;
    assert_eq!(world.told.changes(), []);
    ms(20_000).await;
    assert_eq!(
        world.told.changes(),
        [("a".to_owned(), Change::Refresh)],
        "once"
    );
    // Back, and it knows nothing of the connection.
    world.table.delete("far-a");
    world.wire.mend(URL);
    ms(2_000).await;
    assert_eq!(world.told.changes(), [("a".to_owned(), Change::Refresh)]);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_comes_back_in_time_is_no_news() {
    for knows in [true, false] {
        let world = World::new();
        world.follow(&["a"], false).await;
        world.wire.cut(URL);
        if !knows {
            world.table.delete("far-a");
        }
        ms(300).await;
        world.wire.mend(URL);
        ms(5_000).await;
        let expected: &[_] = if knows {
            &[]
        } else {
            &[("a".to_owned(), Change::Refresh)]
        };
        assert_eq!(
            world.told.changes(),
            expected,
            "it knows the connection: {knows}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_next_hop_says_is_told() {
    let world = World::new();
    world.follow(&["a", "b"], false).await;
    let one = connection(&["client", "own", "far"], &["c", "a", "far-a"], 2);
    let mut refresh = one.clone();
    refresh.state = State::REFRESH_REQUESTED.into();
    let seen = world.told.1.load(Ordering::SeqCst);
    for event in [one.clone(), down(one.clone()), refresh] {
        world.table.update(event);
        ms(1).await;
    }
    world.table.delete("far-a");
    ms(1).await;
    let expected =
        [Change::Down, Change::Refresh, Change::Down].map(|change| ("a".to_owned(), change));
    assert_eq!(world.told.changes(), expected);
    assert_eq!(
        world.told.1.load(Ordering::SeqCst),
        seen + 1,
        "what is up is shown"
    );
}

#[tokio::test(start_paused = true)]
async fn a_path_that_passes_here_twice_touches_the_right_segment() {
    let names = ["client", "own", "far", "firewall", "own", "far"];
    let ids = ["c", "first", "far-1", "fw", "second", "far-2"];
    // Where the peer stands, and as some peers say it: one before, at our own segment.
    for (index, id) in [(2, "first"), (1, "first"), (5, "second"), (4, "second")] {
        let world = World::new();
        world.follow(&["first", "second"], false).await;
        world.table.update(down(connection(&names, &ids, index)));
        ms(1).await;
        assert_eq!(
            world.told.changes(),
            [(id.to_owned(), Change::Down)],
            "index {index}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_followed_no_longer() {
    let world = World::new();
    world.follow(&["a", "b"], false).await;
    assert_eq!(world.table.watchers(), 1, "one stream a peer");
    world.follower.forget("a");
    world.table.delete("far-a");
    ms(1).await;
    assert_eq!((world.told.changes(), world.table.watchers()), (vec![], 1));
    world.follower.forget("b");
    ms(2_000).await;
    assert_eq!(world.table.watchers(), 0);
    world.wire.cut(URL);
    ms(5_000).await;
    assert_eq!(world.told.changes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ends_every_stream_is_not_asked_in_a_hot_loop() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // It is there, and ends every stream.
    let curt = Watchable::new(spiffe("far"), move || {
        count.fetch_add(1, Ordering::SeqCst);
        futures_util::stream::empty().boxed()
    });
    let told = Arc::new(Told(
        Mutex::new((Instant::now(), Vec::new())),
        AtomicUsize::new(0),
    ));
    let follower = Follower::new("own", Arc::new(curt.clone()), Tasks::new(), told);
    let next = Downstream::at(target(), None, None);
    follower.follow("a", next, Arc::new(curt.clone()), false);
    ms(10_000).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((5..60).contains(&asked), "asked {asked} times in 10 s");
}

#[test]
fn what_is_shown_of_an_endpoint_that_was_left_is_of_before() {
    let of = |endpoint: &str, path: &[&str]| Connection {
        network_service_endpoint_name: endpoint.to_owned(),
        path: Path {
            path_segments: path
                .iter()
                .map(|name| PathSegment {
                    name: (*name).to_owned(),
                    ..PathSegment::default()
                })
                .collect(),
            ..Path::default()
        }
        .into(),
        ..Connection::default()
    };
    for (shown, granted, path, before) in [
        (None, "a", &["nsc", "a"][..], false),
        (Some("a"), "a", &["nsc", "a"], false),
        (Some("b"), "a", &["nsc", "a"], true),
        // Nobody said which one.
        (Some(""), "a", &["nsc", "a"], false),
        (Some("b"), "", &["nsc", "a"], false),
        // A function on the way, what is behind it, and what was behind it.
        (Some("b"), "wall", &["nsc", "wall", "b"], false),
        (Some("c"), "wall", &["nsc", "wall", "b"], true),
    ] {
        let shown = shown.map(|name| of(name, &[]));
        let found = is_of_before(shown.as_ref(), &of(granted, path));
        assert_eq!(found, before, "{shown:?} {granted:?} {path:?}");
    }
}
