//! Two nodes with a tunnel between them.

use std::time::Duration;

use nsm_chain::Code;
use nsm_forwarder::KernelError;
use nsm_test_support::LIFE;
use tokio::time::sleep;

use crate::world::{Node, Served, World, connect, down, ids, left, names, serving, settle, wanted};

/// A client's node, an endpoint's node, and the endpoint.
pub(crate) fn two() -> (World, Node, Node, Served) {
    let world = World::new();
    let (near, far) = (world.node(1), world.node(2));
    let nse = world.endpoint("nse-far", &far, &[&near]);
    (world, near, far, nse)
}

#[tokio::test(start_paused = true)]
async fn a_connection_between_two_nodes_and_its_close() {
    let (world, near, far, nse) = two();
    let session = connect(&world.client("nsc", &near), "nsc-0").await;
    let path = [
        "nsc",
        "manager-1",
        "forwarder-1",
        "manager-2",
        "forwarder-2",
        "nse-far",
    ];
    assert_eq!(names(session.connection()), path);
    assert_eq!(
        session.connection().context.MTU,
        1446,
        "cut by what VXLAN adds"
    );
    assert_eq!(near.kernel.vnis(), far.kernel.vnis());
    assert_eq!(
        near.kernel.vnis()[0] % 2,
        0,
        "192.168.0.1 <= 192.168.0.2: even"
    );
    session.close().await.unwrap();
    settle().await;
    assert_eq!(left(&[&near, &far], &[&nse]), [""; 0]);
    assert!(near.roles.vnis.is_empty() && far.roles.vnis.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ids_and_tunnel_are_the_same_after_many_refreshes() {
    let (world, near, far, _) = two();
    let client = world.client("nsc", &near);
    let session = connect(&client, "nsc-0").await;
    let vnis = near.kernel.vnis();
    sleep(LIFE * 3).await;
    let again = connect(&client, "nsc-0").await;
    assert_eq!(ids(session.connection()), ids(again.connection()));
    assert_eq!(
        (near.kernel.vnis(), far.kernel.vnis()),
        (vnis.clone(), vnis)
    );
    assert_eq!(
        (near.kernel.counts(), far.kernel.counts()),
        ((1, 0), (1, 0))
    );
    assert_eq!((near.roles.vnis.len(), far.roles.vnis.len()), (0, 1));
}

/// The client's old addresses may be another's before its node has heard of the new ones: through
/// the old tunnel they lead nowhere.
#[tokio::test(start_paused = true)]
async fn a_path_that_is_made_anew_has_a_tunnel_of_its_own() {
    for broken in [false, true] {
        let (world, near, far, nse) = two();
        let client = world.client("nsc", &near);
        let _session = connect(&client, "nsc-0").await;
        let before = near.kernel.vnis();
        for live in far.roles.lives.all().iter().filter(|_| broken) {
            live.broken();
        }
        let again = connect(&client, "nsc-0").await;
        let now = near.kernel.vnis();
        assert_eq!(now, far.kernel.vnis());
        assert_eq!(now != before, broken);
        assert_eq!((near.roles.vnis.len(), far.roles.vnis.len()), (0, 1));
        again.close().await.unwrap();
        settle().await;
        assert_eq!(left(&[&near, &far], &[&nse]), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_vni_that_is_taken_here_or_there_is_chosen_again() {
    for taken_near in [true, false] {
        let (world, near, far, nse) = two();
        if taken_near { &near } else { &far }.kernel.take_next_vni();
        let session = connect(&world.client("nsc", &near), "nsc-0").await;
        assert_eq!(
            near.kernel.vnis(),
            far.kernel.vnis(),
            "taken near: {taken_near}"
        );
        assert_eq!(near.kernel.vnis().len(), 1);
        session.close().await.unwrap();
        settle().await;
        assert_eq!(left(&[&near, &far], &[&nse]), [""; 0]);
        // What the far node has seen somebody else use is remembered; nothing of ours is.
        assert_eq!(far.roles.vnis.len(), usize::from(!taken_near));
    }
}

#[tokio::test(start_paused = true)]
async fn what_either_kernel_refuses_leaves_nothing_on_both() {
    for near_fails in [true, false] {
        let (world, near, far, nse) = two();
        let failing = if near_fails { &near } else { &far };
        failing
            .kernel
            .fail_next(KernelError::Refused("no memory".to_owned()));
        let error = world
            .client("nsc", &near)
            .request(&wanted("nsc-0"))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::Internal);
        assert!(error.message.contains("no memory"), "{error}");
        settle().await;
        assert_eq!(
            left(&[&near, &far], &[&nse]),
            [""; 0],
            "near fails: {near_fails}"
        );
        assert!(near.roles.vnis.is_empty() && far.roles.vnis.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_the_tunnel_and_takes_no_more_vnis() {
    let (world, near, far, _) = two();
    let client = world.client("nsc", &near);
    let _session = connect(&client, "nsc-0").await;
    let vnis = far.kernel.vnis();
    world.wire.cut("unix:///run/nse-far");
    for _ in 0..10 {
        client.request(&wanted("nsc-0")).await.unwrap_err();
    }
    assert_eq!(
        (near.kernel.vnis(), far.kernel.vnis()),
        (vnis.clone(), vnis)
    );
    assert_eq!(far.roles.vnis.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reselection_is_made_once_on_the_first_forwarder() {
    let (world, near, far, _) = two();
    // A second endpoint on the far node: its forwarder must use the one that it was told.
    world.endpoint("nse-far-2", &far, &[&near]);
    let _session = connect(&world.client("nsc", &near), "nsc-0").await;
    for _ in 0..4 {
        let before = serving(&near);
        down(&near);
        sleep(Duration::from_secs(1)).await;
        let now = serving(&near);
        assert_ne!(now, before);
        assert_eq!(serving(&far), now, "both nodes speak of one endpoint");
    }
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_that_is_left_is_closed_when_the_new_one_is_followed() {
    let (world, near, far, _) = two();
    world.endpoint("nse-far-2", &far, &[&near]);
    let _session = connect(&world.client("nsc", &near), "nsc-0").await;
    let left = serving(&near).remove(0);
    settle().await;
    let _before = world.wire.take_log();
    down(&near);
    settle().await;
    let log = world.wire.take_log();
    let at = |what: String| log.iter().position(|line| *line == what);
    let followed = at(format!("monitor unix:///run/{}", serving(&near)[0]));
    let closed = at(format!("close unix:///run/{left}"));
    assert!(
        followed.is_some() && followed < closed,
        "its goodbye is no fault: {log:?}"
    );
}
