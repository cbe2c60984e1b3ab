//! A close at a hop that is away: told when it is back, unless the connection is wanted again.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Expected, Next, Target, Tasks,
    elements::{Connect, Monitor, Owed, Resolve, UpdatePath},
};
use nsm_model::ids::Secret;
use nsm_test_support::{Book, Clock, Keys, Watched, Wire, order, roles, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";
const DEAF: &str = "tcp://10.0.0.8:5001";
const LOCAL: &str = "unix:///run/deaf.sock";
const MINUTE: Duration = Duration::from_secs(60);

/// Does what it is asked, and its answers are lost.
struct Lost;

#[async_trait]
impl Element<Connections> for Lost {
    fn name(&self) -> &'static str {
        "lost"
    }

    async fn request(
        &self,
        _: &mut Call,
        _: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        Err(Error::new(Code::Unavailable, "the answer is lost"))
    }
}

struct World {
    wire: Wire,
    chain: Chain<Connections>,
    call: Call,
    tasks: Tasks,
}

impl World {
    /// With a connection that the far hop has.
    async fn connected() -> Self {
        let (wire, tasks) = (Wire::default(), Tasks::new());
        wire.attach(URL, spiffe("far"), Chain::new(Vec::new()), None);
        let deaf = Chain::new(vec![Box::new(Lost) as Box<dyn Element<Connections>>]);
        wire.attach(DEAF, spiffe("deaf"), deaf, None);
        let transport = wire.transport(Keys::new("own", Clock::default()));
        let connect = Connect::new(transport, tasks.clone());
        let chain = Chain::new(vec![Box::new(connect) as Box<dyn Element<Connections>>]);
        let mut world = Self {
            wire,
            chain,
            call: Call::local(Instant::now() + MINUTE * 60),
            tasks,
        };
        world.ask().await;
        world
    }

    async fn ask(&mut self) {
        self.ask_at(URL).await.unwrap();
    }

    async fn ask_at(&mut self, url: &str) -> Result<Connection, Error> {
        self.call.scratch.put(Target::Url(url.parse().unwrap()));
        let request = order("nsc", "id", "svc", Default::default());
        self.chain.request(&mut self.call, request).await
    }

    /// Closes while the hop is away.
    async fn closed_in_vain(&mut self) {
        self.wire.cut(URL);
        let item = order("nsc", "id", "svc", Default::default()).connection;
        let item = item.into_option().unwrap();
        let told = self.chain.close(&mut self.call, item).await.unwrap_err();
        assert_eq!(told.code, Code::Unavailable, "{told}");
        assert!(told.retry_after.is_some(), "it is owed here: {told}");
        let _before = self.wire.take_log();
    }

