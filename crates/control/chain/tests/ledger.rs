//! A close that is owed outlives the role that owes it.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm_chain::{
    Call, Chain, Code, Connections, Element, Error, Expected, Journal, Noted, Struck, Target,
    Tasks, Transport,
    elements::{Connect, Ledger, Owed, Resolve, UpdatePath},
};
use nsm_model::ids::Secret;
use nsm_test_support::{Clock, Keys, Wire, order, roles, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";
const MINUTE: Duration = Duration::from_secs(60);

/// The records that outlive a role.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Journal for Disk {
    fn keep(&self, id: &str, record: Vec<u8>) {
        self.0.lock().unwrap().insert(id.to_owned(), record);
    }

    fn forget(&self, id: &str) -> Struck {
        self.0.lock().unwrap().remove(id);
        Struck::now()
    }
}

impl Disk {
    fn records(&self) -> Vec<(String, Vec<u8>)> {
        self.0.lock().unwrap().clone().into_iter().collect()
    }
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
        let (wire, disk) = (Wire::default(), Disk::default());
        let far = UpdatePath::new("far", Secret::new([1; 32]), spiffe("far"), roles());
        let far = Chain::new(vec![Box::new(far) as Box<dyn Element<Connections>>]);
        wire.attach(URL, spiffe("far"), far, None);
        let transport = wire.transport(Keys::new("own", Clock::default()));
        let (chain, tasks) = started(&disk, &transport, Expected::new(|_| Ok(())));
        let mut call = Call::local(Instant::now() + MINUTE * 60);
        call.scratch.put(Target::Url(URL.parse().unwrap()));
        let request = order("nsc", "id", "svc", Default::default());
        let answer = chain.request(&mut call, request).await.unwrap();
        wire.cut(URL);
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
        let (wire, disk) = (Wire::default(), Disk::default());
        let far = UpdatePath::new("far", Secret::new([1; 32]), spiffe("far"), roles());
        let far = Chain::new(vec![Box::new(far) as Box<dyn Element<Connections>>]);
        wire.attach(URL, spiffe("far"), far, None);
        let transport = wire.transport(Keys::new("own", Clock::default()));
        let (chain, tasks) = started(&disk, &transport, anybody());

        let mut call = Call::local(Instant::now() + MINUTE * 60);
        call.scratch.put(Target::Url(URL.parse().unwrap()));
        let request = order("nsc", "id", "svc", Default::default());
        let answer = chain.request(&mut call, request).await.unwrap();
        wire.cut(URL);
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
