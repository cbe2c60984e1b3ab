//! What is healed, and what is left alone.

use std::time::Duration;

use nsm_api::registry::{Destination, Match, NetworkService};
use nsm_sdk::Flow;
use nsm_test_support::{LIFE, endpoint, service};
use tokio::time::sleep;

use crate::{
    two::two,
    world::{LOOK, Node, SERVICE, Served, World, connect, down, left, serving, settle},
};

/// A node with two endpoints.
fn one_node() -> (World, Node, [Served; 2]) {
    let world = World::new();
    let node = world.node(1);
    let endpoints = ["nse-a", "nse-b"].map(|name| world.endpoint(name, &node, &[]));
    (world, node, endpoints)
}

/// The URL of the endpoint that serves, and the name of the other one.
fn used<'a>(node: &Node, [a, b]: &'a [Served; 2]) -> (&'a str, &'static str) {
    match serving(node)[0].as_str() {
        "nse-a" => (&a.url, "nse-b"),
        _ => (&b.url, "nse-a"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_dies_is_replaced() {
    let (world, node, endpoints) = one_node();
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let (url, other) = used(&node, &endpoints);
    settle().await;
    world.packets.are(Flow::Silent);
    world.wire.cut(url);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(serving(&node), [other]);
    session.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_process_alone_is_away_keeps_its_clients() {
    for flow in [Flow::Flows, Flow::Unknown] {
        let (world, node, endpoints) = one_node();
        let session = connect(&world.client("nsc", &node), "nsc-0").await;
        let (url, _) = used(&node, &endpoints);
        let before = serving(&node);
        settle().await;
        world.packets.are(flow);
        world.wire.cut(url);
        sleep(LIFE / 4).await;
        let _asked = world.wire.take_log();
        sleep(Duration::from_secs(60)).await;
        let asked = world.wire.take_log();
        let requests = asked.iter().filter(|line| line.starts_with("request"));
        // Three hops, at most one attempt a second.
        assert!(requests.count() < 200, "nobody asks in a hot loop");
        world.wire.mend(url);
        sleep(Duration::from_secs(11)).await;
        assert_eq!(serving(&node), before, "{flow:?}");
        assert_eq!(node.kernel.counts(), (1, 0), "{flow:?}: packets flow");
        session.close().await.unwrap();
    }
}

/// Whoever could have said that it is gone was away itself: the refresh is the first to find it.
#[tokio::test(start_paused = true)]
async fn an_endpoint_in_no_registry_is_left_where_nobody_can_tell_that_packets_flow() {
    for (flow, moves) in [(Flow::Flows, false), (Flow::Unknown, true)] {
        let (world, node, endpoints) = one_node();
        let session = connect(&world.client("nsc", &node), "nsc-0").await;
        let (before, (_, other)) = (serving(&node), used(&node, &endpoints));
        settle().await;
        world.packets.are(flow);
        node.book.strike(&before[0]);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(serving(&node), before, "{flow:?}: not asked for yet");
        sleep(LIFE / 3).await;
        let now = if moves {
            vec![other.to_owned()]
        } else {
            before
        };
        assert_eq!(serving(&node), now, "{flow:?}");
        session.close().await.unwrap();
    }
}

/// Another socket, other ids, nothing remembered.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_restarted_learns_its_connections_from_them() {
    let world = World::new();
    let node = world.node(1);
    let first = world.process("nse-a", "nse-a", &node);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    settle().await;
    world.wire.cut(&first.url);
    sleep(Duration::from_secs(30)).await;
    let second = world.process("nse-a", "nse-a-again", &node);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(second.prefixes.leases(), 1);
    assert_eq!(node.kernel.counts(), (1, 0), "the same interfaces");
    session.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&node], &[&second]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_far_endpoint_that_dies_is_replaced_by_one_near_and_back() {
    let (world, near, far, a) = two();
    let b = world.endpoint("nse-near", &near, &[&far]);
    let session = connect(&world.client("nsc", &near), "nsc-0").await;
    for _ in 0..2 {
        world.packets.are(Flow::Flows);
        sleep(Duration::from_secs(11)).await;
        let used = serving(&near);
        let (url, other) = match used[0].as_str() {
            "nse-far" => (&a.url, "nse-near"),
            _ => (&b.url, "nse-far"),
        };
        world.packets.are(Flow::Silent);
        world.wire.cut(url);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(serving(&near), [other]);
        assert!(near.kernel.standing() > 0);
        world.wire.mend(url);
    }
    session.close().await.unwrap();
    sleep(LIFE).await;
    assert_eq!(left(&[&near, &far], &[]), [""; 0]);
}

/// The URL of one of the hops, by the nodes.
type Hop = fn(&Node, &Node) -> String;

/// Which hop is away.
const HOPS: &[(&str, Hop)] = &[
    ("the near manager", |near, _| near.manager.clone()),
    ("the near forwarder", |near, _| near.forwarder.clone()),
    ("the far manager", |_, far| far.manager.clone()),
    ("the far forwarder", |_, far| far.forwarder.clone()),
];

#[tokio::test(start_paused = true)]
async fn a_hop_that_is_away_is_not_a_dead_endpoint() {
    for flow in [Flow::Flows, Flow::Unknown] {
        for (name, url) in HOPS {
            let (world, near, far, _) = two();
            let session = connect(&world.client("nsc", &near), "nsc-0").await;
            world.endpoint("nse-near", &near, &[&far]);
            let before = serving(&near);
            settle().await;
            world.packets.are(flow);
            world.wire.cut(&url(&near, &far));
            sleep(LIFE / 4).await;
            world.wire.mend(&url(&near, &far));
            sleep(Duration::from_secs(15)).await;
            assert_eq!(serving(&near), before, "{name}, {flow:?}");
            assert_eq!(near.kernel.counts(), (1, 0), "{name}, {flow:?}");
            session.close().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn packets_that_stop_are_noticed_without_any_word() {
    let (world, node, endpoints) = one_node();
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let (_, other) = used(&node, &endpoints);
    settle().await;
    world.packets.are(Flow::Silent);
    sleep(LOOK).await;
    world.packets.are(Flow::Flows);
    settle().await;
    assert_eq!(serving(&node), [other]);
    session.close().await.unwrap();
}

/// What is said while a heal runs is looked into when it ends.
#[tokio::test(start_paused = true)]
async fn a_fault_told_in_the_instant_a_heal_ends_is_found() {
    let (world, node, endpoints) = one_node();
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let (_, other) = used(&node, &endpoints);
    settle().await;
    let before = serving(&node);
    world.packets.are(Flow::Silent);
    down(&node);
    // The heal is on its way.
    tokio::task::yield_now().await;
    while serving(&node) != [other] {
        tokio::task::yield_now().await;
    }
    down(&node);
    let again = async {
        while serving(&node) != before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(30), again)
        .await
        .expect("healed again");
    world.packets.are(Flow::Flows);
    settle().await;
    session.close().await.unwrap();
}

/// A fault that nothing mends is not healed in a hot loop.
#[tokio::test(start_paused = true)]
async fn heals_that_do_not_help_grow_rare() {
    let (world, node, _) = one_node();
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    settle().await;
    world.packets.are(Flow::Silent);
    let _before = world.wire.take_log();
    for _ in 0..6_000 {
        down(&node);
        sleep(Duration::from_millis(10)).await;
    }
    let log = world.wire.take_log();
    let requests = log.iter().filter(|line| line.ends_with(&node.manager));
    let requests = requests.filter(|line| line.starts_with("request")).count();
    assert!((10..100).contains(&requests), "{requests} in a minute");
    session.close().await.unwrap();
}

/// What the ways do, for which of the far node and whoever asks, and whether the client moves.
type Loss = (&'static str, fn(&World), bool);

const LOSSES: &[Loss] = &[
    (
        "packets are lost",
        |world| {
            let far = "192.168.0.2".parse().unwrap();
            world.ways.lost.lock().unwrap().insert(far);
        },
        true,
    ),
    (
        "nobody can ask",
        |world| *world.ways.broken.lock().unwrap() = Some("no socket".to_owned()),
        false,
    ),
];

#[tokio::test(start_paused = true)]
async fn a_way_that_is_lost_moves_its_connections_within_a_second() {
    for (name, lose, moves) in LOSSES {
        let (world, near, far, _) = two();
        let session = connect(&world.client("nsc", &near), "nsc-0").await;
        world.endpoint("nse-near", &near, &[&far]);
        sleep(Duration::from_secs(1)).await;
        world.packets.are(Flow::Unknown);
        lose(&world);
        sleep(Duration::from_millis(900)).await;
        let expected = if *moves { "nse-near" } else { "nse-far" };
        assert_eq!(serving(&near), [expected], "{name}");
        world.packets.are(Flow::Flows);
        world.ways.lost.lock().unwrap().clear();
        session.close().await.unwrap();
    }
}

/// Another implementation's node answers no echoes of ours.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_answered_is_never_lost() {
    let (world, near, far, _) = two();
    let lost = ["192.168.0.1", "192.168.0.2"].map(|node| node.parse().unwrap());
    *world.ways.lost.lock().unwrap() = lost.into();
    let session = connect(&world.client("nsc", &near), "nsc-0").await;
    world.endpoint("nse-near", &near, &[&far]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(serving(&near), ["nse-far"]);
    session.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_without_tunnels() {
    let (world, near, _, _) = two();
    sleep(Duration::from_secs(10)).await;
    let asked = || world.ways.asked.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(asked(), 0);
    let client = world.client("nsc", &near);
    let sessions = [
        connect(&client, "nsc-0").await,
        connect(&client, "nsc-1").await,
    ];
    sleep(Duration::from_secs(10)).await;
    assert!(
        (98..104).contains(&asked()),
        "each node once in 200 ms: {}",
        asked()
    );
    for session in sessions {
        session.close().await.unwrap();
    }
    let asked_then = asked();
    sleep(Duration::from_secs(10)).await;
    assert!(asked() <= asked_then + 2);
}

/// A service whose endpoints have these labels.
fn choosing(label: &str) -> NetworkService {
    let (key, value) = label.split_once('=').unwrap();
    let route = Destination {
        destination_selector: [(key.to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    let rule = Match {
        routes: vec![route],
        ..Default::default()
    };
    NetworkService {
        matches: vec![rule],
        ..service(SERVICE)
    }
}

/// What changes in the registry, and whether the connection of `nse-a` moves to `nse-b`.
type Edit = (&'static str, fn(&Node, &[Served; 2]), bool);

const EDITS: &[Edit] = &[
    (
        "the service chooses others",
        |node, _| node.book.add_service(choosing("color=blue")),
        true,
    ),
    (
        "the endpoint has other labels",
        |node, [a, _]| {
            node.book
                .add(endpoint("nse-a", SERVICE, &a.url, &["color=grey"]))
        },
        true,
    ),
    (
        "the endpoint has more labels",
        |node, [a, _]| {
            let more = endpoint("nse-a", SERVICE, &a.url, &["color=red", "size=big"]);
            node.book.add(more);
        },
        false,
    ),
    (
        "nobody fits any more",
        |node, _| node.book.add_service(choosing("color=green")),
        false,
    ),
    (
        "the endpoint is in no registry",
        |node, _| node.book.strike("nse-a"),
        false,
    ),
];

#[tokio::test(start_paused = true)]
async fn connections_whose_endpoint_no_longer_fits_move() {
    for (name, edit, moves) in EDITS {
        let (world, node, endpoints) = one_node();
        let labelled =
            |name, url: &str, label| node.book.add(endpoint(name, SERVICE, url, &[label]));
        labelled("nse-a", &endpoints[0].url, "color=red");
        labelled("nse-b", &endpoints[1].url, "color=blue");
        node.book.add_service(choosing("color=red"));
        let session = connect(&world.client("nsc", &node), "nsc-0").await;
        assert_eq!(serving(&node), ["nse-a"]);
        sleep(Duration::from_secs(1)).await;
        if *name == "the endpoint has other labels" {
            // Both fit until the labels change.
            labelled("nse-b", &endpoints[1].url, "color=red");
            sleep(Duration::from_secs(1)).await;
            assert_eq!(serving(&node), ["nse-a"], "it stays while it fits");
        }
        edit(&node, &endpoints);
        sleep(Duration::from_secs(2)).await;
        let expected = if *moves { "nse-b" } else { "nse-a" };
        assert_eq!(serving(&node), [expected], "{name}");
        session.close().await.unwrap();
    }
}
