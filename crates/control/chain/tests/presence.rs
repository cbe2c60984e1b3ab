//! A role that was started again stays with the peers that it had asked, when it can and for as
//! long as they may have something of it.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{sync::Arc, time::Duration};

use nsm_api::connection::Connection;
use nsm_chain::{
    Chain, Code, Error, Noted, Target, Tasks, Transport,
    elements::{Downstream, Resolve},
    follow::{Change, Follower, Sink, Stay},
};
use nsm_test_support::{Book, Clock, Keys, LIFE, Watched, Wire, spiffe};
use tokio::time::{Instant, sleep};

const URL: &str = "tcp://10.0.0.9:5001";

struct Nobody;

impl Sink for Nobody {
    fn changed(&self, _: &str, _: Change, _: Option<&Connection>) {}

    fn seen(&self, _: &str, _: &Connection) {}
}

/// A role with this record of a peer, and how many watch that peer.
fn started(record: &str) -> (Follower, Arc<Watched>) {
    let (follower, table, ..) = world(record);
    (follower, table)
}

fn world(record: &str) -> (Follower, Arc<Watched>, Wire, Arc<dyn Transport>) {
    let (wire, table) = (Wire::default(), Arc::new(Watched::default()));
    wire.attach(
        URL,
        spiffe("far"),
        Chain::new(Vec::new()),
        Some(table.clone()),
    );
    let keys = Keys::new("own", Clock::default());
    let transport = wire.transport(keys.clone());
    let follower = Follower::new("own", transport.clone(), Tasks::new(), Arc::new(Nobody));
    let follower = follower.staying(Stay {
        tokens: keys,
        directory: Arc::new(Book::default()),
        peers: Noted {
            journal: None,
            known: vec![(URL.to_owned(), record.as_bytes().to_vec())],
        },
    });
    (follower, table, wire, transport)
}

async fn secs(secs: u64) {
    sleep(Duration::from_secs(secs)).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_before_is_watched_until_all_that_it_may_have_has_ended() {
    let rows = [
        (format!(r#"{{"name":null,"url":"{URL}"}}"#), 1),
        // Written by a later version.
        (format!(r#"{{"name":null,"url":"{URL}","more":1}}"#), 1),
        (r#"{"name":"nobody","url":null}"#.to_owned(), 0),
        ("damaged".to_owned(), 0),
    ];
    for (record, watchers) in rows {
        let (_follower, table) = started(&record);
        secs(20).await;
        assert_eq!(table.watchers(), watchers, "{record}");
        sleep(LIFE * 5).await;
        assert_eq!(table.watchers(), watchers, "{record}");
        // A token that is looked at may have half of its life left: three leases are six lives.
        sleep(LIFE * 2).await;
        assert_eq!(table.watchers(), 0, "{record}");
    }
}

/// Else the peer would take our watch for a word that we have nothing there.
#[tokio::test(start_paused = true)]
async fn nobody_is_watched_while_a_connection_of_before_looks_for_its_way() {
    let (follower, table) = started(&format!(r#"{{"name":null,"url":"{URL}"}}"#));
    let lost = Resolve::new(|_| async { Err(Error::new(Code::Unavailable, "no directory")) });
    let target = Target::Url("tcp://10.0.0.7:5001".parse().unwrap());
    let next = Downstream::at(target, None, Some(lost));
    follower.resume("a", next, false, |_| {});
    secs(120).await;
    assert_eq!(table.watchers(), 0);
    follower.forget("a");
    secs(40).await;
    assert_eq!(table.watchers(), 1);
}

/// A peer that nothing went through is looked for ever more rarely: not once something does.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_back_is_watched_at_once_when_something_goes_through_it() {
    let (follower, table, wire, transport) = world(&format!(r#"{{"name":null,"url":"{URL}"}}"#));
    secs(20).await;
    wire.cut(URL);
    secs(300).await;
    assert_eq!(table.watchers(), 0);
    wire.mend(URL);
    let target = Target::Url(URL.parse().unwrap());
    let deadline = Instant::now() + LIFE;
    let hop = transport.connect(&target, deadline).await.unwrap();
    let began = Instant::now();
    follower.follow("a", Downstream::at(target, None, None), hop, false);
    while table.watchers() == 0 {
        assert!(began.elapsed() < Duration::from_secs(1));
        sleep(Duration::from_millis(10)).await;
    }
}
