//! What somebody takes away from a connection by hand is put back, without the client.

use std::time::Duration;

use nsm_api::connection::State;
use nsm_plan::Resource;
use tokio::time::sleep;

use crate::world::{World, connect, settle};

fn link(resource: &Resource) -> bool {
    matches!(resource, Resource::Link(_))
}

fn address(resource: &Resource) -> bool {
    matches!(resource, Resource::Address(_))
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_comes_back_and_nobody_is_told() {
    let world = World::new();
    let node = world.node(1);
    let _nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let standing = node.kernel.standing();
    for (number, what) in [link, address].into_iter().enumerate() {
        assert!(node.kernel.lose(what) > 0);
        settle().await;
        assert_eq!(node.kernel.standing(), standing);
        assert_eq!(node.kernel.repairs(), number + 1, "one look for all of it");
        assert_eq!(node.table.all()[0].state.as_known(), Some(State::UP));
    }
    assert_eq!(node.kernel.counts(), (1, 0), "nothing was asked again");
    session.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_fights_us_is_answered_less_and_less() {
    let world = World::new();
    let node = world.node(1);
    let _nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    let standing = node.kernel.standing();
    node.kernel.fight(Some(address));
    settle().await;
    assert_eq!(node.kernel.repairs(), 5, "at once");
    sleep(Duration::from_secs(600)).await;
    let repairs = node.kernel.repairs();
    assert!((10..=20).contains(&repairs), "{repairs} in ten minutes");
    node.kernel.fight(None);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(node.kernel.standing(), standing);
    // Peace for a minute, and it is answered at once again.
    sleep(Duration::from_secs(61)).await;
    node.kernel.lose(address);
    settle().await;
    assert_eq!(node.kernel.standing(), standing);
    session.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_went_with_its_namespace_is_closed() {
    let world = World::new();
    let node = world.node(1);
    let _nse = world.endpoint("nse-a", &node, &[]);
    let _session = connect(&world.client("nsc", &node), "nsc-0").await;
    let near = node.roles.lives.all()[0].near.unwrap();
    node.kernel.delete(near);
    settle().await;
    assert_eq!(node.kernel.counts().1, 1, "closed");
    assert_eq!(node.kernel.repairs(), 0, "and not mended");
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_would_not_let_go_of_is_taken_back_later() {
    let world = World::new();
    let node = world.node(1);
    let _nse = world.endpoint("nse-a", &node, &[]);
    let session = connect(&world.client("nsc", &node), "nsc-0").await;
    node.kernel.keep(3);
    let error = session.close().await.unwrap_err().to_string();
    assert!(error.contains("device or resource busy"), "{error}");
    assert!(node.kernel.standing() > 0);
    sleep(Duration::from_secs(15)).await;
    assert_eq!((node.kernel.standing(), node.kernel.counts().1), (0, 4));
    // For ever is not gone on.
    let session = connect(&world.client("nsc", &node), "nsc-1").await;
    node.kernel.keep(usize::MAX);
    session.close().await.unwrap_err();
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(node.kernel.counts().1, 4 + 16);
}

/// Who has come again meanwhile keeps what it has.
#[tokio::test(start_paused = true)]
async fn what_is_a_connections_again_is_not_taken_back() {
    let world = World::new();
    let node = world.node(1);
    let _nse = world.endpoint("nse-a", &node, &[]);
    let client = world.client("nsc", &node);
    let session = connect(&client, "nsc-0").await;
    node.kernel.keep(1);
    session.close().await.unwrap_err();
    let session = connect(&client, "nsc-0").await;
    let standing = node.kernel.standing();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (node.kernel.standing(), node.kernel.counts().1),
        (standing, 1)
    );
    session.close().await.unwrap();
}
