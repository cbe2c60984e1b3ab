//! A close at a hop that is away: told when it is back, unless the connection is wanted again.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use nsm_chain::{Call, Chain, Connections, Element, Target, Tasks, elements::Connect};
use nsm_test_support::{Clock, Keys, Wire, order, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";
const MINUTE: Duration = Duration::from_secs(60);

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
        self.call.scratch.put(Target::Url(URL.parse().unwrap()));
        let request = order("nsc", "id", "svc", Default::default());
        self.chain.request(&mut self.call, request).await.unwrap();
    }

    /// Closes while the hop is away.
    async fn closed_in_vain(&mut self) {
        self.wire.cut(URL);
        let item = order("nsc", "id", "svc", Default::default()).connection;
        let item = item.into_option().unwrap();
        self.chain.close(&mut self.call, item).await.unwrap_err();
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
