//! Measures a unary call over a pooled mutual-TLS unix socket, beside a handshake.
//!
//! `cargo run --release -p nsm-rpc --example unary`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool prints, and stops at the first fault"
)]

use std::time::{Duration, Instant};

use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{Chain, Tasks};
use nsm_identity::{IdentitySource, ca::Root};
use nsm_model::url::EndpointUrl;
use nsm_rpc::{Listener, Pool, Server, TokenSource, client};

const CALLS: usize = 20_000;
const HANDSHAKES: usize = 300;

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!(
        "{what:<32} p50 {:7.1} us   p99 {:7.1} us   ({} times)",
        at(50),
        at(99),
        times.len()
    );
}

// One thread: what is measured is the work of a call, not how threads wake one another.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let root = Root::generate("nsm.test".parse().unwrap()).unwrap();
    let identity = |name: &str| {
        let id = format!("spiffe://nsm.test/{name}").parse().unwrap();
        IdentitySource::fixed(root.issue(&id, Duration::from_secs(3_600)).unwrap())
    };
    let path = std::env::temp_dir().join(format!("nsm-unary-{}.sock", std::process::id()));
    let address = EndpointUrl::Unix(path.to_str().unwrap().to_owned());
    let listener = Listener::bind(std::slice::from_ref(&address))
        .await
        .unwrap();
    let (server, tasks) = (identity("manager"), Tasks::new());
    let routes = Server::new()
        .connections(Chain::new(Vec::new()))
        .routes()
        .await;
    tasks.spawn(async move {
        listener
            .serve(routes, &server, std::future::pending())
            .await
            .unwrap()
    });
    let client_source = identity("client");
    let tokens = TokenSource::new(client_source.clone());
    let deadline = || tokio::time::Instant::now() + Duration::from_secs(10);

    let mut times = Vec::new();
    for _ in 0..HANDSHAKES {
        let pool = Pool::new(client_source.clone(), tasks.clone());
        let began = Instant::now();
        pool.connect(&address, None, deadline()).await.unwrap();
        times.push(began.elapsed());
    }
    report("new connection", times);

    let pool = Pool::new(client_source, tasks.clone());
    let mut times = Vec::new();
    for number in 0..CALLS {
        let connection = Connection {
            id: number.to_string(),
            ..Connection::default()
        };
        let request = NetworkServiceRequest {
            connection: buffa::MessageField::some(connection),
            ..NetworkServiceRequest::default()
        };
        let began = Instant::now();
        let peer = pool.connect(&address, None, deadline()).await.unwrap();
        client::request(&peer, &tokens, request, deadline())
            .await
            .unwrap();
        times.push(began.elapsed());
    }
    report("Request over a pooled connection", times);
    tasks.shutdown(Duration::from_secs(1)).await;
}
