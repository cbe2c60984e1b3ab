//! A role that ends at any time and begins again with its journal: the same items, nobody asked.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{
    connection::{Connection, PathSegment, State},
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Journal, Kept, Next, Own, Restored, Target,
    Tasks, Tokens as _,
    begin::{Begin, Noting},
    elements::{Downstream, Interest, Monitor, Suspension, Table as _, Timeout},
    restore,
};
use nsm_model::{ids::ConnectionKey, url::EndpointUrl};
use nsm_test_support::{Clock, Disk, Keys, Pipe, Watched, Wire, caller, jwt, order, roles, spiffe};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// What the last element notes: how often it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Asked(u32);

impl Kept for Asked {
    const NAME: &'static str = "last";
}

/// Who is asked last: says what reached it, and what it knew of the connection; it goes on to
/// `unix:///next`.
#[derive(Clone, Default)]
struct Last {
    log: Arc<Mutex<Vec<String>>>,
    fails: Arc<AtomicBool>,
    /// It notes what it has taken back, and goes no further.
    stalls: Arc<AtomicBool>,
}

#[async_trait]
impl Element<Connections> for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        let asked = call.store.kept::<Asked>().map_or(1, |asked| asked.0 + 1);
        call.store.keep(Asked(asked));
        self.log.lock().unwrap().push(format!("request {asked}"));
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unavailable, "told to fail"));
        }
        let next = Target::Url(EndpointUrl::parse("unix:///next"));
        call.store.put(Downstream::at(next, None, None));
        Ok(request.connection.into_option().unwrap())
    }

    async fn close(
        &self,
        call: &mut Call,
        connection: Connection,
        _: Next<Connections>,
    ) -> Result<(), Error> {
        let asked = call.store.take_kept::<Asked>().map_or(0, |asked| asked.0);
        let token = &connection.path.path_segments[0].token;
        let token = if token.is_empty() {
            "no token"
        } else {
            "token"
        };
        self.log
            .lock()
            .unwrap()
            .push(format!("close {asked} {token}"));
        if self.stalls.load(Ordering::SeqCst) {
            Noting::note(call).await;
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Gives each call the same own connection, as `updatepath` would.
struct Ours;

#[async_trait]
impl Element<Connections> for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        next: Next<Connections>,
    ) -> Result<Connection, Error> {
        call.own = Some(Own {
            key: ConnectionKey {
                owner: spiffe("client"),
                id: "id".to_owned(),
            },
            id: "id".to_owned(),
            index: 1,
        });
        next.request(call, request).await
    }
}

/// One life of a role.
struct Life {
    chain: Chain<Connections>,
    table: Arc<Watched>,
    last: Last,
    keys: Arc<Keys>,
    tasks: Tasks,
}

impl Life {
    fn new(disk: &Disk, clock: Clock) -> Self {
        Self::on(&Wire::default(), disk, clock)
    }

    /// A role whose connections go to `unix:///next` on this wire.
    fn on(wire: &Wire, disk: &Disk, clock: Clock) -> Self {
        let (tasks, last) = (Tasks::new(), Last::default());
        let (keys, table) = (Keys::new("own", clock), Arc::new(Watched::default()));
        let transport = wire.transport(Arc::clone(&keys));
        let suspension = Suspension::new("own", keys.clone(), table.clone(), transport, roles());
        let journal: Arc<dyn Journal> = Arc::new(disk.clone());
        let chain = Chain::new(vec![
            Box::new(Ours) as Box<dyn Element<Connections>>,
            Box::new(Begin::noting(tasks.clone(), Some(journal))),
            Box::new(Timeout::new(keys.clone(), tasks.clone()).suspending(suspension)),
            Box::new(Monitor::last(table.clone())),
            Box::new(last.clone()),
        ]);
        Self {
            chain,
            table,
            last,
            keys,
            tasks,
        }
    }

