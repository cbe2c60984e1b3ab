//! A close that is owed outlives the role that owes it.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use nsm_api::connection::Connection;
use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Expected, Noted, Target, Tasks, Transport,
    elements::{Connect, Ledger, Owed, Resolve, UpdatePath},
};
use nsm_model::ids::Secret;
use nsm_test_support::{Clock, Disk, Keys, Wire, order, roles, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";
const MINUTE: Duration = Duration::from_secs(60);

/// A wire with a hop further on.
fn wire() -> (Wire, Arc<dyn Transport>) {
    let wire = Wire::default();
    let far = UpdatePath::new("far", Secret::new([1; 32]), spiffe("far"), roles());
    let far = Chain::new(vec![Box::new(far) as Box<dyn Element<Connections>>]);
    wire.attach(URL, spiffe("far"), far, None);
    let transport = wire.transport(Keys::new("own", Clock::default()));
    (wire, transport)
}

/// What is granted over that hop, which is away since, and the call that asked.
async fn granted(wire: &Wire, chain: &Chain<Connections>) -> (Call, Connection) {
    let mut call = Call::local(Instant::now() + MINUTE * 60);
    call.scratch.put(Target::Url(URL.parse().unwrap()));
    let request = order("nsc", "id", "svc", Default::default());
    let answer = chain.request(&mut call, request).await.unwrap();
    wire.cut(URL);
    (call, answer)
}

/// A role's last element, as it is after each start; `expected` must answer.
fn started(
    disk: &Disk,
    transport: &Arc<dyn Transport>,
    expected: Expected,
) -> (Chain<Connections>, Tasks) {
    let tasks = Tasks::new();
    let noted = Noted {
        journal: Some(Arc::new(disk.clone())),
        known: disk.records(),
    };
    let ledger = Ledger::new(noted, expected, |_, _| {
        Resolve::new(|_| async { Err(Error::new(Code::NotFound, "not registered")) })
    });
    let owed = Owed::new(transport.clone(), tasks.clone()).journalled(ledger);
    let connect = Connect::new(transport.clone(), tasks.clone()).owing(owed);
    let list = vec![Box::new(connect) as Box<dyn Element<Connections>>];
    (Chain::new(list), tasks)
}

/// What a caller says is there is closed by the caller's tokens alone, which no record holds.
#[tokio::test(start_paused = true)]
async fn what_is_owed_on_a_callers_word_is_not_written_down() {
    for (asked, records) in [(true, 1), (false, 0)] {
        let (wire, transport) = wire();
        let disk = Disk::default();
        let (chain, tasks) = started(&disk, &transport, Expected::new(|_| Ok(())));
        let (mut call, answer) = granted(&wire, &chain).await;
        if !asked {
            call.store = Default::default();
        }
        chain.close(&mut call, answer).await.unwrap_err();
        assert_eq!((disk.records().len(), tasks.is_empty()), (records, false));
    }
}

fn closes(wire: &Wire) -> usize {
    let log = wire.take_log();
    log.iter().filter(|one| one.starts_with("close")).count()
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_started_again_still_owes() {
    let anybody = || Expected::new(|_| Ok(()));
    let registry: &'static [_] = &[nsm_policy::roles::Role::Registry];
    for (expected, paid) in [
        (anybody(), true),
        (Expected::role(&roles(), registry), false),
    ] {
        let (wire, transport) = wire();
        let disk = Disk::default();
        let (chain, tasks) = started(&disk, &transport, anybody());

        let (mut call, answer) = granted(&wire, &chain).await;
        chain.close(&mut call, answer).await.unwrap_err();
        let records = disk.records();
        assert_eq!(records.len(), 1);
        let record = String::from_utf8(records[0].1.clone()).unwrap();
        assert!(
            record.contains(r#""url":"tcp://10.0.0.9:5001""#),
            "{record}"
        );

        tasks.shutdown(Duration::ZERO).await;
        wire.mend(URL);
        let _before = wire.take_log();
        let (_chain, _tasks) = started(&disk, &transport, expected);
        sleep(MINUTE * 2).await;
        assert_eq!((closes(&wire) > 0, disk.records().is_empty()), (paid, paid));
    }
}
