//! Several replicas at one address: whichever lives is reached.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

mod support;

use std::time::{Duration, Instant};

use nsm_chain::Code;
use nsm_model::url::EndpointUrl;
use nsm_rpc::Server;
use support::{Caller, free_port, id, serve, soon};

fn place(url: &EndpointUrl) -> String {
    url.to_string().trim_start_matches("tcp://").to_owned()
}

#[tokio::test]
async fn a_replica_that_dies_is_passed_over_at_once() {
    let mut replicas = Vec::new();
    for name in ["registry-1", "registry-2"] {
        let server = serve(name, &[free_port()], Server::new()).await;
        replicas.push((id(name), server));
    }
    // One that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let places = [
        silent.local_addr().unwrap().to_string(),
        place(&replicas[0].1.addresses[0]),
        place(&replicas[1].1.addresses[0]),
    ];
    let list = EndpointUrl::parse(&format!("tcp://{}", places.join(",")));
    let caller = Caller::new("manager");
    while !replicas.is_empty() {
        let start = Instant::now();
        let peer = caller.pool.connect(&list, None, soon()).await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        let again = caller.pool.connect(&list, None, soon()).await.unwrap();
        assert!(peer.same(&again), "one connection to all");
        let serving = replicas.iter().position(|(id, _)| *id == peer.peer().id);
        drop(replicas.remove(serving.unwrap()));
        peer.closed().await;
    }
    let error = caller.pool.connect(&list, None, soon()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
}