    /// Asks as this peer, with a token for so many seconds.
    async fn request(&self, who: &str, seconds: u32) -> Result<Connection, Error> {
        let peer = spiffe(who);
        let token = jwt(
            &peer,
            &peer,
            &spiffe("own"),
            self.keys.now() + SECOND * seconds,
        );
        let mut request = order("nsc", "id", "svc", Default::default());
        let path = request.connection.get_or_insert_default();
        let path = path.path.get_or_insert_default();
        path.path_segments[0].token = token.jwt.clone();
        path.path_segments.push(PathSegment {
            name: "own".to_owned(),
            id: "id".to_owned(),
            token: "secret".to_owned(),
            ..Default::default()
        });
        let caller = caller(&peer, Arc::new(Pipe::default()));
        let mut call = Call::from(caller, Some(token), Instant::now() + SECOND * 60);
        self.chain.request(&mut call, request).await
    }

    /// The process is killed: nothing of it runs on.
    async fn killed(self) {
        self.tasks.shutdown(SECOND).await;
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.last.log.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_up_what_was_agreed_and_asks_nobody() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let life = Life::new(&disk, clock);
    let answer = life.request("client", 10).await.unwrap();
    life.killed().await;
    let record = String::from_utf8(disk.records()[0].1.clone()).unwrap();
    let token = &answer.path.path_segments[0].token;
    assert!(!record.contains(token.as_str()), "a token is a secret");
    // Three times as long as the lease.
    sleep(SECOND * 30).await;
    let life = Life::new(&disk, clock);
    let restored = restore(&life.chain, disk.records()).await;
    assert_eq!(
        restored,
        Restored {
            taken: 1,
            ..Restored::default()
        }
    );
    assert!(life.log().is_empty(), "nobody was asked");
    let shown = life.table.get("id").unwrap();
    assert_eq!(shown.state, State::UP);
    assert!(life.table.sees("id", &spiffe("client")));
    sleep(SECOND * 9).await;
    assert!(life.log().is_empty(), "its lease began anew");
    life.request("client", 10).await.unwrap();
    assert_eq!(life.log(), ["request 2"], "what was noted is known");
    life.chain
        .close(&mut Call::local(Instant::now() + SECOND), answer)
        .await
        .unwrap();
    assert_eq!(life.log(), ["close 2 token"]);
    assert!(disk.records().is_empty(), "struck");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_after_a_restart_is_closed_within_its_lease() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let life = Life::new(&disk, clock);
    life.request("client", 10).await.unwrap();
    life.killed().await;
    let life = Life::new(&disk, clock);
    restore(&life.chain, disk.records()).await;
    sleep(SECOND * 11).await;
    assert_eq!(life.log(), ["close 1 no token"]);
    assert!(disk.records().is_empty());
}

/// What it has noted says that there is less to make again, and not that it would never end.
#[tokio::test(start_paused = true)]
async fn what_a_restart_finds_half_closed_ends_with_its_lease() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let life = Life::new(&disk, clock);
    let granted = life.request("client", 10).await.unwrap();
    life.last.stalls.store(true, Ordering::SeqCst);
    let mut call = Call::local(Instant::now() + SECOND);
    let closed = timeout(SECOND, life.chain.close(&mut call, granted)).await;
    assert!(closed.is_err(), "it stalls");
    life.killed().await;
    let life = Life::new(&disk, clock);
    let restored = restore(&life.chain, disk.records()).await;
    assert_eq!(restored.taken, 1);
    sleep(SECOND * 9).await;
    assert_eq!(life.log(), Vec::<String>::new());
    sleep(SECOND * 2).await;
    assert_eq!(life.log(), ["close 0 no token"]);
}

