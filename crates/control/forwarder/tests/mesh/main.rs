//! Whole meshes in memory: the real lists of client, manager, forwarder and endpoint, over a wire
//! that is a table and a kernel that is another.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod heals;
mod model;
mod preferred;
mod repair;
mod roles;
mod two;
mod world;

use std::{sync::Arc, time::Duration};

use nsm_api::connection::{PathSegment, State};
use nsm_chain::{Code, Tasks, Tokens as _};
use nsm_forwarder::KernelError;
use nsm_test_support::{Keys, LIFE, spiffe};
use tokio::time::{Instant, sleep};

use world::{World, by_hand, connect, down, ids, left, names, serving, settle, wanted};

#[tokio::test(start_paused = true)]
async fn a_connection_on_one_node_and_its_close() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    let client = world.client("nsc", &node);
    let session = connect(&client, "nsc-0").await;
    let connection = session.connection().clone();
    assert_eq!(
        names(&connection),
        ["nsc", "manager-1", "forwarder-1", "nse-a"]
    );
    assert_eq!(
        (connection.path.index, connection.id.as_str()),
        (0, "nsc-0")
    );
    assert_eq!(connection.network_service_endpoint_name, "nse-a");
    assert_eq!(
        connection.labels.get("nodeName").map(String::as_str),
        Some("node-1")
    );
    let ip = &connection.context.ip_context;
    assert_eq!(
        (&ip.dst_ip_addrs[0][..], &ip.src_ip_addrs[0][..]),
        ("10.0.0.0/32", "10.0.0.1/32")
    );
    assert!(node.kernel.standing() > 0);
    session.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&node], &[&nse]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_the_same_request() {
    let world = World::new();
    let node = world.node(1);
    world.endpoint("nse-a", &node, &[]);
    world.endpoint("nse-b", &node, &[]);
    let client = world.client("nsc", &node);
    let first = connect(&client, "nsc-0").await;
    let made = node.kernel.counts();
    // Nobody waits for this one, and it is the same as well.
    let order = wanted("nsc-0");
    let dropped = client.request(&order);
    assert!(tokio::time::timeout(Duration::ZERO, dropped).await.is_err());
    // A restarted client: another process with the same name and identity.
    let again = connect(&world.client("nsc", &node), "nsc-0").await;
    assert_eq!(ids(first.connection()), ids(again.connection()));
    let endpoint =
        |session: &nsm_sdk::Session| session.connection().network_service_endpoint_name.clone();
    assert_eq!(endpoint(&first), endpoint(&again));
    assert_eq!(node.kernel.counts(), made, "nothing to do");
    assert_eq!(node.table.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_outlives_many_leases_and_an_abandoned_one_does_not() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    sleep(LIFE * 5).await;
    assert_eq!((node.table.all().len(), node.kernel.counts()), (1, (1, 0)));
    session.close().await.unwrap();
    // A client that asks by hand and never again.
    let transport = world.wire.transport(Keys::new("other", world.clock));
    let target = nsm_chain::Target::Url(node.manager.as_str().into());
    let hop = transport.connect(&target, Instant::now()).await.unwrap();
    let (inode, descriptor) = nsm_test_support::namespace("/dev/null");
    assert!(inode.ino > 0);
    hop.descriptors()
        .send(std::os::fd::AsFd::as_fd(&descriptor))
        .unwrap();
    hop.request(by_hand("other", "x"), Instant::now() + LIFE)
        .await
        .unwrap();
    sleep(LIFE - Duration::from_secs(2)).await;
    assert_eq!(node.table.all().len(), 1);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(
        left(&[&node], &[&nse]),
        [""; 0],
        "the lease closes all the way"
    );
}

#[tokio::test(start_paused = true)]
async fn another_client_cannot_touch_it() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let path = session.connection().path.path_segments.clone();
    let before = node.table.all();
    let transport = world.wire.transport(Keys::new("thief", world.clock));
    let target = nsm_chain::Target::Url(node.manager.as_str().into());
    let hop = transport.connect(&target, Instant::now()).await.unwrap();
    let deadline = Instant::now() + LIFE;

    // The same id and the same name, another identity: a connection of its own.
    let own = by_hand("nsc", "nsc-0").connection.into_option().unwrap();
    hop.close(own, deadline).await.unwrap();
    // The whole path as it was seen on the way, standing where a rightful caller would, or at a
    // segment with the hop's own id.
    for index in 0..3 {
        for segments in [&path[..], &path[..=index + 1], &path[..=index]] {
            let mut request = by_hand("nsc", &path[index].id);
            let connection = request.connection.get_or_insert_default();
            let own = connection.path.get_or_insert_default();
            own.path_segments = segments.to_vec();
            own.index = u32::try_from(index).unwrap();
            let mine = connection.clone();
            let closed = hop.close(mine, deadline).await;
            // A path that happens to begin with the same words is the thief's own.
            if index > 0 || segments.len() > 1 {
                assert_eq!(
                    closed.unwrap_err().code,
                    Code::PermissionDenied,
                    "index {index}"
                );
                let asked = hop.request(request, deadline).await;
                assert_eq!(
                    asked.unwrap_err().code,
                    Code::PermissionDenied,
                    "index {index}"
                );
            }
        }
    }
    in_the_managers_place(&transport, &node, &path).await;
    unsigned(&world, hop.as_ref(), &path, deadline).await;

    settle().await;
    let keep = |all: Vec<nsm_api::connection::Connection>| -> Vec<String> {
        all.iter()
            .filter(|one| one.path.path_segments[0].id == "nsc-0" && one.id == path[1].id)
            .map(|one| one.id.clone())
            .collect()
    };
    assert_eq!(keep(node.table.all()), keep(before));
    assert_eq!(node.kernel.counts(), (1, 0));
    // And it is alive: its lease still ends, and its owner closes it.
    session.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&node], &[&nse]), [""; 0]);
}

