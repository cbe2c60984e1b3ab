//! What a hop further on says is passed on, with what it has by now.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::sync::Arc;

use buffa::MessageField;
use nsm_api::{
    connection::{Connection, State},
    connectioncontext::{ConnectionContext, IPContext},
};
use nsm_chain::{
    elements::{Relay, Table as _},
    follow::{Change, Sink as _},
};
use nsm_test_support::Watched;

fn connection(address: Option<&str>) -> Connection {
    let context = address.map(|address| ConnectionContext {
        ip_context: MessageField::some(IPContext {
            src_ip_addrs: vec![address.to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    });
    Connection {
        id: "id".to_owned(),
        context: context.map_or_else(MessageField::none, MessageField::some),
        ..Default::default()
    }
}

#[test]
fn what_has_to_be_asked_for_is_passed_on() {
    for (change, shown, state, address) in [
        (
            Change::Refresh,
            Some(connection(Some("new"))),
            State::REFRESH_REQUESTED,
            "new",
        ),
        (
            Change::Refresh,
            Some(connection(None)),
            State::REFRESH_REQUESTED,
            "old",
        ),
        (Change::Refresh, None, State::REFRESH_REQUESTED, "old"),
        // Of what is to be left nothing is taken over.
        (
            Change::Down,
            Some(connection(Some("new"))),
            State::DOWN,
            "old",
        ),
        (
            Change::Move,
            Some(connection(Some("new"))),
            State::RESELECT_REQUESTED,
            "old",
        ),
    ] {
        let table = Arc::new(Watched::default());
        table.update(connection(Some("old")));
        Relay(table.clone()).changed("id", change, shown.as_ref());
        let told = table.get("id").unwrap();
        assert_eq!(told.state, state, "{change:?} {shown:?}");
        assert_eq!(
            told.context.ip_context.src_ip_addrs,
            [address],
            "{change:?} {shown:?}"
        );
    }
}

/// A path that is known to be broken is broken whoever is away meanwhile; who watches only later,
/// or was away itself, learns it all the same.
#[test]
fn what_is_known_to_be_broken_stays_so_until_it_is_granted_again() {
    for change in [Change::Refresh, Change::Move, Change::Down] {
        let table = Arc::new(Watched::default());
        table.update(connection(Some("old")));
        let relay = Relay(table.clone());
        relay.changed("id", Change::Down, None);
        relay.changed("id", change, None);
        assert_eq!(table.get("id").unwrap().state, State::DOWN, "{change:?}");
        table.update(connection(Some("old")));
        relay.changed("id", Change::Refresh, None);
        let granted = table.get("id").unwrap().state;
        assert_eq!(granted, State::REFRESH_REQUESTED, "{change:?}");
    }
}
