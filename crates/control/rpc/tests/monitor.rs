//! The monitor table: the first state, changes in order, and limits.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::time::Duration;

use futures_util::StreamExt as _;
use nsm_api::connection::{Connection, ConnectionEventType, State};
use nsm_chain::Code;
use nsm_rpc::monitor::{Connections, INITIAL_BATCH, MAX_WAITING_EVENTS};

fn connection(id: usize, payload: &str) -> Connection {
    Connection {
        id: format!("{id:04}"),
        payload: payload.to_owned(),
        ..Connection::default()
    }
}

#[tokio::test]
async fn state_then_changes() {
    let table = Connections::new();
    table.update(connection(1, "IP"));
    table.update(connection(2, "ETHERNET"));
    let mut events = table.subscribe(|one, _| one.payload == "IP").unwrap();
    table.update(connection(1, "IP"));
    table.update(connection(2, "IP"));
    table.update(connection(3, "ETHERNET"));
    table.delete("0003");
    table.delete("0009");
    table.delete("0001");
    drop(table);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let ids: Vec<_> = event.connections.into_keys().collect();
        seen.push((event.r#type.as_known().unwrap(), ids.join(" ")));
    }
    assert_eq!(
        seen,
        [
            (
                ConnectionEventType::INITIAL_STATE_TRANSFER,
                "0001".to_owned()
            ),
            (ConnectionEventType::UPDATE, "0002".to_owned()),
            (ConnectionEventType::DELETE, "0001".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_large_state_comes_in_parts() {
    let table = Connections::new();
    for number in 0..=2 * INITIAL_BATCH {
        table.update(connection(number, ""));
    }
    let events = table.subscribe(|_, _| true).unwrap();
    let sizes: Vec<_> = events
        .take(3)
        .map(|event| event.unwrap().connections.len())
        .collect()
        .await;
    assert_eq!(sizes, [INITIAL_BATCH, INITIAL_BATCH, 1]);
}

#[tokio::test]
async fn a_slow_one_is_cut_off_alone() {
    let table = Connections::new();
    let mut slow = table.subscribe(|_, _| true).unwrap();
    let mut quick = table.subscribe(|_, _| true).unwrap();
    let mut other = table.subscribe(|one, _| one.id == "x").unwrap();
    for number in 0..=MAX_WAITING_EVENTS {
        table.update(connection(number, ""));
        while quick.next().await.unwrap().unwrap().r#type
            == ConnectionEventType::INITIAL_STATE_TRANSFER
        {}
    }
    assert_eq!(table.subscribers(), 2);
    let events: Vec<_> = slow.by_ref().collect().await;
    assert_eq!(events.len(), 1 + MAX_WAITING_EVENTS + 1);
    let end = events.last().unwrap().as_ref().unwrap_err();
    assert_eq!(end.code, Code::ResourceExhausted, "{end}");
    assert!(other.next().await.unwrap().unwrap().connections.is_empty());
    drop((quick, other));
    assert_eq!(table.subscribers(), 0);
}

/// What a hop further on says is put down while a request of the connection is answered: the answer
/// is not overwritten by what was known before it.
#[test]
fn an_answer_that_comes_during_a_change_stays() {
    let table = Connections::new();
    table.update(connection(1, "IP"));
    std::thread::scope(|scope| {
        let mut answer = None;
        table.change(&connection(1, "").id, &mut |known| {
            answer = Some(scope.spawn(|| table.update(connection(1, "ETHERNET"))));
            std::thread::sleep(Duration::from_millis(50));
            known.state = State::DOWN.into();
            true
        });
        answer.unwrap().join().unwrap();
    });
    let known = table.get(&connection(1, "").id).unwrap();
    assert_eq!(*known, connection(1, "ETHERNET"));
}
