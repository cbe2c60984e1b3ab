//! `begin`: one event at a time for each item, in order; nothing is left of what failed.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Next, Store, Tasks,
    begin::{Begin, Factory},
};
use nsm_test_support::order;
use tokio::time::{Instant, sleep};

/// What the last element does with the next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Do {
    Answer,
    Fail,
    Panic,
}

/// The last element: slow, scripted, and keeps a log with what each call found in its store.
#[derive(Default)]
struct Last {
    log: Mutex<Vec<String>>,
    script: Mutex<Vec<Do>>,
    busy: AtomicUsize,
    stores: Mutex<Vec<std::sync::Weak<Store>>>,
    factory: Mutex<Option<Factory<Connections>>>,
}

/// The most items in the test of a full table.
const LIMIT: usize = 8;

/// How long the last element takes.
const WORK: Duration = Duration::from_millis(100);

/// What a connection's store remembers: how many requests it has seen.
#[derive(Clone, Copy)]
struct Count(usize);

impl Last {
    async fn work(&self, what: &str, call: &Call) -> Result<(), Error> {
        assert_eq!(self.busy.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        let count = call.store.get::<Count>().map_or(1, |count| count.0 + 1);
        call.store.put(Count(count));
        self.log.lock().unwrap().push(format!("{what} #{count}"));
        self.stores
            .lock()
            .unwrap()
            .push(Arc::downgrade(&call.store));
        sleep(WORK).await;
        self.busy.fetch_sub(1, Ordering::SeqCst);
        let todo = self.script.lock().unwrap().pop().unwrap_or(Do::Answer);
        match todo {
            Do::Answer => Ok(()),
            Do::Fail => Err(Error::new(Code::Unavailable, "told to fail")),
            Do::Panic => panic!("told to panic"),
        }
    }
}

struct Shared(Arc<Last>);

#[async_trait]
impl Element<Connections> for Shared {
    fn name(&self) -> &'static str {
        "last"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        *self.0.factory.lock().unwrap() = Factory::of(call).ok();
        let what = format!("request {}", request.connection.payload);
        self.0.work(&what, call).await?;
        Ok(request.connection.into_option().unwrap_or_default())
    }

    async fn close(
        &self,
        call: &mut Call,
        item: Connection,
        _: Next<Connections>,
    ) -> Result<(), Error> {
        self.0.work(&format!("close {}", item.payload), call).await
    }
}

struct World {
    chain: Chain<Connections>,
    last: Arc<Last>,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let (tasks, last) = (Tasks::new(), Arc::new(Last::default()));
        let chain = Chain::new(vec![
            Box::new(Begin::new(tasks.clone())) as Box<dyn Element<Connections>>,
            Box::new(Shared(Arc::clone(&last))),
        ]);
        Self { chain, last, tasks }
    }

    /// Asks as `who` (told by the payload), waiting so many milliseconds.
    async fn request(&self, who: &str, wait_ms: u64) -> Result<Connection, Error> {
        let mut call = Call::local(Instant::now() + Duration::from_millis(wait_ms));
        self.chain.request(&mut call, ask(who)).await
    }

    async fn close(&self, who: &str) -> Result<(), Error> {
        let mut call = Call::local(Instant::now() + Duration::from_secs(10));
        let item = ask(who).connection.into_option().unwrap_or_default();
        self.chain.close(&mut call, item).await
    }

    fn script(&self, script: &[Do]) {
        *self.last.script.lock().unwrap() = script.iter().rev().copied().collect();
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.last.log.lock().unwrap())
    }

    fn factory(&self) -> Factory<Connections> {
        self.last.factory.lock().unwrap().clone().unwrap()
    }

    /// Stores that somebody still holds: one for each item in the table.
    fn alive(&self) -> usize {
        let stores = self.last.stores.lock().unwrap();
        let mut alive: Vec<_> = stores.iter().filter_map(std::sync::Weak::upgrade).collect();
        alive.sort_by_key(|store| Arc::as_ptr(store) as usize);
        alive.dedup_by_key(|store| Arc::as_ptr(store) as usize);
        alive.len()
    }
}