/// One hop further, in the manager's place: the forwarder derives the very same id.
async fn in_the_managers_place(
    transport: &Arc<dyn nsm_chain::Transport>,
    node: &world::Node,
    path: &[PathSegment],
) {
    let deadline = Instant::now() + LIFE;
    let forwarder = nsm_chain::Target::Url(node.forwarder.as_str().into());
    let behind = transport.connect(&forwarder, deadline).await.unwrap();
    let mut request = by_hand("nsc", &path[1].id);
    let connection = request.connection.get_or_insert_default();
    let own = connection.path.get_or_insert_default();
    own.path_segments = path[..=1].to_vec();
    own.index = 1;
    let closed = behind.close(connection.clone(), deadline).await;
    assert_eq!(closed.unwrap_err().code, Code::PermissionDenied);
    let asked = behind.request(request, deadline).await;
    assert_eq!(asked.unwrap_err().code, Code::PermissionDenied);
}

/// Paths that were never travelled: what the first segment says is signed by nobody known here.
async fn unsigned(
    world: &World,
    hop: &dyn nsm_chain::Hop,
    path: &[PathSegment],
    deadline: Instant,
) {
    // With the first segment made its own, and the manager's own id named.
    let mut forged = by_hand("thief", "x").connection.into_option().unwrap();
    forged.id.clone_from(&path[1].id);
    let own = forged.path.get_or_insert_default();
    let token = Keys::new("thief", world.clock)
        .issue(&nsm_chain::Call::local(deadline), &spiffe("manager-1"))
        .unwrap();
    own.path_segments[0].token = token.jwt;
    own.path_segments.push(PathSegment {
        metrics: Default::default(),
        ..path[1].clone()
    });
    own.index = 1;
    let error = hop.close(forged, deadline).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    assert!(error.message.contains("thief"), "{error}");

    // The victim's name and id, meant for the thief, and behind it a segment of the thief's with
    // the victim's id, from which the victim's own id at this hop would follow.
    let mut forged = by_hand("nsc", "nsc-0").connection.into_option().unwrap();
    let own = forged.path.get_or_insert_default();
    let token = Keys::new("nsc", world.clock)
        .issue(&nsm_chain::Call::local(deadline), &spiffe("thief"))
        .unwrap();
    own.path_segments[0].token = token.jwt;
    own.path_segments.push(PathSegment {
        name: "x".to_owned(),
        id: "nsc-0".to_owned(),
        ..Default::default()
    });
    own.index = 1;
    hop.close(forged, deadline).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_down_moves_and_the_failed_one_is_put_last() {
    let world = World::new();
    let node = world.node(1);
    let served = [
        world.endpoint("nse-a", &node, &[]),
        world.endpoint("nse-b", &node, &[]),
        world.endpoint("nse-c", &node, &[]),
    ];
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let first = serving(&node);
    let before = ids(session.connection())[1].to_owned();
    let mut seen = first.clone();
    for _ in 0..2 {
        down(&node);
        settle().await;
        let now = serving(&node);
        assert_eq!(now.len(), 1);
        assert!(
            !seen.contains(&now[0]),
            "{now:?} was tried before: {seen:?}"
        );
        seen.extend(now);
    }
    // All have failed once: the one that failed first is the best again.
    down(&node);
    settle().await;
    assert_eq!(serving(&node), first);
    // The rest is kept: the same connection at every hop, one pair of addresses, one plan.
    let all = node.table.all();
    assert_eq!(
        (all[0].id.as_str(), all[0].state.as_known()),
        (before.as_str(), Some(State::UP))
    );
    assert_eq!(
        served
            .iter()
            .map(|served| served.prefixes.leases())
            .sum::<usize>(),
        1
    );
    assert_eq!(node.roles.lives.all().len(), 1);
    session.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&node], &served.iter().collect::<Vec<_>>()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_candidate_is_passed_over() {
    let world = World::new();
    let node = world.node(1);
    let (a, b) = (
        world.endpoint("nse-a", &node, &[]),
        world.endpoint("nse-b", &node, &[]),
    );
    for (dead, alive) in [(&a, "nse-b"), (&b, "nse-a")] {
        world.wire.cut(&dead.url);
        let session = connect(&world.client("nsc", &node), "nsc-0").await;
        assert_eq!(session.connection().network_service_endpoint_name, alive);
        session.close().await.unwrap();
        world.wire.mend(&dead.url);
    }
    settle().await;
    assert_eq!(left(&[&node], &[&a, &b]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_refuses_leaves_nothing() {
    let refusals = [
        (
            KernelError::NameInUse("interface nsm-1 exists".to_owned()),
            Code::AlreadyExists,
        ),
        (
            KernelError::NotANamespace("inode://1/2 is a file".to_owned()),
            Code::InvalidArgument,
        ),
        (KernelError::Refused("no memory".to_owned()), Code::Internal),
    ];
    for (refusal, code) in refusals {
        let world = World::new();
        let node = world.node(1);
        let nse = world.endpoint("nse-a", &node, &[]);
        let client = world.client("nsc", &node);
        node.kernel.fail_next(refusal.clone());
        let error = client.request(&wanted("nsc-0")).await.unwrap_err();
        assert_eq!(error.code, code);
        assert!(
            error.message.contains(&refusal.to_string()),
            "the first cause: {error}"
        );
        settle().await;
        assert_eq!(left(&[&node], &[&nse]), [""; 0], "{refusal:?}");
        connect(&client, "nsc-0").await.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_and_never_answered_is_closed_by_its_client() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    // Its first process was granted it and died; the next one knows the order alone.
    let first = Tasks::new();
    let _session = connect(&world.client_of("nsc", &node, first.clone()), "nsc-0").await;
    first.shutdown(LIFE).await;
    world
        .client("nsc", &node)
        .abandon(&wanted("nsc-0"))
        .await
        .unwrap();
    settle().await;
    assert_eq!(left(&[&node], &[&nse]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_what_nobody_knows_is_fine() {
    let world = World::new();
    let node = world.node(1);
    world
        .client("nsc", &node)
        .abandon(&wanted("never"))
        .await
        .unwrap();
    let mut call = world.call("nsc", "manager-1");
    let item = by_hand("nsc", "never").connection.into_option().unwrap();
    let seams = node.roles.chain.close(&mut call, item).await;
    // The forwarder is another audience than the token's.
    assert_eq!(seams.unwrap_err().code, Code::PermissionDenied);
    assert_eq!(spiffe("nsc").as_str(), "spiffe://nsm.test/nsc");
}

#[tokio::test(start_paused = true)]
async fn a_close_reports_what_failed_and_does_the_rest() {
    let world = World::new();
    let node = world.node(1);
    let nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    world.wire.cut(&nse.url);
    let error = session.close().await.unwrap_err();
    assert!(error.message.contains(&nse.url), "{error}");
    settle().await;
    assert_eq!(left(&[&node], &[]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn no_service_and_no_endpoint_are_told_apart() {
    let world = World::new();
    let node = world.node(1);
    let client = world.client("nsc", &node);
    let error = client.request(&wanted("a")).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert!(
        error.message.contains("no endpoint is registered"),
        "{error}"
    );
    let mut order = wanted("b");
    order.service = "unheard-of".to_owned();
    let error = client.request(&order).await.unwrap_err();
    assert!(
        error.code == Code::NotFound && error.message.contains("unheard-of"),
        "{error}"
    );
    node.locals.strike("forwarder-1");
    let error = client.request(&wanted("c")).await.unwrap_err();
    assert!(
        error.code == Code::Unavailable && error.message.contains("nsm forwarder"),
        "{error}"
    );
}