    fn closes(&self) -> usize {
        let log = self.wire.take_log();
        log.iter().filter(|call| call.starts_with("close")).count()
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_when_the_hop_is_back() {
    let mut world = World::connected().await;
    world.closed_in_vain().await;
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0, "nobody is there");
    world.wire.mend(URL);
    sleep(MINUTE).await;
    assert_eq!(world.closes(), 1);
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0);
    assert!(world.tasks.is_empty(), "nothing is owed any more");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_wanted_again_is_not_closed() {
    let mut world = World::connected().await;
    world.closed_in_vain().await;
    world.wire.mend(URL);
    world.ask().await;
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0);
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_day_later_it_is_given_up() {
    let mut world = World::connected().await;
    world.closed_in_vain().await;
    sleep(MINUTE * 60 * 25).await;
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hop_whose_answer_was_lost_is_closed_where_the_connection_goes_another_way() {
    let mut world = World::connected().await;
    world.ask_at(DEAF).await.unwrap_err();
    world.ask().await;
    let _before = world.wire.take_log();
    sleep(MINUTE).await;
    let log = world.wire.take_log();
    let closes: Vec<_> = log.iter().filter(|one| one.starts_with("close")).collect();
    assert_eq!(closes, [&format!("close {DEAF}")]);
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_on_the_way_it_goes_closes_nothing() {
    let mut world = World::connected().await;
    let deaf = Chain::new(vec![Box::new(Lost) as Box<dyn Element<Connections>>]);
    world.wire.attach(URL, spiffe("far"), deaf, None);
    world.ask_at(URL).await.unwrap_err();
    let _before = world.wire.take_log();
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0);
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_first_request_fails_closes_nothing() {
    let mut world = World::connected().await;
    // As after its restart: the hop may still have what it had before.
    world.call.store = Default::default();
    world.ask_at(DEAF).await.unwrap_err();
    let _before = world.wire.take_log();
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0);
    assert!(world.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_close_is_owed_whichever_way_the_connection_goes_now() {
    let mut world = World::connected().await;
    world.closed_in_vain().await;
    world
        .wire
        .attach(DEAF, spiffe("other"), Chain::new(Vec::new()), None);
    world.ask_at(DEAF).await.unwrap();
    world.wire.mend(URL);
    let _before = world.wire.take_log();
    sleep(MINUTE * 2).await;
    let log = world.wire.take_log();
    let closes: Vec<_> = log.iter().filter(|one| one.starts_with("close")).collect();
    assert_eq!(closes, [&format!("close {URL}")]);
}

#[tokio::test(start_paused = true)]
async fn a_close_tells_of_what_is_owed_elsewhere_or_pays_it() {
    for (back, answers) in [(false, false), (true, true)] {
        let mut world = World::connected().await;
        world.closed_in_vain().await;
        let other = Chain::new(Vec::new());
        world.wire.attach(DEAF, spiffe("other"), other, None);
        world.ask_at(DEAF).await.unwrap();
        if back {
            world.wire.mend(URL);
        }
        world.call.scratch = Default::default();
        let item = order("nsc", "id", "svc", Default::default()).connection;
        let item = item.into_option().unwrap();
        let closed = world.chain.close(&mut world.call, item).await;
        assert_eq!(closed.is_ok(), answers, "{closed:?}");
        assert_eq!(world.closes(), if back { 2 } else { 1 });
    }
}

/// No link is an endpoint's: that one was away keeps nobody's Close from being whole, not even
/// where it died with an answer on its lips.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_died_keeps_no_close_from_being_whole() {
    for (endpoint, whole) in [("deaf", true), ("another", false)] {
        let mut world = World::connected().await;
        let deaf = Chain::new(vec![Box::new(Lost) as Box<dyn Element<Connections>>]);
        world.wire.attach(LOCAL, spiffe("deaf"), deaf, None);
        let anybody = |_: &_| Expected::new(|_| Ok(()));
        let found = Resolve::endpoint(Arc::<Book>::default(), "deaf".to_owned(), anybody);
        world.call.scratch.put(found);
        world.call.scratch.put(Target::Url(LOCAL.parse().unwrap()));
        let mut request = order("nsc", "id", "svc", Default::default());
        let connection = request.connection.get_or_insert_default();
        endpoint.clone_into(&mut connection.network_service_endpoint_name);
        world
            .chain
            .request(&mut world.call, request)
            .await
            .unwrap_err();
        world.wire.cut(LOCAL);
        world.call.scratch = Default::default();
        let item = order("nsc", "id", "svc", Default::default()).connection;
        let item = item.into_option().unwrap();
        let closed = world.chain.close(&mut world.call, item).await;
        assert_eq!(closed.is_ok(), whole, "{endpoint}: {closed:?}");
    }
}

/// Owes what is left further on.
struct Owes;

#[async_trait]
impl Element<Connections> for Owes {
    fn name(&self) -> &'static str {
        "owes"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        next.request(call, request).await
    }

    async fn close(&self, _: &mut Call, _: Connection, _: Next<Connections>) -> Result<(), Error> {
        Err(Error {
            retry_after: Some(MINUTE),
            ..Error::new(Code::Unavailable, "the next one is away")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_hop_owes_itself_nobody_owes_that_hop() {
    let mut world = World::connected().await;
    let owes = Chain::new(vec![Box::new(Owes) as Box<dyn Element<Connections>>]);
    world.wire.attach(URL, spiffe("far"), owes, None);
    let item = order("nsc", "id", "svc", Default::default()).connection;
    let item = item.into_option().unwrap();
    let told = world.chain.close(&mut world.call, item).await.unwrap_err();
    assert_eq!(told.retry_after, Some(MINUTE));
    assert_eq!(world.closes(), 1);
    sleep(MINUTE * 10).await;
    assert_eq!(world.closes(), 0);
    assert!(world.tasks.is_empty());
}

/// Closes of what never was, at hops that the caller has made up.
#[tokio::test(start_paused = true)]
async fn whoever_makes_hops_up_takes_no_places() {
    let mut world = World::connected().await;
    world.wire.cut(DEAF);
    let mut owed = 0;
    for n in 0..5_000 {
        let mut call = Call::local(Instant::now() + MINUTE);
        call.scratch.put(Target::Url(DEAF.parse().unwrap()));
        let item = order("nsc", &format!("none-{n}"), "svc", Default::default()).connection;
        let item = item.into_option().unwrap();
        let told = world.chain.close(&mut call, item).await.unwrap_err();
        owed += usize::from(told.retry_after.is_some());
    }
    assert_eq!(owed, 64);
    world.closed_in_vain().await;
}

/// Chooses no next hop.
struct Refuses;

#[async_trait]
impl Element<Connections> for Refuses {
    fn name(&self) -> &'static str {
        "refuses"
    }

    async fn request(
        &self,
        _: &mut Call,
        _: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        Err(Error::new(Code::Unavailable, "no forwarder yet"))
    }
}

/// Its packets may flow at the hop that still has it.
#[tokio::test(start_paused = true)]
async fn what_somebody_asks_for_in_vain_is_not_closed_meanwhile() {
    let mut world = World::connected().await;
    let transport = world.wire.transport(Keys::new("own", Clock::default()));
    let owed = Owed::new(transport.clone(), world.tasks.clone());
    let monitor = || Monitor::last(Arc::<Watched>::default()).owing(owed.clone());
    let connect = Connect::new(transport, world.tasks.clone()).owing(owed.clone());
    let list: Vec<Box<dyn Element<Connections>>> = vec![Box::new(monitor()), Box::new(connect)];
    world.chain = Chain::new(list);
    world.closed_in_vain().await;
    world.wire.mend(URL);
    let refuses = Chain::new(vec![
        Box::new(monitor()) as Box<dyn Element<Connections>>,
        Box::new(Refuses),
    ]);
    for _ in 0..30 {
        let request = order("nsc", "id", "svc", Default::default());
        refuses.request(&mut world.call, request).await.unwrap_err();
        sleep(MINUTE / 6).await;
    }
    assert_eq!(world.closes(), 0);
    sleep(MINUTE).await;
    assert_eq!(world.closes(), 1);
}

/// Takes its time.
struct Slow(Duration);

#[async_trait]
impl Element<Connections> for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        sleep(self.0).await;
        next.request(call, request).await
    }
}

/// The Close that follows a move is not sent into a request that goes back there.
#[tokio::test(start_paused = true)]
async fn a_connection_that_goes_back_is_not_closed_behind() {
    let mut world = World::connected().await;
    for (url, name) in [(URL, "a"), (DEAF, "b")] {
        let path = UpdatePath::new(name, Secret::new([1; 32]), spiffe(name), roles());
        let list: Vec<Box<dyn Element<Connections>>> =
            vec![Box::new(path), Box::new(Slow(MINUTE / 60))];
        world.wire.attach(url, spiffe(name), Chain::new(list), None);
    }
    world.ask_at(URL).await.unwrap();
    let _before = world.wire.take_log();
    for url in [DEAF, URL] {
        world.ask_at(url).await.unwrap();
    }
    sleep(MINUTE).await;
    let log = world.wire.take_log();
    let closes: Vec<_> = log.iter().filter(|one| one.starts_with("close")).collect();
    assert_eq!(closes, [&format!("close {DEAF}")]);
}
