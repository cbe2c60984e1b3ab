//! Registries over one cluster: a leader, a member, a registry is killed.

use std::time::Duration;

use nsm_api::registry::NetworkServiceEndpoint;
use nsm_chain::Endpoints;

use crate::{
    cluster::Cluster,
    load::{endpoint, leader_is_killed, registry},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_with_the_leader() {
    crate::begin!(cluster, Cluster::start().await);
    let figures = leader_is_killed(&mut cluster, "load").await;
    println!("{figures:#?}");
    assert_eq!((figures.lost, figures.failed), (0, 0), "{figures:?}");
    assert!(figures.back < Duration::from_secs(5), "{figures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_dies_leaves_everything_to_the_other() {
    crate::begin!(cluster, Cluster::start().await);
    let [first, second] = [
        registry(&cluster, "pair").await,
        registry(&cluster, "pair").await,
    ];
    first.register::<Endpoints>(endpoint(1, 1)).await.unwrap();
    let all = NetworkServiceEndpoint::default();
    let mut watch = second.watch::<Endpoints>(all.clone()).unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "nse-1");
    drop(first);
    second.register::<Endpoints>(endpoint(2, 1)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().item.name, "nse-2");
    assert_eq!(second.find::<Endpoints>(&all).len(), 2);
    // Nobody else takes a name over, at whatever registry.
    let mut foreign = endpoint(1, 1);
    foreign.path_ids = vec!["spiffe://nsm/other".to_owned()];
    assert!(second.register::<Endpoints>(foreign).await.is_err());
    // What one ends is ended at all.
    let third = registry(&cluster, "pair").await;
    third
        .unregister::<Endpoints>(&endpoint(1, 1))
        .await
        .unwrap();
    let event = watch.next().await.unwrap();
    assert!(event.deleted && event.item.name == "nse-1", "{event:?}");
}