fn ask(who: &str) -> NetworkServiceRequest {
    let mut request = order("nsc", "id-0", "svc", Default::default());
    request.connection.get_or_insert_default().payload = who.to_owned();
    request
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_in_order() {
    let world = World::new();
    let (a, b, c, d) = tokio::join!(
        world.request("a", 5_000),
        world.request("b", 5_000),
        world.close("c"),
        world.request("d", 5_000),
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok());
    // The close ends what a and b were; d begins anew. A close names the answer that is known.
    assert_eq!(
        world.log(),
        ["request a #1", "request b #2", "close b #3", "request d #1"]
    );
    assert_eq!(world.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_gave_up_in_the_queue_is_never_executed() {
    let world = World::new();
    let (first, second, third) = tokio::join!(
        world.request("first", 5_000),
        world.request("no patience", 50),
        tokio::time::timeout(Duration::from_millis(70), world.request("dropped", 5_000)),
    );
    assert!(first.is_ok() && third.is_err());
    let error = second.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(error.message.contains("id-0"), "{error}");
    sleep(WORK * 10).await;
    assert_eq!(world.log(), ["request first #1"]);
}

#[tokio::test(start_paused = true)]
async fn who_gave_up_while_executed_leaves_nothing_half_done() {
    let world = World::new();
    let dropped = tokio::time::timeout(WORK / 2, world.request("dropped", 5_000)).await;
    assert!(dropped.is_err());
    world.request("retry", 5_000).await.unwrap();
    assert_eq!(world.log(), ["request dropped #1", "request retry #2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_each_outcome() {
    use Do::{Answer, Fail, Panic};
    // What happens in turn, and how many items are left then.
    let table: &[(&[Do], usize)] = &[
        (&[Answer], 1),
        (&[Fail], 0),
        (&[Panic], 0),
        (&[Answer, Fail], 1),
        (&[Answer, Panic], 1),
        (&[Fail, Answer], 1),
        (&[Panic, Answer], 1),
    ];
    for (script, left) in table {
        let world = World::new();
        world.script(script);
        for todo in *script {
            let answer = world.request("x", 5_000).await;
            assert_eq!(answer.is_ok(), *todo == Answer, "{script:?}");
            if let (Err(error), Panic) = (&answer, todo) {
                assert!(
                    error.code == Code::Internal && error.message.contains("id-0"),
                    "{error}"
                );
            }
        }
        assert_eq!(world.alive(), *left, "{script:?}");
        // A panic is fenced: the id works on.
        world.request("after", 5_000).await.unwrap();
        world.close("after").await.unwrap();
        assert_eq!(world.alive(), 0, "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_close_ends_the_item_and_an_unknown_one_goes_on() {
    let world = World::new();
    world.close("nobody's").await.unwrap();
    assert_eq!(
        (world.log(), world.alive()),
        (vec!["close nobody's #1".to_owned()], 0)
    );
    world.request("a", 5_000).await.unwrap();
    world.script(&[Do::Fail]);
    assert_eq!(world.close("b").await.unwrap_err().code, Code::Unavailable);
    assert_eq!(world.alive(), 0);
    // One that panics can be tried again with what is known.
    world.request("a", 5_000).await.unwrap();
    world.script(&[Do::Panic]);
    world.close("b").await.unwrap_err();
    world.log();
    world.close("b").await.unwrap();
    assert_eq!(
        (world.log(), world.alive()),
        (vec!["close a #3".to_owned()], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_factory_acts_in_its_turn_on_what_is_there() {
    let world = World::new();
    world.request("a", 5_000).await.unwrap();
    let factory = world.factory();
    let again = factory.again(later(), |request| {
        request.connection.get_or_insert_default().payload = "changed".to_owned();
    });
    let (again, queued) = tokio::join!(again, world.request("queued", 5_000));
    assert!(again.unwrap().is_some() && queued.is_ok());
    assert_eq!(
        world.log(),
        ["request a #1", "request changed #2", "request queued #3"]
    );
    factory.close_if(later(), || false).await.unwrap();
    assert_eq!((world.log(), world.alive()), (vec![], 1));
    factory.close(later()).await.unwrap();
    assert_eq!(
        (world.log(), world.alive()),
        (vec!["close queued #4".to_owned()], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_factory_of_what_is_gone_does_nothing_and_leaves_nothing() {
    let world = World::new();
    world.request("a", 5_000).await.unwrap();
    let factory = world.factory();
    // While it is being closed, and after.
    let (closed, again, closed_again, settled) = tokio::join!(
        world.close("a"),
        factory.again(later(), |_| {}),
        factory.close(later()),
        factory.settled(later()),
    );
    assert!(closed.is_ok() && closed_again.is_ok() && settled.is_ok());
    assert!(again.unwrap().is_none());
    assert_eq!(world.log(), ["request a #1", "close a #2"]);
    assert!(factory.again(later(), |_| {}).await.unwrap().is_none());
    factory.close(later()).await.unwrap();
    factory.settled(later()).await.unwrap();
    assert_eq!((world.log(), world.alive()), (vec![], 0));
}

/// Elements keep factories in what they hold of each item.
#[tokio::test(start_paused = true)]
async fn a_role_that_has_ended_is_not_kept_by_its_elements_factories() {
    let world = World::new();
    world.request("a", 5_000).await.unwrap();
    let factory = world.factory();
    let World { chain, last, tasks } = world;
    tasks.shutdown(WORK).await;
    let last = {
        let weak = Arc::downgrade(&last);
        drop((chain, last));
        weak
    };
    assert!(last.upgrade().is_none(), "it is kept");
    assert!(factory.again(later(), |_| {}).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn settled_waits_for_whoever_works() {
    let world = World::new();
    world.request("a", 5_000).await.unwrap();
    let factory = world.factory();
    let began = Instant::now();
    let (_, settled) = tokio::join!(world.request("b", 5_000), async {
        sleep(WORK / 10).await;
        factory.settled(later()).await.map(|()| began.elapsed())
    });
    assert!(settled.unwrap() >= WORK);
    let (_, settled) = tokio::join!(world.request("c", 5_000), async {
        sleep(WORK / 10).await;
        factory.settled(Instant::now() + WORK / 10).await
    });
    assert_eq!(settled.unwrap_err().code, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_full_table_takes_no_more_but_lets_go() {
    let chain = Chain::new(vec![
        Box::new(Begin::<Connections>::limited(Tasks::new(), LIMIT))
            as Box<dyn Element<Connections>>,
    ]);
    let ask = |id: String| order("nsc", &id, "svc", Default::default());
    for n in 0..LIMIT {
        chain
            .request(&mut Call::local(later()), ask(n.to_string()))
            .await
            .unwrap();
    }
    let close = async |id: &str| {
        let item = ask(id.to_owned()).connection.into_option().unwrap();
        chain.close(&mut Call::local(later()), item).await
    };
    let refused = async || {
        chain
            .request(&mut Call::local(later()), ask("more".to_owned()))
            .await
    };
    let error = refused().await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.message.contains(&LIMIT.to_string()), "{error}");
    // A refresh of what is there goes on, and so does a close, known or not.
    chain
        .request(&mut Call::local(later()), ask("0".to_owned()))
        .await
        .unwrap();
    close("unknown").await.unwrap();
    assert!(refused().await.is_err());
    close("0").await.unwrap();
    refused().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_id_is_refused() {
    let world = World::new();
    let mut request = ask("a");
    request.connection.get_or_insert_default().id.clear();
    let error = world
        .chain
        .request(&mut Call::local(later()), request)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
}
