//! A service that prefers an endpoint, and has another one where that is not there.

use std::time::Duration;

use nsm_api::registry::{Destination, Match, NetworkService};
use nsm_chain::Code;
use nsm_sdk::Flow;
use nsm_test_support::{endpoint, service, spiffe};
use tokio::time::sleep;

use crate::world::{Node, SERVICE, Served, World, connect, serving, settle, wanted};

/// Red ones, else any.
fn preferring_red() -> NetworkService {
    let route = |labels: &[(&str, &str)]| Destination {
        destination_selector: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    };
    let rule = |labels, fallthrough| Match {
        routes: vec![route(labels)],
        fallthrough,
        ..Default::default()
    };
    NetworkService {
        matches: vec![rule(&[("color", "red")], true), rule(&[], false)],
        ..service(SERVICE)
    }
}

fn register(node: &Node, name: &str, served: &Served) {
    let color = if name == "nse-a" {
        "color=red"
    } else {
        "color=blue"
    };
    node.book
        .add(endpoint(name, SERVICE, &served.url, &[color]));
}

/// A node with a red `nse-a` and a blue `nse-b`.
fn one_node() -> (World, Node, [Served; 2]) {
    let world = World::new();
    let node = world.node(1);
    let endpoints = ["nse-a", "nse-b"].map(|name| {
        let served = world.endpoint(name, &node, &[]);
        register(&node, name, &served);
        served
    });
    node.book.add_service(preferring_red());
    (world, node, endpoints)
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_replaced_and_gets_its_clients_back() {
    let (world, node, [a, b]) = one_node();
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    assert_eq!(serving(&node), ["nse-a"]);
    settle().await;
    world.packets.are(Flow::Silent);
    world.wire.cut(&a.url);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(serving(&node), ["nse-b"], "though nse-a is registered");
    world.packets.are(Flow::Flows);
    settle().await;
    let _before = world.wire.take_log();
    for _ in 0..5 {
        register(&node, "nse-b", &b);
        sleep(Duration::from_secs(2)).await;
    }
    let asked = world.wire.take_log();
    let in_vain = format!("request {}", a.url);
    assert!(!asked.contains(&in_vain), "it failed just now: {asked:?}");
    world.wire.mend(&a.url);
    sleep(Duration::from_secs(30)).await;
    register(&node, "nse-a", &a);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(serving(&node), ["nse-a"], "it is back");
    session.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn new_clients_go_round_one_that_is_not_there() {
    let (world, node, [a, _]) = one_node();
    world.wire.cut(&a.url);
    let _session = connect(&world.client("nsc", &node), "nsc-0").await;
    assert_eq!(serving(&node), ["nse-b"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_is_not_gone_round() {
    let (world, node, [_, b]) = one_node();
    // Somebody else answers there: that is no absence.
    let mut red = endpoint("nse-a", SERVICE, &b.url, &["color=red"]);
    red.path_ids = vec![spiffe("nse-a").to_string()];
    node.book.add(red);
    let refused = world.client("nsc", &node).request(&wanted("nsc-0")).await;
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
}
