//! `timeout`: a lease ends what nobody refreshes, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Next, Tasks, Tokens as _, begin::Begin,
    elements::Timeout,
};
use nsm_test_support::{Clock, Keys, Pipe, caller, jwt, order, spiffe};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// The last element: takes as long as it is told, fails when it is told.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<(Duration, bool, Vec<&'static str>)>>);

#[async_trait]
impl Element<Connections> for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    async fn request(
        &self,
        _: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        let (takes, fails) = {
            let mut state = self.0.lock().unwrap();
            state.2.push("request");
            (state.0, state.1)
        };
        sleep(takes).await;
        if fails {
            return Err(Error::new(Code::Unavailable, "told to fail"));
        }
        Ok(request.connection.into_option().unwrap())
    }

    async fn close(&self, _: &mut Call, _: Connection, _: Next<Connections>) -> Result<(), Error> {
        self.0.lock().unwrap().2.push("close");
        Ok(())
    }
}

struct World {
    chain: Chain<Connections>,
    last: Last,
    keys: Arc<Keys>,
}

impl World {
    fn new() -> Self {
        let (tasks, last) = (Tasks::new(), Last::default());
        let keys = Keys::new("own", Clock::default());
        let chain = Chain::new(vec![
            Box::new(Begin::new(tasks.clone())) as Box<dyn Element<Connections>>,
            Box::new(Timeout::new(keys.clone(), tasks)),
            Box::new(last.clone()),
        ]);
        Self { chain, last, keys }
    }

    /// A request with a token that lives so many seconds.
    async fn request(&self, seconds: u64) -> Result<Connection, Error> {
        let client = spiffe("client");
        let token = jwt(
            &client,
            &client,
            &spiffe("own"),
            self.keys.now() + SECOND * u32::try_from(seconds).unwrap(),
        );
        let caller = caller(&client, Arc::new(Pipe::default()));
        let mut call = Call::from(caller, Some(token), Instant::now() + SECOND * 60);
        self.chain
            .request(&mut call, order("nsc", "id", "svc", Default::default()))
            .await
    }

    fn log(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.last.0.lock().unwrap().2)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_once() {
    let world = World::new();
    world.request(10).await.unwrap();
    sleep(SECOND * 9).await;
    assert_eq!(world.log(), ["request"]);
    sleep(SECOND * 30).await;
    assert_eq!(world.log(), ["close"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_makes_another_lease_also_where_hops_further_on_are_away() {
    let world = World::new();
    world.request(10).await.unwrap();
    sleep(SECOND * 5).await;
    world.request(10).await.unwrap();
    sleep(SECOND * 9).await;
    assert_eq!(world.log(), ["request", "request"]);
    world.last.0.lock().unwrap().1 = true;
    world.request(20).await.unwrap_err();
    sleep(SECOND * 19).await;
    assert_eq!(world.log(), ["request"], "its client is there");
    sleep(SECOND * 2).await;
    assert_eq!(world.log(), ["close"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_fails_makes_none() {
    let world = World::new();
    world.last.0.lock().unwrap().1 = true;
    world.request(10).await.unwrap_err();
    sleep(SECOND * 30).await;
    assert_eq!(world.log(), ["request"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_under_way_when_the_lease_ends_saves_the_connection() {
    let world = World::new();
    world.request(10).await.unwrap();
    sleep(SECOND * 9).await;
    world.last.0.lock().unwrap().0 = SECOND * 3;
    world.request(20).await.unwrap();
    sleep(SECOND * 5).await;
    assert_eq!(world.log(), ["request", "request"]);
    sleep(SECOND * 30).await;
    assert_eq!(world.log(), ["close"]);
}

#[tokio::test(start_paused = true)]
async fn a_close_stops_the_clock() {
    let world = World::new();
    let item = world.request(10).await.unwrap();
    world
        .chain
        .close(&mut Call::local(Instant::now() + SECOND), item)
        .await
        .unwrap();
    sleep(SECOND * 30).await;
    assert_eq!(world.log(), ["request", "close"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_ends_while_there_is_no_identity_to_answer_with() {
    let world = World::new();
    world.request(10).await.unwrap();
    sleep(SECOND * 2).await;
    world.keys.break_signing();
    sleep(SECOND * 100).await;
    world.keys.mend_signing();
    sleep(SECOND * 6).await;
    assert_eq!(world.log(), ["request"], "its client could not ask again");
    sleep(SECOND * 5).await;
    assert_eq!(world.log(), ["close"]);
}

#[tokio::test(start_paused = true)]
async fn a_day_without_an_identity_is_too_long() {
    let world = World::new();
    world.request(10).await.unwrap();
    world.keys.break_signing();
    sleep(SECOND * 25 * 60 * 60).await;
    assert_eq!(world.log(), ["request", "close"]);
}