#[tokio::test(start_paused = true)]
async fn a_close_after_a_restart_carries_the_tokens_that_it_brings() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let life = Life::new(&disk, clock);
    let answer = life.request("client", 10).await.unwrap();
    life.killed().await;
    let life = Life::new(&disk, clock);
    restore(&life.chain, disk.records()).await;
    let mut call = Call::local(Instant::now() + SECOND);
    life.chain.close(&mut call, answer).await.unwrap();
    assert_eq!(life.log(), ["close 1 token"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_keeps_no_other_from_being_taken_up() {
    let (disk, clock) = (Disk::default(), Clock::default());
    let life = Life::new(&disk, clock);
    life.request("client", 10).await.unwrap();
    life.killed().await;
    let mut records = disk.records();
    let known = String::from_utf8(records[0].1.clone()).unwrap();
    for (from, to) in [
        ("{", "["),
        ("spiffe://", "http://"),
        ("\"item\":\"", "\"item\":\"%%%"),
        ("\"request\":\"", "\"request\":\"////"),
    ] {
        let broken = known.replacen(from, to, 1).into_bytes();
        records.push((format!("broken {from}"), broken));
    }
    let life = Life::new(&disk, clock);
    let restored = restore(&life.chain, records).await;
    assert_eq!((restored.taken, restored.unreadable), (1, 4));
}

/// Who brought it, what it does about it (from which second on), and when it is closed.
#[tokio::test(start_paused = true)]
async fn a_lease_of_a_hop_is_suspended_while_it_is_away() {
    use Interest::{Away, Holds, Watches};
    type Row<'a> = (&'a str, &'a [(u64, Interest)], Option<u64>);
    let rows: [Row<'_>; 9] = [
        ("client", &[(0, Away)], Some(10)),
        ("manager-1", &[(0, Watches)], Some(35)),
        // Its token was younger than ours.
        ("manager-1", &[(0, Watches), (20, Holds)], None),
        ("manager-1", &[(0, Away)], None),
        ("manager-1", &[(0, Holds)], None),
        // It held until its own hop came back and disowned it.
        ("manager-1", &[(0, Holds), (60, Watches)], Some(85)),
        ("manager-1", &[(0, Away), (60, Watches)], Some(85)),
        ("manager-1", &[(0, Away), (60, Watches), (65, Holds)], None),
        // It was started again, and its lease is twice ours.
        ("manager-1", &[(0, Away), (60, Watches), (80, Holds)], None),
    ];
    for (who, does, closed) in rows {
        let disk = Disk::default();
        let life = Life::new(&disk, Clock::default());
        life.request(who, 10).await.unwrap();
        life.log();
        let began = Instant::now();
        let mut found = None;
        for second in 0..200 {
            for (_, interest) in does.iter().filter(|(at, _)| *at == second) {
                life.table.says("id", &spiffe(who), *interest);
            }
            sleep(SECOND).await;
            if !life.log().is_empty() {
                found.get_or_insert(began.elapsed().as_secs());
            }
        }
        let near = match (found, closed) {
            (Some(found), Some(closed)) => found.abs_diff(closed) <= 3,
            (found, closed) => found == closed,
        };
        assert!(near, "{who} {does:?}: closed at {found:?}, not {closed:?}");
        life.killed().await;
    }
}

/// The hop further on has a lease of its own, which nobody has prolonged.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_longer_than_the_next_hops_is_held_there() {
    let (wire, next) = (Wire::default(), Arc::new(Watched::default()));
    let empty = || Chain::new(vec![]);
    wire.attach("unix:///next", spiffe("next"), empty(), Some(next.clone()));
    let life = Life::on(&wire, &Disk::default(), Clock::default());
    // Who asks, whether that reaches the next hop, whether we have an identity; how many hold 5 s
    // later.
    let rows = [
        ("client", true, true, 0),
        ("client", false, true, 1),
        ("client", false, true, 1),
        ("client", true, true, 0),
        ("manager-1", true, true, 0),
        ("manager-1", false, true, 1),
        ("manager-1", true, true, 0),
        // It cannot say anything, and says so when it can.
        ("manager-1", true, false, 0),
        ("manager-1", true, true, 0),
    ];
    for (number, (who, reached, speaks, holds)) in rows.into_iter().enumerate() {
        life.last.fails.store(!reached, Ordering::SeqCst);
        let asked = life.request(who, 10).await;
        assert_eq!(asked.is_ok(), reached, "{number}");
        if !speaks {
            life.keys.break_signing();
        }
        sleep(SECOND * 5).await;
        assert_eq!(next.watchers(), holds, "{number}: {who}");
        life.keys.mend_signing();
        if !speaks {
            sleep(SECOND * 5).await;
            assert_eq!(next.watchers(), 1, "{number}: its lease has begun anew");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_in_doubt_for_ever() {
    let life = Life::new(&Disk::default(), Clock::default());
    life.request("manager-1", 10).await.unwrap();
    life.table.says("id", &spiffe("manager-1"), Interest::Away);
    sleep(SECOND * 60 * 60 * 25).await;
    assert_eq!(life.log(), ["request 1", "close 1 token"]);
}
