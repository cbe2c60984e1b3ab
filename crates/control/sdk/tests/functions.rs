//! A function goes on to another endpoint by itself: what whoever asks learns of it.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use buffa::MessageField;
use nsm_api::{
    connection::{Connection, State},
    connectioncontext::IPContext,
    networkservice::NetworkServiceRequest,
};
use nsm_chain::{
    Call, Chain, Connections, Element, Error, Next, Own, Tasks, Tokens as _,
    begin::{Begin, Factory},
    elements::{Monitor, Table as _},
};
use nsm_model::ids::ConnectionKey;
use nsm_sdk::{
    Namespace,
    elements::{Joined, Joiner, Passthrough},
};
use nsm_test_support::{
    Clock, Keys, LIFE, Pipe, Watched, caller, full_request, jwt, namespace, spiffe,
};
use tokio::time::Instant;

/// What the endpoint behind gives, what it was asked with last, and the way back to the connection.
#[derive(Clone, Default)]
struct Behind(Arc<Mutex<End>>);

#[derive(Default)]
struct End {
    gives: String,
    asked: Connection,
    factory: Option<Factory<Connections>>,
}

fn ip(connection: &mut Connection) -> &mut IPContext {
    let context = connection.context.get_or_insert_default();
    context.ip_context.get_or_insert_default()
}

#[async_trait]
impl Element<Connections> for Behind {
    fn name(&self) -> &'static str {
        "behind"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _next: Next<Connections>,
    ) -> Result<Connection, Error> {
        let mut state = self.0.lock().unwrap();
        let mut connection = Connection::clone(&request.connection);
        state.asked.clone_from(&connection);
        state.factory = Some(Factory::of(call)?);
        ip(&mut connection).src_ip_addrs = vec![state.gives.clone()];
        connection.mechanism = MessageField::some(request.mechanism_preferences[0].clone());
        "gate".clone_into(&mut connection.network_service_endpoint_name);
        Ok(connection)
    }
}

struct Glue;

#[async_trait]
impl Joiner for Glue {
    async fn join(&self, _: Joined) -> Result<(), Error> {
        Ok(())
    }

    async fn part(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// A call of the forwarder's.
fn call(keys: &Keys) -> Call {
    let forwarder = spiffe("forwarder");
    let token = jwt(&forwarder, &forwarder, &spiffe("own"), keys.now() + LIFE);
    let caller = caller(&forwarder, Arc::new(Pipe::default()));
    let mut call = Call::from(caller, Some(token), Instant::now() + LIFE);
    call.own = Some(Own {
        key: ConnectionKey {
            owner: spiffe("client"),
            id: "client-id".to_owned(),
        },
        id: "own-id".to_owned(),
        index: 1,
    });
    call
}

fn again(answer: &Connection) -> NetworkServiceRequest {
    NetworkServiceRequest {
        connection: MessageField::some(answer.clone()),
        ..full_request("own-id", "svc")
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_brought_it_sees_it_and_is_given_what_was_agreed_since() {
    let (tasks, keys) = (Tasks::new(), Keys::new("own", Clock::default()));
    let (table, behind) = (Arc::new(Watched::default()), Behind::default());
    let (inode, descriptor) = namespace("/dev/zero");
    let inside = Namespace { inode, descriptor };
    let labels = [("app".to_owned(), "wall".to_owned())].into();
    let list = Chain::new(vec![
        Box::new(Begin::new(tasks.clone())) as Box<dyn Element<Connections>>,
        Box::new(Monitor::last(table.clone())),
        Box::new(Passthrough::new(inside, labels, Arc::new(Glue))),
        Box::new(behind.clone()),
    ]);
    let give = |address: &str| address.clone_into(&mut behind.0.lock().unwrap().gives);
    let asked = || behind.0.lock().unwrap().asked.clone();

    give("10.1.0.1/32");
    let mut first = full_request("own-id", "svc");
    ip(first.connection.get_or_insert_default()).src_ip_addrs = Vec::new();
    let answer = list.request(&mut call(&keys), first).await.unwrap();
    assert_eq!(answer.network_service_endpoint_name, "chosen");

    // The endpoint behind dies, as the heal says it.
    give("10.2.0.1/32");
    let factory = behind.0.lock().unwrap().factory.clone().unwrap();
    let reselect = |request: &mut NetworkServiceRequest| {
        let connection = request.connection.get_or_insert_default();
        connection.state = State::RESELECT_REQUESTED.into();
        connection.mechanism = MessageField::none();
        connection.network_service_endpoint_name.clear();
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let healed = factory.again(deadline, reselect).await.unwrap().unwrap();
    assert_eq!(asked().network_service_endpoint_name, "");
    assert_eq!(healed.network_service_endpoint_name, "chosen", "its own");
    assert!(table.sees("own-id", &spiffe("forwarder")), "who brought it");
    assert!(table.sees("own-id", &spiffe("client")), "who made it");
    let shown = table.get("own-id").unwrap().context;
    assert_eq!(shown.ip_context.src_ip_addrs, ["10.2.0.1/32"]);

    // Whoever asks does so as before, and with what it must not get.
    let mut stale = answer.clone();
    let excluded = vec!["10.3.0.0/24".to_owned()];
    ip(&mut stale).excluded_prefixes.clone_from(&excluded);
    let answer = list.request(&mut call(&keys), again(&stale)).await.unwrap();
    let to_gate = asked();
    assert_eq!(to_gate.network_service_endpoint_name, "gate", "as agreed");
    assert_eq!(
        to_gate.context.ip_context.src_ip_addrs,
        ["10.2.0.1/32"],
        "none of the endpoint that is gone"
    );
    assert_eq!(to_gate.context.ip_context.excluded_prefixes, excluded);
    assert_eq!(answer.context.ip_context.src_ip_addrs, ["10.2.0.1/32"]);

    // What it wants by itself is nobody else's business.
    let mut other = answer.clone();
    ip(&mut other).src_ip_addrs = vec!["10.9.0.1/32".to_owned()];
    list.request(&mut call(&keys), again(&other)).await.unwrap();
    assert_eq!(asked().context.ip_context.src_ip_addrs, ["10.9.0.1/32"]);
    tasks.shutdown(LIFE).await;
}
