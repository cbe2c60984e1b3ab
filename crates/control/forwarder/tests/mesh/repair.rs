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
