//! The Workload API from agent to client: attestation, rotation, removal, restarts, JWT SVIDs.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

mod common;

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nsm_identity::{
    IdentitySource, Workload, WorkloadError,
    ca::{EntrySource, WorkloadServer},
    client::request,
    tls::{self, Expect},
    workload::{
        JWTBundlesRequest, JWTSVIDRequest, ValidateJWTSVIDRequest, X509BundlesRequest,
        X509SVIDRequest,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use common::{Agent, HOUR, entry_for, id, own_uid};

const STARTUP: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_known_process_gets_its_identity() {
    let agent = Agent::new(&entry_for("app", own_uid()), HOUR);
    let workload = Workload::connect(&agent.address(), STARTUP).await.unwrap();
    let identity = workload.source().current();
    assert_eq!(identity.id(), &id("app"));
    assert_eq!(identity.bundles(), &agent.root.bundles());
    let left = identity.remaining(SystemTime::now());
    assert!(left <= HOUR + Duration::from_secs(1) && left > HOUR - Duration::from_secs(10));
    let (mut connected, _accepted) = connection(&workload.source(), &workload.source()).await;
    connected.write_all(b"x").await.unwrap();
}

#[tokio::test]
async fn every_selector_counts() {
    let exe = std::env::current_exe().unwrap();
    let inode = |name| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        link.to_string_lossy()
            .trim_end_matches(']')
            .split_once('[')
            .unwrap()
            .1
            .to_owned()
    };
    let (netns, pidns) = (inode("net"), inode("pid"));
    let all = format!(
        "uid: {}, exe: {}, netns: {netns}, pidns: {pidns}, pid: {}",
        own_uid(),
        exe.display(),
        std::process::id()
    );
    let agent = Agent::new(
        &format!("entries: [{{id: {}, selectors: {{{all}}}}}]", id("app")),
        HOUR,
    );
    Workload::connect(&agent.address(), STARTUP).await.unwrap();
    for wrong in [
        all.replace("uid: ", "uid: 4"),
        all.replace(&format!("{}", exe.display()), "/bin/other"),
        all.replace(&netns, "1"),
        all.replace(&format!("pidns: {pidns}"), "pidns: 1"),
        all.replace(&format!("pid: {}", std::process::id()), "pid: 1"),
    ] {
        assert_ne!(wrong, all);
        agent.set_entries(&format!(
            "entries: [{{id: {}, selectors: {{{wrong}}}}}]",
            id("app")
        ));
        let status = agent
            .raw()
            .await
            .fetch_x509_svid(request(X509SVIDRequest::default()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{wrong}");
    }
}

#[tokio::test]
async fn an_unknown_caller_gets_nothing() {
    let agent = Agent::new(&entry_for("app", own_uid() + 1), HOUR);
    let mut raw = agent.raw().await;
    let audience = vec!["a".to_owned()];
    let jwt = JWTSVIDRequest {
        audience,
        ..Default::default()
    };
    let answers = [
        raw.fetch_x509_svid(request(X509SVIDRequest::default()))
            .await
            .err(),
        raw.fetch_x509_bundles(request(X509BundlesRequest::default()))
            .await
            .err(),
        raw.fetch_jwt_svid(request(jwt)).await.err(),
        raw.fetch_jwt_bundles(request(JWTBundlesRequest::default()))
            .await
            .err(),
        raw.validate_jwt_svid(request(ValidateJWTSVIDRequest::default()))
            .await
            .err(),
    ];
    for status in answers {
        let status = status.expect("must be refused");
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "no identity issued")
        );
    }
    let begin = std::time::Instant::now();
    let error = Workload::connect(&agent.address(), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(
        matches!(&error, WorkloadError::Startup { last, .. } if matches!(**last, WorkloadError::Refused { .. }))
    );
    assert!(
        error
            .to_string()
            .contains("add an entry whose selectors match it"),
        "{error}"
    );

    let without_header = raw
        .fetch_x509_svid(X509SVIDRequest::default())
        .await
        .unwrap_err();
    assert_eq!(without_header.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_entry_that_comes_late_is_noticed_at_once() {
    let agent = Agent::new("entries: []", HOUR);
    let address = agent.address();
    let waiting = Workload::connect(&address, STARTUP);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        agent.set_entries(&entry_for("late", own_uid()));
    };
    let (workload, ()) = tokio::join!(waiting, late);
    assert_eq!(workload.unwrap().source().current().id(), &id("late"));
}

/// The two ends of a mutual TLS connection over TCP.
async fn connection(
    client: &IdentitySource,
    server: &IdentitySource,
) -> (
    tokio_rustls::client::TlsStream<TcpStream>,
    tokio_rustls::server::TlsStream<TcpStream>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor =
        tokio_rustls::TlsAcceptor::from(Arc::new(tls::server_config(server, Expect::Any).unwrap()));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(
        tls::client_config(client, Expect::Any).unwrap(),
    ));
    let accept = async {
        acceptor
            .accept(listener.accept().await.unwrap().0)
            .await
            .unwrap()
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        connector.connect(tls::server_name(), stream).await.unwrap()
    };
    tokio::join!(connect, accept)
}

#[tokio::test]
async fn rotation_drops_no_connection_and_new_ones_use_the_new_certificate() {
    let agent = Agent::new(&entry_for("app", own_uid()), Duration::from_secs(2));
    let workload = Workload::connect(&agent.address(), STARTUP).await.unwrap();
    let mut source = workload.source();
    let first = source.current();
    let (mut near, mut far) = connection(&source, &source).await;
    let mut seen = vec![first.leaf().clone()];
    while SystemTime::now() <= first.not_after() + Duration::from_secs(1) {
        let rotated = tokio::time::timeout(Duration::from_secs(3), source.changed())
            .await
            .unwrap();
        assert!(!seen.contains(rotated.leaf()));
        assert!(rotated.remaining(SystemTime::now()) > Duration::ZERO);
        seen.push(rotated.leaf().clone());
        near.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        far.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
    }
    assert!(seen.len() >= 3, "{} certificates", seen.len());
    let (_near, far) = connection(&source, &source).await;
    let peer = tls::peer(far.get_ref().1).unwrap();
    assert_eq!(&peer.leaf, source.current().leaf());
    assert_ne!(&peer.leaf, first.leaf());
}

#[tokio::test]
async fn a_removed_entry_ends_the_stream_and_the_identity_stays_until_it_expires() {
    let agent = Agent::new(&entry_for("app", own_uid()), HOUR);
    let workload = Workload::connect(&agent.address(), STARTUP).await.unwrap();
    let mut stream = agent
        .raw()
        .await
        .fetch_x509_svid(request(X509SVIDRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0].spiffe_id,
        id("app").as_str()
    );
    agent.set_entries("entries: []");
    let ended = tokio::time::timeout(Duration::from_secs(3), stream.message())
        .await
        .unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(workload.source().current().id(), &id("app"));

    // A changed entry gives a new identity to the same process.
    agent.set_entries(&entry_for("renamed", own_uid()));
    let mut source = workload.source();
    let renamed = tokio::time::timeout(Duration::from_secs(10), source.changed())
        .await
        .unwrap();
    assert_eq!(renamed.id(), &id("renamed"));
}

#[tokio::test]
async fn a_restarted_agent_is_found_again() {
    let mut agent = Agent::new(&entry_for("app", own_uid()), HOUR);
    let workload = Workload::connect(&agent.address(), STARTUP).await.unwrap();
    let mut source = workload.source();
    let first = source.current();
    let mut stream = agent
        .raw()
        .await
        .fetch_x509_svid(request(X509SVIDRequest::default()))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    agent.server = None;
    assert!(!agent.socket().exists(), "the socket is removed");
    let ended = tokio::time::timeout(Duration::from_secs(3), stream.message())
        .await
        .unwrap();
    assert!(
        !matches!(ended, Ok(Some(_))),
        "the stream must end with its server"
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        source.current().leaf(),
        first.leaf(),
        "the identity in hand is kept"
    );
    agent.start(HOUR);
    let second = tokio::time::timeout(Duration::from_secs(10), source.changed())
        .await
        .unwrap();
    assert_eq!(second.id(), first.id());
    assert_ne!(second.leaf(), first.leaf());
}

#[tokio::test]
async fn one_socket_one_agent_and_a_stale_socket_is_replaced() {
    let mut agent = Agent::new(&entry_for("app", own_uid()), HOUR);
    let entries = EntrySource::list(Vec::new(), &agent.node.trust_domain()).unwrap();
    let second = WorkloadServer::serve(agent.node.clone(), entries, &agent.socket(), HOUR);
    assert!(
        second
            .unwrap_err()
            .to_string()
            .contains("another agent answers")
    );
    agent.server = None;
    drop(std::os::unix::net::UnixListener::bind(agent.socket()).unwrap());
    assert!(agent.socket().exists());
    agent.start(HOUR);
    Workload::connect(&agent.address(), STARTUP).await.unwrap();
}
